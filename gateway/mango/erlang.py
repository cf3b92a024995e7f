"""Values as Erlang prints them: CouchDB's reasons for refused queries hold them in this form."""

from __future__ import annotations

from typing import Any

_SHOWN_CHARACTERS = 1_000


def term(value: Any, *, pretty: bool = False) -> str:
    """JSON as `io_lib:format("~w")` prints CouchDB's form of it, with `pretty` as `"~p"` does; shortened if long."""
    text = _term(value, pretty)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def _term(value: Any, pretty: bool) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        if pretty and value and value.isascii() and value.isprintable():
            return '<<"' + value.replace("\\", "\\\\").replace('"', '\\"') + '">>'
        return "<<" + ",".join(map(str, data[:_SHOWN_CHARACTERS])) + ">>"
    if isinstance(value, list):
        return "[" + ",".join([_term(item, pretty) for item in value[:_SHOWN_CHARACTERS]]) + "]"
    if isinstance(value, dict):
        members = list(value.items())[:_SHOWN_CHARACTERS]
        inner = ",".join([f"{{{_term(name, pretty)},{_term(item, pretty)}}}" for name, item in members])
        return "{[" + inner + "]}"
    return repr(value)
