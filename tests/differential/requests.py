"""Sequences of requests to one database, as hypothesis draws them; revisions in them are named by their origin."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, replace
from typing import Any, Final

from hypothesis import strategies as st

IDS: Final = ["a", "b", "é/+ &", "_design/d", "ab"]
DIGESTS: Final = [digit * 32 for digit in "abc"]
_GIVEN: Final = re.compile(f"^([0-9])-({'|'.join(DIGESTS)})$")
_PARENTS: Final = {"a": "a", "b": "a", "c": "b"}  # the first letters of digests
UNKNOWN: Final = "1-00000000000000000000000000000000"


@dataclass(frozen=True, slots=True)
class Made:
    """The nth revision (from the end: -1) that the server has told for writes of this document; none: UNKNOWN."""

    id: str
    number: int


@dataclass(frozen=True, slots=True)
class Seq:
    """The nth `last_seq` that the server has told; none: 0."""

    number: int


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. Each server is sent revisions and sequences of its own for Made and Seq; `path` is unquoted."""

    method: str
    path: tuple[str, ...] = ()
    params: tuple[tuple[str, Any], ...] = ()
    body: Any = None
    raw: bytes | None = None  # the body of an attachment

    def __str__(self) -> str:
        query = "&".join(f"{name}={value}" for name, value in self.params)
        return f"{self.method} /{'/'.join(self.path)}?{query} {(self.body if self.raw is None else self.raw)!r}"


def without_design_documents(ask: Ask) -> Ask:
    """The same with another document in place of the design document."""

    def plain(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("_design/", "design-")
        if isinstance(value, Made):
            return Made(plain(value.id), value.number)
        if isinstance(value, dict):
            return {plain(name): plain(member) for name, member in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(plain(member) for member in value)
        return value

    return replace(ask, path=plain(ask.path), params=plain(ask.params), body=plain(ask.body))


def for_the_lookalike(ask: Ask) -> Ask:
    """The same as pouchdb-server can take it.

    Each digest that is sent belongs to one generation and has one parent, as in real histories: it looks for a revision
    by its digest alone, and takes a deleted 2-a over 1-a for one that lives. And `latest` is left out where a revision
    is named: it ends its process where that is unknown. Of several edits of one document in a `_bulk_docs` the first is
    left: it answers that the others are conflicts, and stores them all the same.
    """

    def distinct(value: Any) -> Any:
        if isinstance(value, str):
            return _GIVEN.sub(lambda found: f"{found[1]}-{found[2][:-1]}{found[1]}", value)
        if isinstance(value, dict):
            start, ids = value.get("start"), value.get("ids")
            if isinstance(start, int) and isinstance(ids, list):
                letters = [ids[0][0]]
                while len(letters) < len(ids):
                    letters.append(_PARENTS[letters[-1]])
                return {"start": start, "ids": [f"{letter * 31}{start - at}" for at, letter in enumerate(letters)]}
            return {name: distinct(member) for name, member in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(distinct(member) for member in value)
        return value

    in_query = any(name == "rev" or (name == "open_revs" and value != "all") for name, value in ask.params)
    named = in_query or (ask.path == ("_bulk_get",) and any("rev" in item for item in ask.body["docs"]))
    params = tuple(one for one in ask.params if not (named and one[0] == "latest"))
    body = ask.body
    if ask.path == ("_bulk_docs",) and body.get("new_edits", True):
        firsts: dict[str, Any] = {}
        for doc in body["docs"]:
            firsts.setdefault(doc["_id"], doc)
        body = {**body, "docs": list(firsts.values())}
    return replace(ask, params=distinct(params), body=distinct(body))


ids = st.sampled_from(IDS)
plain_ids = st.sampled_from([id for id in IDS if not id.startswith("_")])
bodies = st.fixed_dictionaries(
    {},
    optional={"n": st.integers(0, 3), "text": st.sampled_from(["", "ü", "x" * 50]), "deep": st.just({"a": [1, None]})},
)
files = st.sampled_from([b"", b"hello", bytes(range(256)) * 4])


def _params(**choices: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[tuple[str, Any], ...]]:
    """Any of these query parameters, always in one order."""
    return st.fixed_dictionaries({}, optional=choices).map(lambda chosen: tuple(sorted(chosen.items())))


true = st.just("true")
keys = ids.map(lambda id: f'"{id}"')


@st.composite
def base_of(draw: st.DrawFn, id: str) -> Made | str | None:
    """What a write names as the revision that it replaces: mostly the newest."""
    newest = Made(id, -1)
    choices: list[Made | str | None] = [newest, newest, newest, None, Made(id, 0), UNKNOWN]
    return draw(st.sampled_from(choices))


@st.composite
def edits(draw: st.DrawFn) -> dict[str, Any]:
    """A document for a write with new edits."""
    id = draw(ids)
    doc: dict[str, Any] = {"_id": id, **draw(bodies)}
    if base := draw(base_of(id)):
        doc["_rev"] = base
    if draw(st.integers(0, 4)) == 0:
        doc["_deleted"] = True
    if draw(st.integers(0, 3)) == 0:
        doc["_attachments"] = {"f.txt": {"content_type": "text/plain", "data": base64.b64encode(draw(files)).decode()}}
    return doc


@st.composite
def revisions(draw: st.DrawFn) -> dict[str, Any]:
    """A document for a write without new edits: with a history."""
    generation = draw(st.integers(1, 3))
    newest, before = draw(st.sampled_from(DIGESTS)), draw(st.sampled_from(DIGESTS))
    digests = [newest, *[before] * (generation - 1)]
    doc: dict[str, Any] = {
        "_id": draw(ids),
        "_rev": f"{generation}-{newest}",
        "_revisions": {"start": generation, "ids": digests},
        **draw(bodies),
    }
    if draw(st.integers(0, 3)) == 0:
        doc["_deleted"] = True
    return doc


def _replicated(docs: list[dict[str, Any]]) -> Ask:
    return Ask("POST", ("_bulk_docs",), body={"docs": docs, "new_edits": False})


def _put(doc: dict[str, Any]) -> Ask:
    return Ask("PUT", (doc["_id"],), body={name: value for name, value in doc.items() if name != "_id"})


@st.composite
def attachments(draw: st.DrawFn) -> Ask:
    id = draw(plain_ids)
    path = (id, draw(st.sampled_from(["f.txt", "dir/é.bin"])))
    method = draw(st.sampled_from(["PUT", "PUT", "GET", "DELETE"]))
    base = draw(base_of(id))
    params = () if base is None or method == "GET" else (("rev", base),)
    return Ask(method, path, params, raw=draw(files) if method == "PUT" else None)


@st.composite
def local_documents(draw: st.DrawFn) -> Ask:
    path = ("_local", draw(st.sampled_from(["one", "two"])))
    method = draw(st.sampled_from(["PUT", "PUT", "GET", "DELETE"]))
    rev = draw(st.sampled_from([None, "0-1", "0-2"]))
    body = draw(bodies) if method == "PUT" else None
    if body is not None and rev is not None:
        body["_rev"] = rev
    return Ask(method, path, (("rev", rev),) if method == "DELETE" and rev else (), body)


@st.composite
def known_revisions(draw: st.DrawFn, id: str) -> Made | str:
    fixed = [f"{generation}-{digest}" for generation in (1, 2) for digest in DIGESTS[:2]]
    choices: list[Made | str] = [Made(id, -1), Made(id, 0), UNKNOWN, *fixed]
    return draw(st.sampled_from(choices))


@st.composite
def gets(draw: st.DrawFn) -> Ask:
    id = draw(ids)
    options = _params(
        revs=true, revs_info=true, conflicts=true, deleted_conflicts=true, meta=true, attachments=true,
        rev=known_revisions(id), latest=true,
    )  # fmt: skip
    return Ask("GET", (id,), draw(options))


@st.composite
def open_revs(draw: st.DrawFn) -> Ask:
    id = draw(ids)
    wanted = draw(st.one_of(st.just("all"), st.lists(known_revisions(id), min_size=1, max_size=3)))
    return Ask("GET", (id,), (("open_revs", wanted), *draw(_params(revs=true, latest=true))))


@st.composite
def bulk_gets(draw: st.DrawFn) -> Ask:
    wanted: list[dict[str, Any]] = []
    for id in draw(st.lists(ids, min_size=1, max_size=3)):
        rev = draw(st.one_of(st.none(), known_revisions(id)))
        wanted.append({"id": id} if rev is None else {"id": id, "rev": rev})
    return Ask("POST", ("_bulk_get",), draw(_params(revs=true, latest=true)), {"docs": wanted})


@st.composite
def revs_diffs(draw: st.DrawFn) -> Ask:
    wanted = {id: draw(st.lists(known_revisions(id), max_size=3)) for id in draw(st.sets(ids, max_size=3))}
    return Ask("POST", ("_revs_diff",), body=dict(sorted(wanted.items())))


all_docs = st.builds(
    lambda params: Ask("GET", ("_all_docs",), params),
    _params(
        include_docs=true, conflicts=true, descending=true, limit=st.integers(0, 3), skip=st.integers(0, 2),
        startkey=keys, endkey=keys, inclusive_end=st.just("false"),
    ),
)  # fmt: skip
all_docs_of_keys = st.builds(
    lambda wanted, params: Ask("POST", ("_all_docs",), params, {"keys": wanted}),
    st.lists(st.sampled_from([*IDS, "missing"]), max_size=4),
    _params(include_docs=true, descending=true, limit=st.integers(0, 3), skip=st.integers(0, 1)),
)
changes = st.builds(
    lambda params: Ask("GET", ("_changes",), params),
    _params(
        style=st.just("all_docs"), include_docs=true, conflicts=true, since=st.builds(Seq, st.sampled_from([-1, -2])),
    ),
)  # fmt: skip
changes_of_ids = st.builds(
    lambda wanted, params: Ask("POST", ("_changes",), (("filter", "_doc_ids"), *params), {"doc_ids": wanted}),
    st.lists(ids, max_size=3),
    _params(style=st.just("all_docs")),
)
bulk = st.builds(lambda docs: Ask("POST", ("_bulk_docs",), body={"docs": docs}), st.lists(edits(), max_size=4))
writes = st.one_of(
    edits().map(_put),
    bulk,
    st.lists(revisions(), min_size=1, max_size=3).map(_replicated),
    attachments(),
    local_documents(),
)
reads = st.one_of(
    gets(), open_revs(), bulk_gets(), revs_diffs(), all_docs, all_docs_of_keys, changes, changes_of_ids
)  # fmt: skip
# Every sequence ends with everything there is.
EVERYTHING: Final = [
    Ask("GET", ("_changes",), (("style", "all_docs"), ("include_docs", "true"), ("conflicts", "true"))),
    Ask("GET", ("_all_docs",), (("include_docs", "true"), ("conflicts", "true"))),
    *(Ask("GET", (id,), (("open_revs", "all"), ("revs", "true"))) for id in IDS),
]
sequences = st.lists(st.one_of(writes, writes, reads), min_size=4, max_size=16).map(lambda asked: [*asked, *EVERYTHING])
