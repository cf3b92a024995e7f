"""Why can she see this? Explanations and lists of access, on the admin port."""

from __future__ import annotations

from aiohttp import web

from gateway import limits
from gateway.errors import BadParameter
from gateway.http.answers import answer
from gateway.http.call import Call
from gateway.http.params import MISSING, rev_of

ACCESS_PARAMETERS = frozenset({"user", "doc", "rev", "startkey", "since", "limit"})
CHANNELS_PARAMETERS = frozenset({"prefix", "startkey", "limit"})
CHANNEL_PARAMETERS = frozenset({"startkey", "limit"})


async def access(call: Call) -> web.StreamResponse:
    """Why a `user` can or cannot read a `doc`; of one alone who can read it, or what the user can read."""
    explaining = call.database.explaining
    user, doc = _named(call, "user"), _named(call, "doc")
    if user is not None and doc is not None:
        rev = call.options.text("rev")
        return answer(200, await explaining.explain(user, doc, None if rev is None else rev_of(rev)))
    start, limit = _start(call), _limit(call)
    if doc is not None:
        return answer(200, await explaining.readers(doc, start, limit))
    if user is not None:
        since = call.options.integer("since") or 0
        return answer(200, await explaining.documents(user, start=start, since=since, limit=limit))
    raise BadParameter("`user`, `doc` or both must be given")


async def channels(call: Call) -> web.StreamResponse:
    """The channels by name, with how many documents are in each and how many users have it."""
    prefix = call.query.get("prefix", "")
    return answer(200, await call.database.explaining.channels(prefix, _start(call), _limit(call)))


async def channel(call: Call) -> web.StreamResponse:
    """Who has a channel, and from whom: roles, then users."""
    return answer(200, await call.database.explaining.channel(call.values["channel"], _start(call), _limit(call)))


def _named(call: Call, option: str) -> str | None:
    value = call.options.text(option)
    if value == "":
        raise BadParameter(f"`{option}` must not be empty")
    return value


def _start(call: Call) -> str:
    value = call.options.json("startkey")
    if value is MISSING:
        return ""
    if not isinstance(value, str):
        raise call.options.bad("startkey", "a JSON string")
    return value


def _limit(call: Call) -> int:
    limit = call.options.integer("limit", least=1)
    if limit is None:
        return limits.EXPLAIN_ROWS_DEFAULT_COUNT
    if limit > limits.EXPLAIN_ROWS_COUNT:
        raise BadParameter(f"`limit` is at most {limits.EXPLAIN_ROWS_COUNT} (limit EXPLAIN_ROWS_COUNT)")
    return limit
