"""The options of a view query, from a query string and a JSON body, with CouchDB's checks and words. Pure.

Sources: couch_mrview_http.erl (parse_params), couch_mrview_util.erl (validate_args),
https://docs.couchdb.org/en/stable/api/ddoc/views.html.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gateway import json_text, limits
from gateway.embedded.reading import PLAIN, DocOptions
from gateway.embedded.views.design import View
from gateway.errors import BadJson, BadParameter, BadRequest, TooLarge

_INTEGER = re.compile(r"[+-]?[0-9]{1,15}\Z")
EXACT: Final = -1  # the group level of `group=true`


class Unset:
    """A key that was not given, which null is."""


UNSET: Final = Unset()


@dataclass(frozen=True, slots=True)
class ViewQuery:
    """One query. The keys are JSON values or UNSET; `group_level` is None, EXACT or a number."""

    start: Any = UNSET
    start_id: str | None = None
    end: Any = UNSET
    end_id: str | None = None
    inclusive_end: bool = True
    keys: tuple[Any, ...] | None = None
    descending: bool = False
    skip: int = 0
    limit: int | None = None
    include_docs: bool = False
    conflicts: bool | None = None
    reduce: bool | None = None
    group: bool | None = None
    group_level: int | None = None
    update: str = "true"  # or false, lazy
    update_seq: bool = False
    sorted: bool = True
    attachments: bool = False
    att_encoding_info: bool = False
    reducing: bool = field(default=False)  # decided by `checked`: whether the answer is reduced rows

    @property
    def doc_options(self) -> DocOptions:
        if not (self.conflicts or self.attachments or self.att_encoding_info):
            return PLAIN
        return DocOptions(
            conflicts=self.conflicts is True,
            attachments=self.attachments,
            att_encoding_info=self.att_encoding_info,
        )


def parse(pairs: Iterable[tuple[str, Any]], before: ViewQuery, *, decoded: bool) -> ViewQuery:
    """`before` with these options, later ones winning. `decoded` values are JSON already. Raises BadRequest."""
    query = before
    for name, value in pairs:
        if (take := _OPTIONS.get(name)) is not None:
            query = replace(query, **take(value, decoded))
    return query


def body_keys(body: Mapping[str, Any]) -> None:
    """Raise BadRequest when `keys` of a body are no array."""
    if not isinstance(body.get("keys", []), list):
        raise BadRequest("`keys` member must be an array.")


def _boolean(value: Any) -> bool:
    text = str(value).lower() if isinstance(value, (str, bool)) else ""
    if text not in ("true", "false"):
        raise BadParameter(f"Invalid boolean parameter: {_shown(value)}")
    return text == "true"


def _natural(value: Any) -> int:
    if isinstance(value, str) and _INTEGER.match(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadParameter(f"Invalid value for integer: {_shown(value)}")
    if value < 0:
        raise BadParameter(f"Invalid value for positive integer: {_shown(str(value))}")
    return value


def _shown(value: Any) -> str:
    return json_text.encode(value).decode()[:100]


def _json(value: Any, decoded: bool) -> Any:
    if decoded:
        return value
    try:
        return json_text.parse(value.encode())
    except (BadJson, UnicodeEncodeError):
        raise BadRequest("invalid UTF-8 JSON") from None


def _keys(value: Any, decoded: bool) -> dict[str, Any]:
    keys = _json(value, decoded)
    if not isinstance(keys, list):
        raise BadParameter("`keys` must be an array of strings.")
    if len(keys) > limits.KEYS_COUNT:
        raise TooLarge(f"more than {limits.KEYS_COUNT} keys")
    return {"keys": tuple(keys)}


def _key(value: Any, decoded: bool) -> dict[str, Any]:
    key = _json(value, decoded)
    return {"start": key, "end": key}


def _id(name: str, member: str) -> Callable[[Any, bool], dict[str, Any]]:
    def take(value: Any, decoded: bool) -> dict[str, Any]:
        if not isinstance(value, str):
            raise BadParameter(f"`{name}` must be a string.")
        return {member: value}

    return take


def _one(name: str, member: str, words: Mapping[str, Any]) -> Callable[[Any, bool], dict[str, Any]]:
    def take(value: Any, decoded: bool) -> dict[str, Any]:
        text = str(value).lower() if isinstance(value, bool) else value
        if not isinstance(text, str) or text not in words:
            raise BadParameter(f"Invalid value for `{name}`.")
        return {member: words[text]} if member else {}

    return take


def _flag(member: str) -> Callable[[Any, bool], dict[str, Any]]:
    return lambda value, decoded: {member: _boolean(value)}


def _count(member: str) -> Callable[[Any, bool], dict[str, Any]]:
    return lambda value, decoded: {member: _natural(value)}


def _bound(member: str) -> Callable[[Any, bool], dict[str, Any]]:
    return lambda value, decoded: {member: _json(value, decoded)}


_OPTIONS: Mapping[str, Callable[[Any, bool], dict[str, Any]]] = {
    "key": _key,
    "keys": _keys,
    "startkey": _bound("start"),
    "start_key": _bound("start"),
    "endkey": _bound("end"),
    "end_key": _bound("end"),
    "startkey_docid": _id("start_key_docid", "start_id"),
    "start_key_doc_id": _id("start_key_docid", "start_id"),
    "endkey_docid": _id("end_key_docid", "end_id"),
    "end_key_doc_id": _id("end_key_docid", "end_id"),
    "inclusive_end": _flag("inclusive_end"),
    "descending": _flag("descending"),
    "skip": _count("skip"),
    "limit": _count("limit"),
    "include_docs": _flag("include_docs"),
    "conflicts": _flag("conflicts"),
    "attachments": _flag("attachments"),
    "att_encoding_info": _flag("att_encoding_info"),
    "reduce": _flag("reduce"),
    "group": _flag("group"),
    "group_level": _count("group_level"),
    "update_seq": _flag("update_seq"),
    "sorted": _flag("sorted"),
    "stable": _one("stable", "", {"true": None, "false": None}),  # there is one set of shards: it always is
    "update": _one("update", "update", {"true": "true", "false": "false", "lazy": "lazy"}),
    "stale": _one("stale", "update", {"ok": "false", "update_after": "lazy"}),
}


def checked(query: ViewQuery, view: View, sort_key: Callable[[Any], bytes]) -> ViewQuery:
    """The query as it will be run on this view. Raises BadParameter for what contradicts itself or the view."""
    level = _group_level(query)
    reducing = view.reduce is not None and query.reduce is not False
    if view.reduce is None and query.reduce:
        raise BadParameter("Reduce is invalid for map-only views.")
    if query.keys and (query.start is not UNSET or query.end is not UNSET):
        raise BadParameter("`keys` is incompatible with `key`, `start_key` and `end_key`")
    if query.keys is not None and len(query.keys) == 1:  # since CouchDB 3.3.1
        query = replace(query, start=query.keys[0], end=query.keys[0], keys=None)
    if reducing and query.keys is not None and level != EXACT:
        raise BadParameter("Multi-key fetches for reduce views must use `group=true`")
    if not reducing and level not in (None, 0):
        raise BadParameter("Invalid use of grouping on a map view.")
    if reducing and query.include_docs:
        raise BadParameter("`include_docs` is invalid for reduce")
    if reducing and query.conflicts is not None:
        raise BadParameter("`conflicts` is invalid for reduce views.")
    query = replace(query, group_level=level, reducing=reducing)
    if query.start is not UNSET and query.end is not UNSET:
        _check_range(query, sort_key)
    return query


def _group_level(query: ViewQuery) -> int | None:
    if query.group is False and query.group_level:
        raise BadParameter("Can't specify group=false and group_level>0 at the same time")
    return EXACT if query.group and query.group_level is None else query.group_level


def _check_range(query: ViewQuery, sort_key: Callable[[Any], bytes]) -> None:
    start, end = sort_key(query.start), sort_key(query.end)
    wrong = start < end if query.descending else start > end
    if wrong:
        raise BadParameter(
            "No rows can match your key range, reverse your start_key and end_key or set descending="
            + ("false" if query.descending else "true")
        )
