"""Revision ids: their form, CouchDB's order of leaves, and CouchDB's way to compute the next one."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

_REV = re.compile(r"([1-9][0-9]{0,9})-([0-9a-zA-Z]{1,64})\Z")
_LOCAL_REV = re.compile(r"0-([0-9]{1,15})\Z")
_HEX32 = re.compile(r"[0-9a-f]{32}\Z")
T = TypeVar("T")


def parse_rev(rev: object) -> tuple[int, str]:
    """`"3-abc"` → `(3, "abc")`. Raises ValueError for anything else."""
    if not isinstance(rev, str) or (match := _REV.match(rev)) is None:
        raise ValueError("Invalid rev format")
    return int(match[1]), match[2]


def next_local_rev(rev: str | None) -> int:
    """The N of the revision `0-N` that a `_local` document gets which is written over `rev`: one more than is named.

    What is stored counts for nothing, there are no conflicts (couch_db_updater:increment_local_doc_revs). Raises
    ValueError.
    """
    if rev is None:
        return 1
    if (match := _LOCAL_REV.match(rev)) is None:
        raise ValueError("Invalid rev format")
    return int(match[1]) + 1


def generation(rev: str) -> int:
    """The number before the dash of a revision id that is known to be well-formed."""
    return int(rev.partition("-")[0])


def _stored(digest: str) -> bytes:
    """CouchDB keeps, and compares, 32 hexadecimal digits as 16 bytes and every other digest as its text."""
    return bytes.fromhex(digest) if _HEX32.match(digest) else digest.encode()


def _rank(rev: str, deleted: bool) -> tuple[bool, int, bytes]:
    number, _, digest = rev.partition("-")
    return (not deleted, int(number), _stored(digest))


def wins(rev: str, deleted: bool, over_rev: str, over_deleted: bool) -> bool:
    """Whether the first leaf wins over the second.

    Live before deleted, then the higher generation, then the higher digest
    (https://docs.couchdb.org/en/stable/replication/conflicts.html#working-with-conflicting-documents).
    """
    return _rank(rev, deleted) > _rank(over_rev, over_deleted)


def winner_first(leaves: Iterable[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """(rev, deleted) pairs in CouchDB's order of leaves, the winner first."""
    return sorted(leaves, key=lambda leaf: _rank(*leaf), reverse=True)


def history(revisions: object) -> list[str]:
    """`{"start": 3, "ids": ["c", "b"]}` → `["3-c", "2-b"]`, newest first. Raises ValueError for anything else."""
    if not isinstance(revisions, dict):
        raise ValueError("_revisions must be an object")
    start, ids = revisions.get("start"), revisions.get("ids")
    if isinstance(start, bool) or not isinstance(start, int) or start < 1:
        raise ValueError("_revisions.start must be a positive integer")
    if not isinstance(ids, list) or not ids:
        raise ValueError("_revisions.ids must be a non-empty array")
    if len(ids) > start:
        raise ValueError("_revisions.ids holds more ids than _revisions.start allows")
    revs = [f"{start - at}-{digest}" for at, digest in enumerate(ids) if isinstance(digest, str)]
    if len(revs) != len(ids):
        raise ValueError("_revisions.ids must hold strings")
    for rev in revs:
        parse_rev(rev)
    return revs


def revisions_object(revs: Sequence[str]) -> dict[str, Any]:
    """The inverse of `history`."""
    return {"start": generation(revs[0]), "ids": [rev.partition("-")[2] for rev in revs]}


def next_rev(
    parent: str | None, body: dict[str, Any], *, deleted: bool, attachments: Sequence[tuple[str, str, bytes]] = ()
) -> str:
    """The revision id that CouchDB gives to `body` written over `parent`.

    `body` is without `_` members, `attachments` are (name, content type, MD5 of the stored bytes) in the document's
    order. CouchDB hashes the Erlang term `[Deleted, Generation, ParentDigest, Body, Attachments]` in the external
    term format (https://www.erlang.org/doc/apps/erts/erl_ext_dist.html); an empty new document is
    `1-967a00dff5e02add41819138abb3284d` everywhere.
    """
    if parent is None:
        number, digest = 0, b"a\x00"
    else:
        number, text = int(parent.partition("-")[0]), parent.partition("-")[2]
        digest = _binary(_stored(text))
    parts = [
        _atom("true" if deleted else "false"),
        _integer(number),
        digest,
        _term(body),
        _list(
            [
                b"h\x03" + _binary(name.encode()) + _binary(kind.encode()) + _binary(md5)
                for name, kind, md5 in reversed(attachments)
            ]
        ),
    ]
    digest_of_all = hashlib.md5(b"\x83" + _list(parts), usedforsecurity=False).hexdigest()
    return f"{number + 1}-{digest_of_all}"


def _atom(name: str) -> bytes:
    return b"d" + struct.pack(">H", len(name)) + name.encode()


def _binary(data: bytes) -> bytes:
    return b"m" + struct.pack(">I", len(data)) + data


def _integer(value: int) -> bytes:
    if 0 <= value <= 255:
        return b"a" + bytes((value,))
    if -(2**31) <= value < 2**31:
        return b"b" + struct.pack(">i", value)
    magnitude = abs(value).to_bytes((abs(value).bit_length() + 7) // 8, "little")
    sign = b"\x01" if value < 0 else b"\x00"
    if len(magnitude) < 256:
        return b"n" + bytes((len(magnitude),)) + sign + magnitude
    return b"o" + struct.pack(">I", len(magnitude)) + sign + magnitude


def _list(items: Sequence[bytes]) -> bytes:
    if not items:
        return b"j"
    return b"l" + struct.pack(">I", len(items)) + b"".join(items) + b"j"


def _term(value: Any) -> bytes:
    """EJSON as a term: an object is `{[{Key, Value}, …]}`, a string a binary, a list of bytes an Erlang string."""
    if value is None:
        return _atom("null")
    if isinstance(value, bool):
        return _atom("true" if value else "false")
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return b"F" + struct.pack(">d", value)
    if isinstance(value, str):
        return _binary(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, list):
        if 0 < len(value) < 65536 and all(type(item) is int and 0 <= item <= 255 for item in value):
            return b"k" + struct.pack(">H", len(value)) + bytes(value)
        return _list([_term(item) for item in value])
    return b"h\x01" + _list(
        [b"h\x02" + _binary(key.encode("utf-8", "surrogatepass")) + _term(item) for key, item in value.items()]
    )
