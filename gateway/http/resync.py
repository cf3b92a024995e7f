"""`/{db}/_resync`: routing every document again by another sync function, with a preview. On the admin port."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from gateway import limits
from gateway.errors import BadParameter, BadRequest
from gateway.http.answers import answer
from gateway.http.body import parse_json, read_body
from gateway.http.call import Call
from gateway.http.params import MISSING, Options, only
from gateway.queries import ResyncKind, ResyncStart

POST_PARAMETERS: Final = frozenset({"action", "preview", "version", "accept_failures", "accept_deletions"})
DOCUMENTS_PARAMETERS: Final = frozenset({"kind", "channel", "startkey", "limit"})
LIST_PARAMETERS: Final = frozenset({"startkey", "limit"})
_KNOWN: Final = (*sorted(POST_PARAMETERS), "sync")
_KINDS: Final[tuple[ResyncKind, ...]] = ("changed", "entered", "expiring", "failed", "left", "refused")


async def get(call: Call) -> web.StreamResponse:
    """How far routing all documents by another sync function has come, or what came of it, as counts."""
    return answer(200, await call.database.resync.status())


async def post(call: Call) -> web.StreamResponse:
    """Route all documents again, by the wanted version of the sync function or another; or only preview it; or stop."""
    only(call.query, POST_PARAMETERS)  # `previev=true` must not change what everybody reads
    options = Options(call.query, await _body(call))
    action = options.text("action")
    if action not in (None, "start", "stop"):
        raise options.bad("action", "start or stop")
    asked = ResyncStart(
        preview=options.flag("preview"),
        version=options.integer("version", least=1),
        source=options.text("sync"),
        accept_failures=options.flag("accept_failures"),
        accept_deletions=options.flag("accept_deletions"),
    )
    if action == "stop":
        if asked != ResyncStart():
            raise BadRequest("nothing else goes with stop")
        await call.database.resync.stop()
    else:
        if asked.version is not None and asked.source is not None:
            raise BadRequest("either a version or a function is given, not both")
        await call.database.resync.start(asked)
    return answer(200, await call.database.resync.status())


async def documents(call: Call) -> web.StreamResponse:
    """Documents that enter or leave channels, change, are refused by the other function, make it fail, or expire."""
    asked, channel = call.options.text("kind"), call.options.text("channel")
    kind = next((kind for kind in _KINDS if asked in (None, kind)), None)
    if kind is None:
        raise call.options.bad("kind", f"one of {', '.join(_KINDS)}")
    if channel is not None and kind not in ("entered", "left"):
        raise BadParameter("`channel` goes with the kinds entered and left")
    found = await call.database.resync.documents(kind, channel, _number(call), _limit(call))
    return answer(200, found)


async def channels(call: Call) -> web.StreamResponse:
    """The channels that documents enter or leave by the other function, with how many."""
    start = call.options.json("startkey")
    if start is not MISSING and not isinstance(start, str):
        raise call.options.bad("startkey", "a JSON string")
    return answer(200, await call.database.resync.channels("" if start is MISSING else start, _limit(call)))


async def access(call: Call) -> web.StreamResponse:
    """What users and roles gain and lose by the other function."""
    return answer(200, await call.database.resync.access(_number(call), _limit(call)))


async def _body(call: Call) -> dict[str, Any]:
    content = await read_body(call.request, limits.SYNC_FUNCTION_SOURCE_BYTES * 2, "SYNC_FUNCTION_SOURCE_BYTES")
    if not content.strip():
        return {}
    value = await parse_json(content)
    if not isinstance(value, dict):
        raise BadRequest("Request body must be a JSON object")
    if unknown := sorted(set(value) - set(_KNOWN)):
        raise BadRequest(f"{unknown[0]!r} is not known; the body has {', '.join(_KNOWN)}")
    return value


def _number(call: Call) -> int:
    return call.options.integer("startkey") or 0


def _limit(call: Call) -> int:
    limit = call.options.integer("limit", least=1)
    if limit is None:
        return limits.RESYNC_ROWS_DEFAULT_COUNT
    if limit > limits.RESYNC_ROWS_COUNT:
        raise BadParameter(f"`limit` is at most {limits.RESYNC_ROWS_COUNT} (limit RESYNC_ROWS_COUNT)")
    return limit
