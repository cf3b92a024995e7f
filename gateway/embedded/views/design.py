"""Design documents: what a write of one must hold to, and the views in it. Pure.

Sources: couch_mrview.erl (validate_ddoc_fields), couch_mrview_util.erl (ddoc_to_mrst).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway import json_text
from gateway.errors import InvalidDesign
from gateway.mango.collation import VERSION

LANGUAGE = "javascript"
_BUILTINS = ("_sum", "_count", "_stats", "_approx_count_distinct", "_first", "_last")
_RANKS = ("_top_", "_bottom_")
_FUNCTIONS = ("filters", "lists", "shows", "updates")


@dataclass(frozen=True, slots=True)
class View:
    """One named view."""

    name: str
    map: int  # among the design's maps
    raw: bool  # whether keys sort by Erlang's order of terms
    reduce: str | None  # the source, or a name that begins with an underscore
    reducer: int | None  # among the design's reduces in JavaScript


@dataclass(frozen=True, slots=True)
class Design:
    """The views of a design document. `signature` names its index: it changes when rows would be others."""

    id: str
    language: str
    views: Mapping[str, View]
    maps_count: int
    raw: tuple[bool, ...]  # of each map
    include_design: bool
    local_seq: bool
    functions: Mapping[str, Any]  # the hello of viewfn/worker.py
    signature: str


def parse(id: str, body: Mapping[str, Any]) -> Design:
    """The views of a stored design document; what is no view is passed over, as CouchDB does."""
    language = body.get("language", LANGUAGE)
    given = body.get("views")
    given = given if isinstance(given, dict) else {}
    options = _object(body.get("options"))
    lib = _object(given.get("lib"))
    entries = {
        name: (view["map"], _object(view.get("options")), view.get("reduce"))
        for name, view in given.items()
        if isinstance(view, dict) and isinstance(view.get("map"), str)
    }
    # In an order that names do not change, so that design documents with the same maps share one index.
    texts = {name: json_text.canonical([source, choices]) for name, (source, choices, _) in entries.items()}
    places = {text: number for number, text in enumerate(sorted(set(texts.values())))}
    maps: list[list[str]] = [[] for _ in places]
    raw = [False] * len(places)
    views: dict[str, View] = {}
    reduces: list[list[str]] = []
    for name, (source, choices, reduce) in entries.items():
        number = places[texts[name]]
        maps[number] = maps[number] or [name, source]
        raw[number] = choices.get("collation") == "raw"
        reducer = None
        if isinstance(reduce, str) and not reduce.startswith("_"):
            reducer = len(reduces)
            reduces.append([name, reduce])
        views[name] = View(name, number, raw[number], reduce if isinstance(reduce, str) else None, reducer)
    signed = json_text.canonical([[text.decode("ascii") for text in places], language, options, lib, VERSION])
    return Design(
        id,
        language if isinstance(language, str) else "",
        views,
        len(maps),
        tuple(raw),
        options.get("include_design") is True,
        options.get("local_seq") is True,
        {"lib": lib or None, "maps": maps, "reduces": reduces, "designs": []},
        hashlib.md5(signed, usedforsecurity=False).hexdigest(),
    )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def validate(body: Mapping[str, Any]) -> None:
    """Raise InvalidDesign, with CouchDB's reason, for what CouchDB would not store."""
    for name in _FUNCTIONS:
        for inner, value in _members(body, name).items():
            _must(isinstance(value, (dict, str)), f"{name}.{inner}", "object or string")
    _must(isinstance(body.get("language", ""), str), "language", "string")
    _members(body, "options")
    _must(isinstance(body.get("rewrites", ""), (str, list)), "rewrites", "string or array")
    _must(isinstance(body.get("validate_doc_update", ""), str), "validate_doc_update", "string")
    views = _members(body, "views")
    kind, kind_name = (dict, "object") if body.get("language") == "query" else (str, "string")
    for name, view in views.items():
        _must(isinstance(view, dict), f"views.{name}", "object")
        if name == "lib":
            continue
        _must("map" not in view or isinstance(view["map"], kind), f"views.{name}.map", kind_name)
        _must("reduce" not in view or isinstance(view["reduce"], str), f"views.{name}.reduce", "string")
    for name, view in views.items():
        if name == "lib":
            continue
        if "map" not in view:
            raise InvalidDesign(f"View `{name}` must contain map function")
        reduce = view.get("reduce", "")
        if reduce.startswith("_") and not is_builtin(reduce):
            raise InvalidDesign(f"`{reduce}` is not a supported reduce function.")


def is_builtin(reduce: str) -> bool:
    """Whether this is a reduce function that needs no JavaScript."""
    if reduce.startswith(_BUILTINS):
        return True
    prefix = next((prefix for prefix in _RANKS if reduce.startswith(prefix)), None)
    if prefix is None:
        return False
    number = reduce.removeprefix(prefix)
    return number.isascii() and number.isdigit() and 0 < int(number[:9]) <= 100


def _members(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name, {})
    _must(isinstance(value, dict), name, "object")
    members: dict[str, Any] = value
    return members


def _must(holds: bool, path: str, kind: str) -> None:
    if not holds:
        raise InvalidDesign(f"`{path}` field must have {kind} type")
