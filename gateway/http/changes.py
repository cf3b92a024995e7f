"""`_changes`: what a client asks (https://docs.couchdb.org/en/stable/api/database/changes.html)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from aiohttp import web

from gateway import limits
from gateway.errors import BadRequest, InvalidQuery, NotImplementedHere, TooLarge
from gateway.http.body import read_json_object, require_json
from gateway.http.call import Call
from gateway.http.params import MISSING, Options
from gateway.http.streaming import stream_feed
from gateway.mango.fields import Path
from gateway.mango.query import parse_fields
from gateway.model.names import check_channel_name
from gateway.model.positions import parse_since
from gateway.queries import FROM_THE_BEGINNING, ChangesQuery

PARAMETERS = frozenset(
    {
        *("feed", "since", "limit", "style", "include_docs", "conflicts", "attachments", "descending"),
        *("heartbeat", "timeout", "filter", "channels", "doc_ids", "active_only", "revocations", "seq_interval"),
        *("selector", "fields"),
    }
)
_FEEDS = {"normal": "normal", "longpoll": "longpoll", "continuous": "continuous", "live": "continuous"}
_FILTERS = ("sync_gateway/bychannel", "_doc_ids", "_selector", "_design")


async def changes(call: Call) -> web.StreamResponse:
    """What changed since a sequence, in the caller's channels."""
    body: Mapping[str, Any] = {}
    if call.request.method == "POST":
        require_json(call.request)
        if call.request.can_read_body:
            body = await read_json_object(call.request)
    # CouchDB does not mind the case of these names.
    options = Options({name.lower(): value for name, value in call.query.items()}, body)
    query = parse(options)
    if query.selector is not None:
        try:
            await call.database.check_selector(query.selector)
        except InvalidQuery as error:
            raise BadRequest(error.reason) from None  # without a name of its own, as CouchDB does here
    if query.doc_ids is None and options.text("filter") == "_design":
        query = _only_design(call, query)
    return await stream_feed(call, call.database.changes(call.caller, query), query.feed)


def parse(options: Options) -> ChangesQuery:
    """The options of `_changes`. Raises BadParameter, BadRequest, NotImplementedHere, TooLarge."""
    feed = options.text("feed") or "normal"
    if feed not in _FEEDS:
        raise BadRequest(f"Supported `feed` types: {', '.join(_FEEDS)}")
    since = options.raw("since")
    limit = options.integer("limit")
    style = options.text("style") or "main_only"
    if style not in ("main_only", "all_docs"):
        raise options.bad("style", "main_only or all_docs")
    if "seq_interval" in options:
        options.integer("seq_interval", least=1)
    channels, doc_ids = _filter(options)
    selector, fields = _selector(options) if options.text("filter") == "_selector" else (None, None)
    return ChangesQuery(
        feed=cast(Literal["normal", "longpoll", "continuous"], _FEEDS[feed]),
        since=FROM_THE_BEGINNING if since is None else parse_since(since),
        limit=None if limit is None else max(limit, 1),  # 0 is 1, says CouchDB
        style=cast(Literal["main_only", "all_docs"], style),
        include_docs=options.flag("include_docs"),
        conflicts=options.flag("conflicts"),
        attachments=options.flag("attachments"),
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
    milliseconds = options.integer("heartbeat", least=1) or 1
    return max(milliseconds / 1000, limits.HEARTBEAT_MIN_SECONDS)


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


def _only_design(call: Call, query: ChangesQuery) -> ChangesQuery:
    """Design documents are not routed, and users have none: nothing passes. An administrator is told so."""
    if call.caller.is_admin:
        raise NotImplementedHere("design documents are in no feed of the gateway; GET _design_docs lists them")
    return replace(query, doc_ids=())


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
    if value is MISSING:
        raise BadRequest("Missing 'doc_ids' filter parameter")
    if not isinstance(value, list) or not all(isinstance(doc_id, str) for doc_id in value):
        raise options.bad("doc_ids", "an array of document ids")
    if len(value) > limits.KEYS_COUNT:
        raise TooLarge(f"`doc_ids` holds more than {limits.KEYS_COUNT} ids (limit KEYS_COUNT)")
    return value
