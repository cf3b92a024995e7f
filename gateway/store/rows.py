"""Between SQLite rows and the values of the model."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable
from typing import Any

from gateway.couch.upstream import Identity
from gateway.errors import UnknownDatabase
from gateway.model.intervals import OPEN, Interval
from gateway.model.leaves import Leaf, LeafRouting
from gateway.store.protocol import DatabaseState, DocumentRow

DOCUMENT_COLUMNS = "d.id, d.doc, d.seq, d.winner, d.deleted, d.leaves, d.purged_seq IS NOT NULL"
LEAF_COLUMNS = (
    "rev, deleted, seq, channels, grants, roles, expiry, inherited, ancestors, refused, superseded_at, asked_at"
)
TEXT_OF_HEX = "text_of_hex"
_EMPTY: frozenset[Any] = frozenset()


def ids_json(ids: Collection[int]) -> str:
    """For `IN (SELECT value FROM json_each(?))`: one bound value however many there are."""
    return json.dumps(list(ids))


def texts(values: Iterable[str]) -> tuple[str, str]:
    """A subquery of texts and the value bound to it, as `ids_json` for numbers.

    SQLite's JSON functions end a text at U+0000, which ids and names may hold: then every text goes as hexadecimal.
    """
    found = list(values)
    if any("\0" in value for value in found):
        return f"SELECT {TEXT_OF_HEX}(value) FROM json_each(?)", json.dumps([value.encode().hex() for value in found])
    return "SELECT value FROM json_each(?)", json.dumps(found)


def text_of_hex(value: str) -> str:
    """A function for SQLite, registered by every connection under the name TEXT_OF_HEX."""
    return bytes.fromhex(value).decode()


def state(connection: sqlite3.Connection, database: int) -> DatabaseState:
    row = connection.execute(
        "SELECT last_seq, access_seq, epoch, upstream_since, server_uuid, instance_start_time, purge_seq,"
        " doc_count, doc_del_count, import_rules, sync_version, sync_wanted FROM database WHERE id = ?",
        (database,),
    ).fetchone()
    if row is None:
        raise UnknownDatabase
    identity = Identity(row[4], row[5]) if row[5] else None
    return DatabaseState(row[0], row[1], row[2], row[3], identity, *row[6:])


def document(row: tuple[Any, ...]) -> DocumentRow:
    return DocumentRow(row[0], row[1], row[2], row[3], bool(row[4]), row[5], bool(row[6]))


def _pairs(text: str) -> frozenset[tuple[int, int]]:
    return _EMPTY if text == "[]" else frozenset((left, right) for left, right in json.loads(text))


def _given(text: str) -> tuple[frozenset[tuple[int, int]], frozenset[tuple[int, int, float]]]:
    """Pairs, and those of them with an end: `[who, what]` or `[who, what, end]`."""
    if text == "[]":
        return _EMPTY, _EMPTY
    found = json.loads(text)
    return frozenset((one[0], one[1]) for one in found), frozenset((*one,) for one in found if len(one) == 3)


def _given_json(pairs: frozenset[tuple[int, int]], ends: frozenset[tuple[int, int, float]]) -> str:
    if not ends:
        return json.dumps(sorted(pairs))
    until = {(who, what): end for who, what, end in ends}
    return json.dumps([[*pair, until[pair]] if pair in until else pair for pair in sorted(pairs)])


def leaf(row: tuple[Any, ...]) -> Leaf:
    rev, deleted, seq, channels, grants, roles, expiry, inherited, ancestors, refused, superseded_at, asked_at = row
    (granted, grant_ends), (given, role_ends) = _given(grants), _given(roles)
    routing = LeafRouting(
        frozenset(json.loads(channels)), granted, given, expiry, refused, grant_ends, role_ends, asked_at
    )
    return Leaf(rev, bool(deleted), seq, routing, _pairs(inherited), tuple(json.loads(ancestors)), superseded_at)


def leaf_values(document_id: int, value: Leaf) -> tuple[Any, ...]:
    """The values of `leaf`'s columns: document, then LEAF_COLUMNS."""
    routing = value.routing
    return (
        document_id,
        value.rev,
        int(value.deleted),
        value.seq,
        json.dumps(sorted(routing.channels)),
        _given_json(routing.grants, routing.grant_ends),
        _given_json(routing.roles, routing.role_ends),
        routing.expiry,
        json.dumps(sorted(value.inherited)),
        json.dumps(value.ancestors),
        routing.refused,
        value.superseded_at,
        routing.asked_at,
    )


def intervals_by(rows: Iterable[tuple[Any, int, int | None]]) -> dict[Any, list[Interval]]:
    """(key, from, until) rows → intervals by key; NULL is OPEN."""
    found: dict[Any, list[Interval]] = {}
    for key, start, end in rows:
        found.setdefault(key, []).append((start, OPEN if end is None else end))
    return found
