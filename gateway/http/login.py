"""Who makes a request."""

from __future__ import annotations

from aiohttp import web

from gateway.auth.basic import BasicCredentials, parse_basic
from gateway.auth.local import check_local_request
from gateway.callers import Caller, administrator
from gateway.database import Database
from gateway.errors import InvalidLogin, Unauthorized, UnknownDatabase
from gateway.http.call import Gate


async def admit_admin(gate: Gate, request: web.BaseRequest) -> Caller:
    """The administrator at the admin port, or where admins are let in.

    Without admins in the config file the admin port trusts this machine, except what a web page could have sent.
    Raises Unauthorized, InvalidLogin, Forbidden.
    """
    if not gate.admins:
        check_local_request(request.headers)
        return administrator()
    credentials = parse_basic(request.headers.get("Authorization"))
    if credentials is None:
        raise Unauthorized
    if not await gate.admins.check(credentials.name, credentials.password):
        raise InvalidLogin
    return administrator(credentials.name)


def admin_database(gate: Gate, name: str) -> Database:
    """Raises UnknownDatabase, which administrators may know."""
    database = gate.databases.get(name)
    if database is None:
        raise UnknownDatabase
    return database


async def admit_user(gate: Gate, request: web.BaseRequest, name: str) -> tuple[Database, Caller]:
    """The database `name` and who asks for it at the public port.

    A database that does not exist refuses like one where the login is wrong. Raises Unauthorized, InvalidLogin, and
    UnknownDatabase for an admin who is let in.
    """
    credentials = parse_basic(request.headers.get("Authorization"))
    if credentials is not None and await is_admin(gate, credentials):
        return admin_database(gate, name), administrator(credentials.name)
    database = gate.databases.get(name)
    if credentials is None:
        if database is None:
            raise Unauthorized
        return database, await database.guest()
    if database is None:
        await gate.databases.refuse_login(credentials.name, credentials.password)
        raise InvalidLogin
    return database, await database.login(credentials.name, credentials.password)


async def is_admin(gate: Gate, credentials: BasicCredentials) -> bool:
    """Whether these are an admin's, at a listener that lets admins in."""
    return (
        gate.allow_admins
        and credentials.name in gate.admin_names
        and await gate.admins.check(credentials.name, credentials.password)
    )
