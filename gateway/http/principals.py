"""Users and roles, as Sync Gateway's admin API has them (reference/sync-gateway-behaviour.md section 1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.errors import BadParameter
from gateway.http.answers import answer
from gateway.http.body import read_json, read_json_object
from gateway.http.call import Call, Handler
from gateway.http.dispatch import WrongMethod
from gateway.model.names import GUEST

LIST_PARAMETERS = frozenset({"name_only", "limit"})


async def _list(call: Call, kind: str) -> web.StreamResponse:
    name_only = call.options.flag("name_only", True)
    limit = call.options.integer("limit", least=1)
    if limit is not None and name_only:
        raise BadParameter("`limit` needs name_only=false")
    return answer(200, await call.database.list_principals(kind, name_only=name_only, limit=limit))


async def _get(call: Call, kind: str) -> web.StreamResponse:
    return answer(200, await call.database.get_principal(kind, call.values["name"]))


async def _post(call: Call, kind: str) -> web.StreamResponse:
    body = await read_json_object(call.request)
    await call.database.put_principal(kind, None, body, must_be_new=True)
    return answer(201, {"ok": True})


async def _put(call: Call, kind: str) -> web.StreamResponse:
    body = await read_json(call.request, check_type=False)
    created = await call.database.put_principal(kind, call.values["name"], body, must_be_new=False)
    return answer(201 if created else 200, {"ok": True})


async def _delete(call: Call, kind: str) -> web.StreamResponse:
    if kind == "user" and call.values["name"] == GUEST:
        raise WrongMethod(("GET", "HEAD", "PUT"))
    await call.database.delete_principal(kind, call.values["name"])
    return answer(200, {"ok": True})


def _of(kind: str, what: Callable[[Call, str], Awaitable[web.StreamResponse]], summary: str) -> Handler:
    async def handler(call: Call) -> web.StreamResponse:
        return await what(call, kind)

    handler.__doc__ = summary
    return handler


list_users = _of("user", _list, "The names of the users; with `name_only=false` objects.")
get_user = _of("user", _get, "A user with computed channels and roles; never a password.")
post_user = _of("user", _post, "Create a user; 409 if there is one.")
put_user = _of("user", _put, "Create a user (201), or change what the body names (200).")
delete_user = _of("user", _delete, "Delete a user. The guest can only be disabled.")
list_roles = _of("role", _list, "The names of the roles.")
get_role = _of("role", _get, "A role with its channels.")
post_role = _of("role", _post, "Create a role; 409 if there is one.")
put_role = _of("role", _put, "Create a role (201), or change what the body names (200).")
delete_role = _of("role", _delete, "Delete a role; its members lose its channels.")
