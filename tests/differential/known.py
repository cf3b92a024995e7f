"""Where answers may differ, and why: in one place, a reason to each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from tests.differential.requests import Ask
from tests.differential.sides import Told

ADMIN: Final = "admin"
USER: Final = "user"
LOOKALIKE: Final = "pouchdb-server"
GATEWAY: Final = frozenset((ADMIN, USER))


@dataclass(frozen=True, slots=True)
class Difference:
    """On these kinds of server, `as_theirs` says the embedded server's answer as the other one says it: it changes only
    what the reason names, and leaves any other answer as it is. `parts`: one of the two has stored what the other has
    not, so nothing after it can be compared."""

    kinds: frozenset[str]
    reason: str
    as_theirs: Callable[[Ask, Told, Told], Told]
    parts: bool = False


def _tombstones(ask: Ask, ours: Told, theirs: Told) -> Told:
    """Rows of deleted documents are missing on their side: all of them from the beginning on, where the client holds
    nothing yet. Nothing else is different."""
    if ask.path != ("_changes",) or (ours.status, theirs.status) != (200, 200):
        return ours
    told = {row["id"] for row in theirs.body["results"]}
    expected = [row for row in ours.body["results"] if row["id"] in told or not row.get("deleted")]
    from_the_beginning = not any(name == "since" for name, _ in ask.params)
    if from_the_beginning and any(row.get("deleted") for row in expected):
        return ours
    return replace(ours, body={**ours.body, "results": expected})


# pouchdb-server


def _etag_of_the_bytes(ask: Ask, ours: Told, theirs: Told) -> Told:
    return replace(ours, etag=theirs.etag) if (theirs.etag or "").startswith('W/"') else ours


def _no_meta(ask: Ask, ours: Told, theirs: Told) -> Told:
    if ("meta", "true") not in ask.params or ours.status != 200 or not isinstance(ours.body, dict):
        return ours
    asked = {f"_{name}" for name, _ in ask.params}
    left_out = {"_revs_info", "_conflicts", "_deleted_conflicts"} - asked
    return replace(ours, body={name: value for name, value in ours.body.items() if name not in left_out})


def _missing_twice(ask: Ask, ours: Told, theirs: Told) -> Told:
    """Whatever is named twice is answered twice."""
    if not isinstance(dict(ask.params).get("open_revs"), list) or not isinstance(theirs.body, list):
        return ours
    distinct = [entry for at, entry in enumerate(theirs.body) if entry not in theirs.body[:at]]
    return replace(ours, body=theirs.body) if ours.body == distinct else ours


def _told_of_a_named_revision(ask: Ask, ours: Told, theirs: Told) -> Told:
    """What CouchDB tells of the winner alone."""
    names = ("_revs_info", "_conflicts", "_deleted_conflicts")
    if ask.method != "GET" or not any(name == "rev" for name, _ in ask.params) or not isinstance(theirs.body, dict):
        return ours
    if (ours.status, theirs.status) != (200, 200):
        return ours
    return replace(ours, body={**ours.body, **{name: theirs.body[name] for name in names if name in theirs.body}})


def _digests_of_plain_bytes(ask: Ask, ours: Told, theirs: Told) -> Told:
    """CouchDB's digest is that of the bytes as it stores them: a text is compressed."""
    return replace(ours, body=_with_digests(ours.body, theirs.body))


def _with_digests(ours: Any, theirs: Any) -> Any:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if ours.get("content_type") == "text/plain" and "digest" in ours and "digest" in theirs:
            return {**ours, "digest": theirs["digest"]}
        return {name: _with_digests(value, theirs.get(name)) for name, value in ours.items()}
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [_with_digests(mine, other) for mine, other in zip(ours, theirs, strict=True)]
    return ours


def _no_attachments_of_deletions(ask: Ask, ours: Told, theirs: Told) -> Told:
    return replace(ours, body=_without_attachments_of_deletions(ours.body))


def _without_attachments_of_deletions(value: Any) -> Any:
    if isinstance(value, dict):
        left_out = {"_attachments"} if value.get("_deleted") is True else set()
        return {
            name: _without_attachments_of_deletions(member) for name, member in value.items() if name not in left_out
        }
    return [_without_attachments_of_deletions(member) for member in value] if isinstance(value, list) else value


def _keys_are_chosen_before_they_are_turned(ask: Ask, ours: Told, theirs: Told) -> Told:
    """CouchDB turns the keys around and then skips; they have as many rows, and the same for a key that both answer."""
    if ask.path != ("_all_docs",) or ask.method != "POST" or not _asks(ask, "descending"):
        return ours
    if not {"skip", "limit"} & dict(ask.params).keys() or (ours.status, theirs.status) != (200, 200):
        return ours
    mine, others = ours.body["rows"], theirs.body["rows"]
    rows = {row["key"]: row for row in mine}
    same = len(mine) == len(others) and all(rows.get(row["key"], row) == row for row in others)
    return replace(ours, body={**ours.body, "rows": others}) if same else ours


def _head_of_keys(ask: Ask, ours: Told, theirs: Told) -> Told:
    if ask.method != "POST" or ask.path != ("_all_docs",) or ours.status != 200 or theirs.status != 200:
        return ours
    head = {name: value for name, value in theirs.body.items() if name != "rows"}
    rows = [_with_doc(row) for row in ours.body["rows"]] if not _asks(ask, "include_docs") else ours.body["rows"]
    return replace(ours, body={**{k: v for k, v in ours.body.items() if k == "rows"}, **head, "rows": rows})


def _with_doc(row: dict[str, Any]) -> dict[str, Any]:
    deleted = isinstance(row.get("value"), dict) and row["value"].get("deleted")
    return {**row, "doc": None} if deleted else row


def _asks(ask: Ask, name: str) -> bool:
    return (name, "true") in ask.params


def _offset_is_what_was_skipped(ask: Ask, ours: Told, theirs: Told) -> Told:
    if ask.method != "GET" or ask.path != ("_all_docs",) or ours.status != 200 or theirs.status != 200:
        return ours
    skipped = dict(ask.params).get("skip", 0)
    return replace(ours, body={**ours.body, "offset": skipped})


def _other_order_of_results(ask: Ask, ours: Told, theirs: Told) -> Told:
    if ask.path != ("_bulk_docs",) or not isinstance(ours.body, list) or not isinstance(theirs.body, list):
        return ours
    same = sorted(map(repr, ours.body)) == sorted(map(repr, theirs.body))
    return replace(ours, body=theirs.body) if same else ours


def _winner_of(result: dict[str, Any], without_rev: set[str]) -> list[dict[str, Any]]:
    """Without a revision CouchDB answers all leaves, the winner first, and pouchdb-server the winner."""
    docs: list[dict[str, Any]] = result["docs"]
    return docs[:1] if result["id"] in without_rev and all("ok" in entry for entry in docs) else docs


def _bulk_get_of_what_is_missing(ask: Ask, ours: Told, theirs: Told) -> Told:
    if ask.path != ("_bulk_get",) or ours.status != 200:
        return ours

    without_rev = {item["id"] for item in ask.body["docs"] if "rev" not in item}

    def as_theirs(id: str, entry: dict[str, Any]) -> dict[str, Any]:
        error = entry.get("error")
        if id in without_rev and entry.get("ok", {}).get("_deleted"):
            return {}  # no more than of a document that is unknown
        if not isinstance(error, dict) or error.get("error") != "not_found":
            return entry
        return {} if error["rev"] == "undefined" else {"missing": error["rev"]}

    results = [
        {**one, "docs": [as_theirs(one["id"], entry) for entry in _winner_of(one, without_rev)]}
        for one in ours.body["results"]
    ]
    return replace(ours, body={"results": results})


def _bulk_get_by_document(ask: Ask, ours: Told, theirs: Told) -> Told:
    """Results of one document follow each other, each revision once; asked for with and without a revision, the latter
    may have none."""
    if ask.path != ("_bulk_get",) or (ours.status, theirs.status) != (200, 200):
        return ours
    wanted = [item["id"] for item in ask.body["docs"]]
    repeated = {id for id in wanted if wanted.count(id) > 1}
    without_rev = {item["id"] for item in ask.body["docs"] if "rev" not in item}
    mine, others = _entries(ours.body), _entries(theirs.body)
    left_out = {id for id, _ in mine - others}
    return theirs if repeated and others <= mine and left_out <= repeated & without_rev else ours


def _entries(body: Any) -> set[tuple[str, str]]:
    return {(one["id"], json.dumps(entry, sort_keys=True)) for one in body["results"] for entry in one["docs"]}


def _leaves_in_no_order(ask: Ask, ours: Told, theirs: Told) -> Told:
    if ask.path != ("_changes",) or (ours.status, theirs.status) != (200, 200):
        return ours
    told = {row["id"]: row["changes"] for row in theirs.body["results"]}

    def ordered(row: dict[str, Any]) -> dict[str, Any]:
        others = told.get(row["id"], [])
        same = sorted(one["rev"] for one in others) == sorted(one["rev"] for one in row["changes"])
        return {**row, "changes": others} if same else row

    return replace(ours, body={**ours.body, "results": [ordered(row) for row in ours.body["results"]]})


def _interior_revisions_are_missing(ask: Ask, ours: Told, theirs: Told) -> Told:
    """And no ancestors are named."""
    if ask.path != ("_revs_diff",) or (ours.status, theirs.status) != (200, 200):
        return ours
    more = {
        id: {"missing": theirs.body.get(id, {}).get("missing", [])}
        for id, entry in theirs.body.items()
        if set(ours.body.get(id, {}).get("missing", [])) <= set(entry["missing"]) and ask.body[id]
    }
    return replace(ours, body={**ours.body, **more})


def _revs_diff_of_nothing(ask: Ask, ours: Told, theirs: Told) -> Told:
    if ask.path != ("_revs_diff",) or ours.status != 200:
        return ours
    empty: dict[str, Any] = {id: {"missing": []} for id, revs in ask.body.items() if not revs and id in theirs.body}
    return replace(ours, body={**ours.body, **empty})


def _created_when_deleted(ask: Ask, ours: Told, theirs: Told) -> Told:
    deletes = ask.method == "PUT" and isinstance(ask.body, dict) and ask.body.get("_deleted") is True
    return replace(ours, status=201) if deletes and (ours.status, theirs.status) == (200, 201) else ours


def _attachment_over_an_unknown_revision(ask: Ask, ours: Told, theirs: Told) -> Told:
    if len(ask.path) != 2 or ask.path[0].startswith("_") or ours.status != 409 or ours.body != {"error": "not_found"}:
        return ours
    if theirs.status == 404:
        return replace(ours, status=404)
    if ask.method == "PUT" and theirs.status == 409:
        return replace(ours, body={"error": "conflict"})
    return ours


def _no_revision_for_a_missing_attachment(ask: Ask, ours: Told, theirs: Told) -> Told:
    deletes = ask.method == "DELETE" and len(ask.path) == 2 and not ask.params
    same = ours == Told(404, {"error": "not_found"}, None) and theirs == Told(500, {"error": "bad_request"}, None)
    return theirs if deletes and same else ours


def _no_attachment_over_a_deletion(ask: Ask, ours: Told, theirs: Told) -> Told:
    attaches = ask.method == "PUT" and len(ask.path) == 2 and not ask.path[0].startswith("_")
    return theirs if attaches and ours.status == 201 and theirs == Told(404, {"error": "not_found"}, None) else ours


def _local_conflict(ask: Ask, ours: Told, theirs: Told) -> Told:
    writes = ask.method == "PUT" and ask.path[0] == "_local"
    return theirs if writes and ours.status == 201 and theirs == Told(409, {"error": "conflict"}, None) else ours


def _of_the_lookalike(reason: str, as_theirs: Callable[[Ask, Told, Told], Told], *, parts: bool = False) -> Difference:
    return Difference(frozenset((LOOKALIKE,)), reason, as_theirs, parts)


KNOWN: Final = [
    Difference(frozenset((USER,)), "a user is told of a deletion only where it may hold the document", _tombstones),
    # In each of these the embedded server is held to be right: what tests/embedded and tests/protocol say of it.
    _of_the_lookalike("its ETags are those of the bytes, not the revision", _etag_of_the_bytes),
    _of_the_lookalike("it tells what is told of the winner of every revision", _told_of_a_named_revision),
    _of_the_lookalike("its digests are those of the bytes before they are compressed", _digests_of_plain_bytes),
    _of_the_lookalike("it keeps no attachments of a deletion", _no_attachments_of_deletions),
    _of_the_lookalike("it knows no `meta`", _no_meta),
    _of_the_lookalike("it answers a revision twice that is named twice in open_revs", _missing_twice),
    _of_the_lookalike("the head of its listing by keys has other counts, and deleted rows have a doc", _head_of_keys),
    _of_the_lookalike("it skips keys before it turns them around", _keys_are_chosen_before_they_are_turned),
    _of_the_lookalike("the offset of its listings is what was skipped", _offset_is_what_was_skipped),
    _of_the_lookalike("it answers what it refused of a _bulk_docs first", _other_order_of_results),
    _of_the_lookalike(
        "its _bulk_get has no errors for what is missing, and the winner alone where no revision is named",
        _bulk_get_of_what_is_missing,
    ),
    _of_the_lookalike("its _bulk_get has one result for each document", _bulk_get_by_document),
    _of_the_lookalike("its rows name the leaves in no order", _leaves_in_no_order),
    _of_the_lookalike("its _revs_diff calls interior revisions missing", _interior_revisions_are_missing),
    _of_the_lookalike("its _revs_diff has an entry for no revisions", _revs_diff_of_nothing),
    _of_the_lookalike("it answers 201 to a PUT that deletes", _created_when_deleted),
    _of_the_lookalike(
        "it has other errors for an attachment of an unknown revision", _attachment_over_an_unknown_revision
    ),
    _of_the_lookalike("it asks for a revision first, and calls that 500", _no_revision_for_a_missing_attachment),
    _of_the_lookalike("a deletion takes no attachment", _no_attachment_over_a_deletion, parts=True),
    _of_the_lookalike("it checks the revision of a local document", _local_conflict, parts=True),
]


@dataclass(frozen=True, slots=True)
class Compared:
    """Whether two answers are the same but for what is known; `reasons` of those differences that made them so."""

    same: bool
    reasons: tuple[str, ...] = ()
    parted: bool = False


def compare(kind: str, ask: Ask, ours: Told, theirs: Told) -> Compared:
    """Every difference that is known of this kind of server is looked for, one after the other."""
    reasons: list[str] = []
    parted = False
    for known in KNOWN:
        if ours == theirs:
            break
        if kind not in known.kinds:
            continue
        told = known.as_theirs(ask, ours, theirs)
        if told != ours:
            reasons.append(known.reason)
            parted = parted or known.parts
            ours = told
    return Compared(ours == theirs, tuple(reasons), parted)
