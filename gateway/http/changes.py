"""`_changes`: what a client asks (https://docs.couchdb.org/en/stable/api/database/changes.html)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, cast

from aiohttp import web

from gateway import limits
from gateway.errors import BadParameter, BadRequest, InvalidQuery, NotImplementedHere, TooLarge
from gateway.http import answers
from gateway.http.body import parse_json, read_body, require_json
from gateway.http.call import Call
from gateway.http.params import MISSING, Options
from gateway.http.streaming import stream_feed
from gateway.http.upstream_feed import is_ours, upstream_changes
from gateway.http.websocket import serve_websocket
from gateway.mango.fields import Path
from gateway.mango.query import parse_fields
from gateway.model.names import check_channel_name
from gateway.model.positions import parse_since
from gateway.queries import FROM_THE_BEGINNING, ChangesQuery, FeedKind

PARAMETERS = frozenset(
    {
        *("feed", "since", "last-event-id", "limit", "style", "include_docs", "conflicts", "attachments", "descending"),
        *("heartbeat", "timeout", "filter", "channels", "doc_ids", "active_only", "revocations", "seq_interval"),
        *("selector", "fields", "att_encoding_info"),
    }
)
_FEEDS: Final[Mapping[str, FeedKind]] = {
    "normal": "normal",
    "longpoll": "longpoll",
    "continuous": "continuous",
    "live": "continuous",
    "eventsource": "eventsource",
    "websocket": "websocket",  # Sync Gateway's
}
_FILTERS = ("sync_gateway/bychannel", "_doc_ids", "_selector", "_design")


async def changes(call: Call) -> web.StreamResponse:
    """What changed since a sequence, in the caller's channels; to administrators CouchDB's own feed."""
    data, body = b"", dict[str, Any]()
    if call.request.method == "POST":
        require_json(call.request)
        data = await read_body(call.request)
        body = await _object(data) if data.strip() else body
    # CouchDB does not mind the case of these names.
    given = {name.lower(): value for name, value in call.query.items()}
    if call.caller.is_admin and not is_ours(given, body):
        return await upstream_changes(call, given.get("feed", "normal"), data or None)
    feed = given.get("feed", body.get("feed"))
    _resume(given, call.header("Last-Event-ID") if feed == "eventsource" else None)
    if feed == "websocket":
        return await serve_websocket(call, lambda options: _query(call, Options(given, options)))
    query = await _query(call, Options(given, body))
    tag = None
    if query.feed == "normal":
        tag = call.database.changes_tag(call.caller)
        if (unchanged := answers.not_modified(call.request, tag)) is not None:
            return unchanged
    return await stream_feed(call, call.database.changes(call.caller, query), query.feed, tag)


async def _object(data: bytes) -> dict[str, Any]:
    value = await parse_json(data)
    if not isinstance(value, dict):
        raise BadRequest("Request body must be a JSON object")
    return value


def _resume(given: dict[str, str], header: str | None) -> None:
    """`last-event-id` is another name of `since`, and the later of them counts. A browser that comes back sends it as a
    header, while the URL still has the `since` that it began with."""
    names = [name for name in given if name in ("since", "last-event-id")]
    if header is not None:
        given["since"] = header
    elif names:
        given["since"] = given[names[-1]]


async def _query(call: Call, options: Options) -> ChangesQuery:
    """The options, with a selector that can be answered to this caller. Raises what `parse` raises."""
    query = parse(options)
    if query.selector is not None:
        try:
            await call.database.check_selector(query.selector)
        except InvalidQuery as error:
            raise BadRequest(error.reason) from None  # without a name of its own, as CouchDB does here
    if query.doc_ids is None and options.text("filter") == "_design":
        query = replace(query, doc_ids=())  # design documents are not routed, and users have none: nothing passes
    return query


def parse(options: Options) -> ChangesQuery:
    """The options of `_changes`. Raises BadParameter, BadRequest, NotImplementedHere, TooLarge."""
    feed = options.text("feed") or "normal"
    if feed not in _FEEDS:
        raise BadRequest("Supported `feed` types: normal, continuous, live, longpoll, eventsource")
    since = options.raw("since")
    limit = options.integer("limit")
    style = options.text("style") or "main_only"
    if style not in ("main_only", "all_docs"):
        raise options.bad("style", "main_only or all_docs")
    if "seq_interval" in options:
        _positive(options, "seq_interval", "invalid_seq_interval")  # each row has its sequence: here it costs nothing
    channels, doc_ids = _filter(options)
    selector, fields = _selector(options) if options.text("filter") == "_selector" else (None, None)
    return ChangesQuery(
        feed=_FEEDS[feed],
        since=FROM_THE_BEGINNING if since is None else parse_since(since),
        limit=limit,
        style=cast(Literal["main_only", "all_docs"], style),
        include_docs=options.flag("include_docs"),
        conflicts=options.flag("conflicts"),
        attachments=options.flag("attachments"),
        att_encoding_info=options.flag("att_encoding_info"),
        active_only=options.flag("active_only"),
        descending=options.flag("descending"),
        revocations=options.flag("revocations"),
        channels=channels,
        doc_ids=doc_ids,
        selector=selector,
        fields=fields,
        heartbeat_s=_heartbeat(options),
        timeout_s=_timeout(options),
    )


def _heartbeat(options: Options) -> float | None:
    value = options.raw("heartbeat")
    if value is None or value is False or value == "false":
        return None
    if value is True or value == "true":
        return limits.HEARTBEAT_DEFAULT_SECONDS
    milliseconds = _positive(
        options, "heartbeat", "The heartbeat value should be a positive integer (in milliseconds)."
    )
    return max(milliseconds / 1000, limits.HEARTBEAT_MIN_SECONDS)


def _positive(options: Options, name: str, otherwise: str) -> int:
    """CouchDB calls these a bad request, in words of their own."""
    try:
        return options.integer(name, least=1) or 1
    except BadParameter:
        raise BadRequest(otherwise) from None


def _timeout(options: Options) -> float:
    milliseconds = options.integer("timeout")
    if milliseconds is None:
        return limits.FEED_TIMEOUT_DEFAULT_SECONDS
    return min(milliseconds / 1000, limits.FEED_TIMEOUT_MAX_SECONDS)


def _filter(options: Options) -> tuple[Sequence[str] | None, Sequence[str] | None]:
    name = options.text("filter")
    if not name:
        return None, None
    if name == "sync_gateway/bychannel":
        return _channels(options), None
    if name == "_doc_ids":
        return None, _doc_ids(options)
    if name in ("_selector", "_design"):
        return None, None
    if name == "_view" or (not name.startswith("_") and name.count("/") == 1):
        raise NotImplementedHere(
            f"filter functions of design documents are not run here: {name[:100]!r}; there are {', '.join(_FILTERS)}"
        )
    if name.startswith("_"):
        raise BadRequest("unknown builtin filter name")
    raise BadRequest("`filter` must be of the form `designname/filtername`")


def _selector(options: Options) -> tuple[Mapping[str, Any], Sequence[Path] | None]:
    """The selector, whose conditions are checked elsewhere, and the fields. CouchDB takes them from POST only."""
    given = options.json("selector")
    if given is MISSING:
        raise BadRequest("Selector must be specified in POST payload")
    if not isinstance(given, dict):
        raise BadRequest("Selector error: expected a JSON object")
    fields = options.json("fields")
    if fields is MISSING:
        return given, None
    if not isinstance(fields, list):
        raise BadRequest("Selector error: fields must be JSON array")
    try:
        return given, parse_fields(fields)
    except InvalidQuery as error:
        raise BadRequest(error.reason) from None


def _channels(options: Options) -> Sequence[str]:
    value = options.raw("channels")
    if isinstance(value, str):
        value = value.split(",")
    if value is None or value in ([], [""]):
        raise BadRequest("Missing 'channels' filter parameter")
    if not isinstance(value, list):
        raise options.bad("channels", "names separated by commas, or an array of names")
    if len(value) > limits.KEYS_COUNT:
        raise TooLarge(f"`channels` holds more than {limits.KEYS_COUNT} names (limit KEYS_COUNT)")
    return [check_channel_name(name) for name in value]


def _doc_ids(options: Options) -> Sequence[str]:
    value = options.json("doc_ids")
    if not isinstance(value, list) or not all(isinstance(doc_id, str) for doc_id in value):
        raise BadRequest("`doc_ids` filter parameter is not a list of doc ids.")
    if len(value) > limits.KEYS_COUNT:
        raise TooLarge(f"`doc_ids` holds more than {limits.KEYS_COUNT} ids (limit KEYS_COUNT)")
    return value
