"""Who makes a request."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from gateway.auth.basic import BasicCredentials, is_login, parse_basic
from gateway.auth.local import check_local_request
from gateway.auth.sessions import Session
from gateway.callers import Caller, administrator
from gateway.database import Database
from gateway.errors import Forbidden, InvalidLogin, SessionOver, Unauthorized, UnknownDatabase
from gateway.http.call import Gate
from gateway.http.cookies import check_cookie_may_count, session_token
from gateway.model.names import GUEST

_NO_MEMBER: Final = "You are not allowed to access this db."  # CouchDB's words


async def admit_admin(gate: Gate, request: web.BaseRequest) -> Caller:
    """The administrator at the admin port, or where admins are let in.

    Without admins in the config file the admin port trusts this machine, except what a web page could have sent.
    Raises Unauthorized, InvalidLogin, SessionOver, Forbidden, UnsupportedMedia.
    """
    if not gate.admins:
        check_local_request(request.headers)
        return administrator()
    credentials = parse_basic(request.headers.get("Authorization"))
    if credentials is None:
        session = await find_session(gate, request)
        if session is None:
            raise Unauthorized
        if not session.admin:
            raise Unauthorized("You are not a server admin.")
        return administrator(session.name, session)
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
    """The database `name` and who asks for it at the public port. `Authorization` wins over a session cookie.

    A database that does not exist refuses like one where the login is wrong, or, to a user of the server, like one
    that does not have him. Raises Unauthorized, InvalidLogin, SessionOver, Forbidden, UnsupportedMedia, and
    UnknownDatabase for an admin who is let in.
    """
    credentials = parse_basic(request.headers.get("Authorization"))
    if credentials is not None and await is_admin(gate, credentials):
        return admin_database(gate, name), administrator(credentials.name)
    database = gate.databases.get(name)
    if credentials is None:
        session = await find_session(gate, request)
        if session is not None and session.admin:
            return admin_database(gate, name), administrator(session.name, session)
        if session is not None and name in session.logins:
            if database is None:
                raise SessionOver
            return database, await database.resume(session)
        if session is not None and session.password_hash is not None:
            return await _admit_memberless(gate, session, database)
        # A browser sends its cookie to every database, so in one where the session is nobody it is like no cookie.
        if database is None:
            raise Unauthorized
        return database, await database.guest()
    try:
        if database is None:
            await gate.databases.refuse_login(credentials.name, credentials.password)
            raise InvalidLogin
        return database, await database.login(credentials.name, credentials.password)
    except InvalidLogin:
        if is_login(credentials.name, credentials.password) and await gate.catalogue.users.login(
            credentials.name, credentials.password
        ):
            raise Forbidden(_NO_MEMBER) from None
        raise


async def _admit_memberless(gate: Gate, session: Session, database: Database | None) -> tuple[Database, Caller]:
    """A user of the server who is of no database is the guest, where there is one. Raises SessionOver, Forbidden."""
    if session.password_hash is None or not await gate.catalogue.users.resume(session.name, session.password_hash):
        raise SessionOver
    try:
        if database is not None:
            return database, await database.guest()
    except Unauthorized:
        pass
    raise Forbidden(_NO_MEMBER)


async def admit_own(gate: Gate, request: web.BaseRequest) -> Caller:
    """Who asks for a document of `_users` where sign-up is on: an administrator who is let in, the user of the server
    who is logged in, or the guest for nobody.

    Raises InvalidLogin, SessionOver, Forbidden, UnsupportedMedia.
    """
    credentials = parse_basic(request.headers.get("Authorization"))
    if credentials is not None:
        if await is_admin(gate, credentials):
            return administrator(credentials.name)
        known = is_login(credentials.name, credentials.password)
        if not known or await gate.catalogue.users.login(credentials.name, credentials.password) is None:
            raise InvalidLogin
        return Caller(credentials.name)
    session = await find_session(gate, request)
    if session is None:
        return Caller(GUEST)
    if session.admin:
        return administrator(session.name, session)
    given = session.password_hash or session.own_hash
    if given is None:
        return Caller(GUEST)  # a browser sends its cookie everywhere, also that of a database's own user
    if await gate.catalogue.users.resume(session.name, given) is None:
        raise SessionOver
    return Caller(session.name, session=session)


async def is_admin(gate: Gate, credentials: BasicCredentials) -> bool:
    """Whether these are an admin's, at a listener that lets admins in."""
    return (
        gate.allow_admins
        and credentials.name in gate.admin_names
        and await gate.admins.check(credentials.name, credentials.password)
    )


async def find_session(gate: Gate, request: web.BaseRequest) -> Session | None:
    """The session of the request's cookie; None when it has none.

    Raises SessionOver for a cookie that is no session here, or not any more: its client must log in again, and never
    be served as the guest. Raises Forbidden and UnsupportedMedia for what a web page elsewhere may have caused.
    """
    token = session_token(request.headers)
    if token is None:
        return None
    check_cookie_may_count(request, trusted=gate.trusts(request))
    session = await gate.sessions.find(token)
    if session is None or (session.admin and not (gate.allow_admins or gate.name == "admin")):
        raise SessionOver
    return session
