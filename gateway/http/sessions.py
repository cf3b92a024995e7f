"""`_session`: logging in with CouchDB's cookie, saying who one is, logging out.

https://docs.couchdb.org/en/stable/api/server/authn.html; below a database as Sync Gateway has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web

from gateway import limits
from gateway.auth.basic import BasicCredentials, is_login, parse_basic
from gateway.auth.sessions import Session
from gateway.callers import Caller, ServerLogin, administrator
from gateway.database import Database
from gateway.errors import BadParameter, BadRequest, InvalidLogin, NotFound, SessionOver, Unauthorized, UnsupportedMedia
from gateway.http import cookies
from gateway.http.answers import answer
from gateway.http.body import parse_json, read_body, read_json_object
from gateway.http.call import Call
from gateway.http.login import admin_database, admit_admin, admit_user, find_session, is_admin
from gateway.http.params import parse_query
from gateway.model.names import GUEST

REDIRECTS: Final = frozenset({"next", "fail"})
WHO: Final = frozenset({"basic"})
_HANDLERS: Final = ("cookie", "default")
_PATH: Final = re.compile(r"/(?![/\\])[^\x00-\x20\x7f\\]*\Z")
_WRONG: Final = "Name or password is incorrect."  # CouchDB's words
_ADMIN_ROLES: Final = ["_admin"]

Logins = list[tuple[Database, Caller]]


# Who one is


async def session(call: Call) -> web.StreamResponse:
    """Who is logged in: an administrator, or the user of one database or several; nobody is no error."""
    name, roles, how = await _who(call)
    if name is None and not roles and call.query.get("basic") == "true":
        raise Unauthorized("Please login.")
    return answer(200, _info(name, roles, how))


async def _who(call: Call) -> tuple[str | None, list[str], str | None]:
    """Name, roles, and by which of CouchDB's handlers. Raises InvalidLogin for a wrong `Authorization`."""
    gate = call.gate
    if gate.name == "admin" and not gate.admins:
        await admit_admin(gate, call.request)
        return None, _ADMIN_ROLES, "default"
    credentials = parse_basic(call.header("Authorization"))
    if credentials is not None:
        if await _is_admin_here(call, credentials):
            return credentials.name, _ADMIN_ROLES, "default"
        logins = [] if gate.name == "admin" else await gate.databases.login(credentials.name, credentials.password)
        if not logins:
            user = await _server_user(call, credentials)
            if user is None:
                raise InvalidLogin
            return user.name, list(user.roles), "default"
        return credentials.name, await _roles(logins), "default"
    try:
        found = await find_session(gate, call.request)
    except SessionOver:
        found = None
    if found is None or (gate.name == "admin" and not found.admin):
        return None, [], None
    call.session = found
    if found.admin:
        return found.name, _ADMIN_ROLES, "cookie"
    if found.password_hash is not None:
        user = await gate.catalogue.users.resume(found.name, found.password_hash)
        return (user.name, list(user.roles), "cookie") if user is not None else (None, [], None)
    logins = await _resumed(call, found)
    return (found.name, await _roles(logins), "cookie") if logins else (None, [], None)


async def _server_user(call: Call, credentials: BasicCredentials) -> ServerLogin | None:
    """Who can log in although no database has him."""
    if call.gate.name == "admin" or not is_login(credentials.name, credentials.password):
        return None
    return await call.catalogue.users.login(credentials.name, credentials.password)


async def _resumed(call: Call, found: Session) -> Logins:
    """The databases in which a session holds."""
    logins: Logins = []
    for name in found.logins:
        database = call.gate.databases.get(name)
        if database is not None:
            try:
                logins.append((database, await database.resume(found)))
            except SessionOver:
                continue
    return logins


async def _is_admin_here(call: Call, credentials: BasicCredentials) -> bool:
    gate = call.gate
    if gate.name == "admin":
        return bool(gate.admins) and await gate.admins.check(credentials.name, credentials.password)
    return await is_admin(gate, credentials)


async def _roles(logins: Logins) -> list[str]:
    roles: set[str] = set()
    for database, caller in logins:
        roles.update((await database.session(caller))["userCtx"]["roles"])
    return sorted(roles)


def _info(name: str | None, roles: list[str], how: str | None) -> dict[str, Any]:
    info: dict[str, Any] = {"authentication_handlers": _HANDLERS}
    if how is not None:
        info["authenticated"] = how
    return {"ok": True, "userCtx": {"name": name, "roles": roles}, "info": info}


async def database_session(call: Call) -> web.StreamResponse:
    """Who is logged in to this database, and with which channels; nobody is no error.

    Without a login, a database that has no guest, and one that does not exist, say the same.
    """
    if call.gate.name == "admin":
        caller = await admit_admin(call.gate, call.request)
        call.admit(admin_database(call.gate, call.values["db"]), caller)
        return answer(200, await call.database.session(call.caller))
    try:
        call.admit(*await admit_user(call.gate, call.request, call.values["db"]))
    except InvalidLogin:
        raise
    except Unauthorized:
        nobody = _info(None, [], None)
        nobody["userCtx"]["channels"] = {}
        return answer(200, nobody)
    return answer(200, await call.database.session(call.caller))


# Logging in


async def log_in(call: Call) -> web.StreamResponse:
    """Log in with name and password, JSON or a form, to every database that has this user; answers CouchDB's cookie."""
    gate = call.gate
    if gate.name == "admin" and not gate.admins:
        # 404 is what makes CouchDB's replicator go on with Basic.
        raise NotFound("this port asks for no login")
    after, failed = _redirects(call)
    credentials = await _credentials(call)
    logins: Logins = []
    if is_login(credentials.name, credentials.password):
        if await _is_admin_here(call, credentials):
            token, made = gate.sessions.create_admin(credentials.name)
            return _logged_in(call, token, made, _ADMIN_ROLES, after)
        if gate.name != "admin":
            logins = await gate.databases.login(credentials.name, credentials.password)
    if not logins:
        user = await _server_user(call, credentials)
        if user is None:
            return _refused(call, failed)
        token, made = gate.sessions.create_memberless(user.name, user.password_hash)
        return _logged_in(call, token, made, list(user.roles), after)
    holds = {database.name: caller.login_seq or 0 for database, caller in logins}
    token, made = await gate.sessions.create(credentials.name, holds)
    if call.catalogue.sign_up is not None and (user := await _server_user(call, credentials)) is not None:
        made.own_hash = user.password_hash
    return _logged_in(call, token, made, await _roles(logins), after)


def _logged_in(call: Call, token: str, made: Session, roles: list[str], after: str | None) -> web.StreamResponse:
    headers = {"Set-Cookie": cookies.set_cookie(call.request, call.gate.cookie_form, made, token)}
    return _go(call, 200, {"ok": True, "name": made.name, "roles": roles}, headers, after)


def _refused(call: Call, failed: str | None) -> web.StreamResponse:
    """Without a challenge: a browser would ask its user, and CouchDB's replicator would try the same once more."""
    headers = {"Set-Cookie": cookies.clear_cookie(call.request, call.gate.cookie_form)}
    return _go(call, 401, InvalidLogin(_WRONG).body(), headers, failed)


async def log_out(call: Call) -> web.StreamResponse:
    """Log out: the session ends, with its running feeds, and the cookie is taken away."""
    after, _ = _redirects(call)
    token = cookies.session_token(call.request.headers)
    if token is not None:
        cookies.check_page(call.request, trusted=call.gate.trusts(call.request))
        found = await call.gate.sessions.find(token)
        if found is not None:
            await call.gate.sessions.end(found)
    headers = {"Set-Cookie": cookies.clear_cookie(call.request, call.gate.cookie_form)}
    return _go(call, 200, {"ok": True}, headers, after)


def _redirects(call: Call) -> tuple[str | None, str | None]:
    """`next` and `fail`: paths of this server only, or anybody could make links that lead from here elsewhere."""
    for name in REDIRECTS:
        path = call.query.get(name)
        if path is not None and not _PATH.match(path):
            raise BadParameter(f"`{name}` must be a path that begins with one slash")
    return call.query.get("next"), call.query.get("fail")


def _go(call: Call, status: int, value: Any, headers: Mapping[str, str], path: str | None) -> web.StreamResponse:
    if path is None:
        return answer(status, value, headers)
    return answer(302, value, {**headers, "Location": quote(path, safe="/?#&=%:;,@!$'()*+~-._[]")})


async def _credentials(call: Call) -> BasicCredentials:
    """Name and password of the body. Raises BadRequest in CouchDB's words, BadJson, TooLarge, UnsupportedMedia;
    Forbidden for a page of another origin, which could log its visitor in as somebody else."""
    cookies.check_page(call.request, trusted=call.gate.trusts(call.request))
    kind = call.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    data = await read_body(call.request, limits.LOGIN_BODY_BYTES, "LOGIN_BODY_BYTES")
    form: Mapping[str, Any] = {}
    if kind == "application/json":
        value = await parse_json(data)
        if not isinstance(value, dict):
            raise BadRequest("Request body must be a JSON object")
        form = value
    elif kind == "application/x-www-form-urlencoded":
        try:
            form = parse_query(data.decode("utf-8"))
        except (UnicodeDecodeError, BadParameter):
            raise BadRequest("the form is malformed") from None
    else:
        raise UnsupportedMedia("Content-Type must be 'application/x-www-form-urlencoded' or 'application/json'")
    name, username, password = form.get("name"), form.get("username"), form.get("password", "")
    if name is None and username is None:
        raise BadRequest("request body must contain a username")
    if name is not None and username is not None and name != username:
        raise BadRequest("request body contains different usernames")
    name = username if name is None else name
    if not isinstance(name, str) or not isinstance(password, str):
        raise BadRequest("name and password must be strings")
    return BasicCredentials(name, password)


async def database_log_in(call: Call) -> web.StreamResponse:
    """Log in to this database alone; on the admin port make a session for a user, without the password."""
    if call.gate.name == "admin":
        caller = await admit_admin(call.gate, call.request)
        call.admit(admin_database(call.gate, call.values["db"]), caller)
        return await _session_for_user(call)
    credentials = parse_basic(call.header("Authorization"))
    if credentials is None or call.request.can_read_body:
        credentials = await _credentials(call)
    if is_login(credentials.name, credentials.password) and await _is_admin_here(call, credentials):
        call.admit(admin_database(call.gate, call.values["db"]), administrator(credentials.name))
        token, made = call.gate.sessions.create_admin(credentials.name)
        return await _logged_in_to(call, call.database, call.caller, token, made)
    database = call.gate.databases.get(call.values["db"])
    if database is None or not is_login(credentials.name, credentials.password):
        await call.gate.databases.refuse_login(credentials.name, credentials.password)
        return _refused(call, None)
    try:
        caller = await database.login(credentials.name, credentials.password)
    except InvalidLogin:
        return _refused(call, None)
    token, made = await call.gate.sessions.create(credentials.name, {database.name: caller.login_seq or 0})
    return await _logged_in_to(call, database, caller, token, made)


async def _logged_in_to(
    call: Call, database: Database, caller: Caller, token: str, made: Session
) -> web.StreamResponse:
    headers = {"Set-Cookie": cookies.set_cookie(call.request, call.gate.cookie_form, made, token)}
    return answer(200, await database.session(caller), headers)


# Administration


async def _session_for_user(call: Call) -> web.StreamResponse:
    body = await read_json_object(call.request)
    if unknown := sorted(body.keys() - {"name", "ttl"}):
        raise BadRequest(f"unknown members: {', '.join(unknown)}")
    name, ttl = body.get("name"), body.get("ttl", limits.SESSION_SECONDS_OF_ADMIN)
    if not isinstance(name, str) or not name or name == GUEST:
        raise BadRequest("name must be the name of a user")
    if type(ttl) is not int or not 1 <= ttl <= limits.SESSION_SECONDS_MAX:
        raise BadRequest(f"ttl must be a number of seconds from 1 to {limits.SESSION_SECONDS_MAX}")
    user = await call.database.without_password(name)
    token, made = await call.gate.sessions.create(name, {call.database.name: user.login_seq or 0}, ttl_s=ttl)
    expires = datetime.fromtimestamp(made.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return answer(200, {"session_id": token, "expires": expires, "cookie_name": cookies.NAME})


async def get_session(call: Call) -> web.StreamResponse:
    """A session of this database by its id: whose it is."""
    found = await _of_database(call)
    return answer(200, await call.database.session(await call.database.resume(found)))


async def delete_session(call: Call) -> web.StreamResponse:
    """End a session of this database by its id."""
    found = await _of_database(call)
    await call.gate.sessions.end_logins(call.database.name, found.name, cookies.token_of(call.values["id"]))
    return answer(200, {"ok": True})


async def _of_database(call: Call) -> Session:
    found = await call.gate.sessions.find(cookies.token_of(call.values["id"]))
    if found is None:
        raise NotFound
    try:
        await call.database.resume(found)
    except SessionOver:
        raise NotFound from None
    return found


async def delete_user_sessions(call: Call) -> web.StreamResponse:
    """End all sessions of a user, with their running feeds."""
    await call.database.get_principal("user", call.values["name"])
    await call.gate.sessions.end_logins(call.database.name, call.values["name"])
    return answer(200, {"ok": True})


async def delete_user_session(call: Call) -> web.StreamResponse:
    """End one session of a user by its id; 404 if it is not of this user."""
    if not await call.gate.sessions.end_logins(
        call.database.name, call.values["name"], cookies.token_of(call.values["id"])
    ):
        raise NotFound
    return answer(200, {"ok": True})
