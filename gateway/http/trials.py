"""Trying out a sync function."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from gateway.errors import BadRequest
from gateway.http.answers import answer
from gateway.http.body import read_json_object
from gateway.http.call import Call
from gateway.queries import Trial

_KNOWN: Final = ("doc", "old_doc", "user", "function")


async def try_sync_function(call: Call) -> web.StreamResponse:
    """What the sync function, or one in the body, says about a document; nothing is stored."""
    body = await read_json_object(call.request)
    if unknown := sorted(set(body) - set(_KNOWN)):
        raise BadRequest(f"{unknown[0]!r} is not known; the body has {', '.join(_KNOWN)}")
    doc = _document(body.get("doc"), "doc")
    old_doc = None if body.get("old_doc") is None else _document(body["old_doc"], "old_doc")
    function = body.get("function")
    if function is not None and not isinstance(function, str):
        raise BadRequest("function must be the source of a sync function, as a string")
    trial = Trial({"_id": "doc", **doc}, old_doc, body.get("user"), function)
    return answer(200, await call.database.try_sync_function(trial))


def _document(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest(f"{name} must be a document, a JSON object")
    if not isinstance(value.get("_id", ""), str) or not isinstance(value.get("_deleted", False), bool):
        raise BadRequest(f"{name} must have a string as _id and a boolean as _deleted, if it has them")
    return value
