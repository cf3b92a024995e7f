"""One timeline told both to the oracle and to a real store; what they disagree on fails at once.

A small language for scenarios: `t.write("d", "A")`, `t.user("u", "A")`, `client.follow()`, `client.holds("d")`.
Channels and roles are words in one string; grants are `"u:A role:r:B"`, role grants `"u:r"`; either may say when it is
over, as in `"u:A@1500"`. A timeline begins at 1000.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import pytest

from gateway import limits
from gateway.errors import InvalidLogin
from gateway.feeds import page as page_module
from gateway.feeds.page import Page, Wanted
from gateway.feeds.viewer import viewer
from gateway.model.apply import Found, is_stale
from gateway.model.positions import ENDLESS, START, Position, parse_since
from gateway.model.routing import Routing
from gateway.resync.differences import Said as SaidAnew
from gateway.resync.differences import differences
from gateway.store import index as index_module
from gateway.store.protocol import (
    DatabaseState,
    DatabaseStore,
    FoundDocument,
    Index,
    MetadataStore,
    PrincipalChange,
    Publication,
)
from gateway.store.resync_protocol import ResyncJob
from tests.model.client import Client
from tests.model.oracle import INFINITY, Oracle, OracleLeaf, OracleRow, Place, Said
from tests.model.tree import Tree

T = TypeVar("T")

MANY = 10_000
# (channels merged by one compound query, first window of the windowed plan, rows read at once): the same page by all.
PLANS = ((24, 512, 1_001), (0, 2, 2))


@dataclass(frozen=True)
class Fetched:
    """What a client gets for one revision: the revision with its ancestors, as (rev, parent, deleted)."""

    path: tuple[tuple[str, str | None, bool], ...]


def said(channels: str = "", grants: str = "", roles: str = "") -> Said:
    given = [_grant(word, "channel") for word in grants.split()]
    members = [_grant(word, "role") for word in roles.split()]
    return Said(
        frozenset(channels.split()),
        frozenset((whom, channel) for (whom, _, channel), _ in given),
        frozenset((user, role) for (user, _, role), _ in members),
        frozenset((*key, end) for key, end in (*given, *members) if end is not None),
    )


def _grant(word: str, kind: str) -> tuple[tuple[str, str, str], float | None]:
    given, _, end = word.partition("@")
    whom, _, name = given.rpartition(":")
    return (whom, kind, name), float(end) if end else None


def _routing(said: Said) -> Routing:
    return Routing(
        *(said.channels, said.grants, said.roles),
        grant_ends=_ends(said, "channel"),
        role_ends=_ends(said, "role"),
    )


def _ends(said: Said, kind: str) -> frozenset[tuple[str, str, float]]:
    return frozenset((whom, name, end) for whom, its_kind, name, end in said.ends if its_kind == kind)


def _place(position: Position) -> Place:
    return (position.major, INFINITY if position.minor == ENDLESS else position.minor)


def _position(place: Place) -> Position:
    return Position(place[0]) if place[1] == INFINITY else Position(*place)


class Timeline:
    """`store` may have seen other databases before: each timeline has one of its own."""

    def __init__(self, runner: asyncio.Runner, store: MetadataStore, name: str) -> None:
        self._run = runner.get_loop().run_until_complete
        self.oracle = Oracle()
        self.trees: dict[str, Tree] = {}
        self.superseded: dict[tuple[str, str], OracleLeaf] = {}  # the last routing of revisions that were leaves
        self.first_readable: dict[str, dict[str, int]] = {}  # user -> document -> when first readable
        self.published: list[Publication] = []
        store.subscribe(lambda publication: self._published(name, publication))
        self.store: DatabaseStore = self._run(store.database(name))
        self._epoch = self.state().epoch
        self._names: dict[int, str] = {}
        self._handed_over = 0
        self._resyncs = 0

    def _published(self, name: str, publication: Publication) -> None:
        if publication.database == name:
            self.published.append(publication)

    def read(self, function: Callable[[Index], T]) -> T:
        return self._run(self.store.read(function))

    def run(self, awaitable: Awaitable[T]) -> T:
        """What is asked of the store's database by other parts than feeds."""
        return self._run(awaitable)

    def state(self) -> DatabaseState:
        return self._run(self.store.state())

    # Documents.

    def tree(self, doc: str) -> Tree:
        return self.trees.setdefault(doc, Tree(doc))

    def write(
        self,
        doc: str,
        channels: str = "",
        *,
        grants: str = "",
        roles: str = "",
        onto: str | None = None,
        branch: bool = False,
        deleted: bool = False,
        digest: str | None = None,
        quiet: bool = False,
        direct: bool = False,
        by: str | None = None,
    ) -> str:
        """A new revision over `onto`, else over the winner; with `branch` and no `onto` a new root.

        `quiet`: the index hears of it with the next change, as when CouchDB coalesces rows. `direct` (straight to
        CouchDB) and `by` (a user, who else is an administrator) make no difference to the index.
        """
        tree = self.tree(doc)
        parent = tree.replaced(onto, branch)
        rev = tree.grow(parent, said(channels, grants, roles), deleted=deleted, digest=digest)
        if not quiet:
            self.apply(doc)
        return rev

    def delete(
        self,
        doc: str,
        channels: str = "",
        *,
        onto: str | None = None,
        quiet: bool = False,
        direct: bool = False,
        by: str | None = None,
    ) -> str:
        return self.write(doc, channels, onto=onto, deleted=True, quiet=quiet, direct=direct, by=by)

    def purge(self, doc: str, *leaves: str, quiet: bool = False, direct: bool = False) -> None:
        """Purge these leaves with their branches, else all; `direct`: straight to CouchDB, as with `write`."""
        tree = self.tree(doc)
        for leaf in leaves or tree.leaves():
            tree.purge(leaf)
        if not quiet:
            self.apply(doc)

    def crash(self, *docs: str) -> None:
        """The gateway is killed and started again; meanwhile the quiet revisions of these documents were written."""
        if docs:
            self.apply(*docs)

    def found(self, doc: str, leaves: Iterable[str] | None = None, *, routed: bool = False) -> FoundDocument:
        """What a read upstream says now (or said when these were the leaves); `routed`: also routing that is known."""
        tree = self.tree(doc)
        document = self.oracle.documents.get(doc)
        known = () if document is None else document.leaves
        found = []
        for rev in tree.leaves() if leaves is None else leaves:
            revision = tree.revisions[rev]
            routing = _routing(revision.said)
            leaf = Found(rev, revision.deleted, tuple(tree.path(rev)[1:]), None)
            found.append((leaf, routing if routed or rev not in known else None, None))
        return FoundDocument(doc, found, tree.purged)

    def apply(self, *docs: str) -> None:
        """Tell the index what these documents are now, in one batch."""
        batch = [self.found(doc) for doc in docs]
        before = self.oracle.seq
        recorded = self._run(self.store.recorded(docs))
        expected_entries = {}
        with self._access_watched():
            for doc in docs:
                tree = self.trees[doc]
                leaves = [leaf for leaf, _, _ in self.found(doc).leaves]
                if doc in recorded and not tree.purged:
                    assert not is_stale(leaves, recorded[doc]), "news was taken for an old state"
                known = self.oracle.documents[doc].leaves if doc in self.oracle.documents else {}
                self.superseded.update({(doc, rev): leaf for rev, leaf in known.items()})
                at = self.oracle.seq
                self.oracle.apply(
                    doc,
                    {
                        rev: (tree.revisions[rev].deleted, tree.revisions[rev].said, tuple(tree.path(rev)[1:]))
                        for rev in tree.leaves()
                    },
                    purged=tree.purged,
                )
                tree.purged = False
                if self.oracle.seq > at:
                    self._remember_readable()
                    expected_entries[doc] = self.oracle.seq
            answer = self._run(self.store.apply(batch, upstream_since=f"up-{self.oracle.seq}", now=self.oracle.now))
        assert answer == {doc: frozenset(self.trees[doc].leaves()) for doc in docs}
        self._check_sequences(before)
        entries = [entry for publication in self.new() for entry in publication.entries]
        assert {entry.id: entry.seq for entry in entries} == expected_entries
        for entry in entries:
            self._check_entry(entry.id, entry.seq, entry.winner, entry.single, entry.live, entry.gone)

    def _check_entry(
        self, doc: str, seq: int, winner: str | None, single: bool, live: frozenset[int], gone: frozenset[int]
    ) -> None:
        document = self.oracle.documents[doc]
        now = document.winner()
        if not (live | gone) <= self._names.keys():
            self._names |= self.read(lambda index: index.channel_names(live | gone))
        names = self._names
        entries = {name: entry for name, entry in document.entries.items() if entry.seq == seq}
        assert winner == (now.rev if now else None)
        assert single == (len(document.leaves) == 1 and not document.purged)
        assert {names[channel] for channel in live} == {n for n, e in entries.items() if not (e.deleted or e.removed)}
        assert {names[channel] for channel in gone} == {n for n, e in entries.items() if e.deleted or e.removed}

    def replay(self, doc: str, leaves: Collection[str] | None = None) -> None:
        """A row that CouchDB sends again, with the leaves now or earlier ones: nothing happens (P7)."""
        state = self.state()
        self._handed_over = len(self.published)
        found = self.found(doc, leaves, routed=True)
        recorded = self._run(self.store.recorded([doc])).get(doc)
        if leaves is not None and recorded is not None and set(leaves) != set(recorded.leaves):
            assert is_stale([leaf for leaf, _, _ in found.leaves], recorded), "an old state was taken for news"
            return
        self._run(self.store.apply([found], upstream_since=None, now=self.oracle.now))
        assert self.state() == state
        assert self.new() == []

    def forget_superseded(self) -> None:
        """The grace time of everything superseded until now is over."""
        self._run(self.store.forget_superseded(1e12))
        self.superseded.clear()

    def resync(self, says: Callable[[str, str], Said], *, batch: int = 3) -> None:
        """Another sync function is in force, which `says` this of a revision of a document."""
        before = self.oracle.seq
        self._resyncs += 1
        source = f"function () {{}} // {self._resyncs}"
        version = self._run(self.store.want_sync(source, "api", 0.0)).number
        self._handed_over = len(self.published)
        for doc, tree in self.trees.items():
            for rev, revision in tree.revisions.items():
                tree.revisions[rev] = replace(revision, said=says(doc, rev))
        could = self._readable_leaves()
        with self._access_watched():
            self.oracle.resync(says)
            at = before + 1 if self.oracle.seq > before else before
            for key, leaf in self.superseded.items():
                if says(*key) != leaf.said:
                    self.superseded[key] = replace(leaf, said=says(*key), seq=at)
            self._remember_readable(at)
            self._run(self._resync(source, version, says, batch))
        assert self.state().sync_version == version
        for user, doc, rev in self._readable_leaves() - could:
            opened = {name for name, spans in self.oracle.intervals(user).items() if spans[-1][1] == INFINITY}
            assert opened & {*says(doc, rev).channels, "*"}, "readable by neither function, and readable now"
        self._check_sequences(before)
        told = [entry for publication in self.new() for entry in publication.entries]
        moved = {
            doc: document.entries["*"].seq
            for doc, document in self.oracle.documents.items()
            if "*" in document.entries and document.entries["*"].seq > before
        }
        assert {entry.id: entry.seq for entry in told} == moved
        for entry in told:
            self._check_entry(entry.id, entry.seq, entry.winner, entry.single, entry.live, entry.gone)

    def _readable_leaves(self) -> set[tuple[str, str, str]]:
        """(user, document, revision) of every leaf, superseded ones too, that a user may read."""
        leaves = dict(self.superseded)
        for doc, document in self.oracle.documents.items():
            leaves |= {(doc, rev): leaf for rev, leaf in document.leaves.items()}
        return {
            (user, *key) for user in self.users() for key, leaf in leaves.items() if self.oracle.readable(user, leaf)
        }

    async def _resync(self, source: str, version: int, says: Callable[[str, str], Said], size: int) -> None:
        store = self.store.resync
        await store.begin(ResyncJob(version, source, source, False, "running", -1, False, 0.0))
        while not await store.clear(2):
            pass
        cursor = 0
        while batch := await store.batch(cursor, size):
            cursor = batch[-1].seq
            found = []
            for one in batch:
                answers = {leaf.rev: says(one.id, leaf.rev) for leaf in one.leaves}
                found.append(differences(one, {rev: SaidAnew(_routing(its)) for rev, its in answers.items()}))
            await store.put(found, cursor)
        assert await store.apply(version, self.oracle.now)

    # Time.

    def wait(self, until: float) -> None:
        """The clock goes on; nobody's access changes by that."""
        self.oracle.now = until

    def expire(self, until: float | None = None) -> None:
        """The end of every grant that is over is committed, now or at a later time."""
        if until is not None:
            self.wait(until)
        before = self.oracle.seq
        with self._access_watched():
            count = self.oracle.end_grants()
            self._remember_readable()
            assert self._run(self.store.end_grants(self.oracle.now, MANY)) == count
        self._check_sequences(before)
        assert self._run(self.store.next_grant_end()) == min(self.oracle.ends.values(), default=None)

    # Principals.

    def user(self, name: str, channels: str = "", roles: str = "", *, file: bool = False) -> None:
        """`file`: by the config file, which makes no difference to the index."""
        self._put("user", name, name, set(channels.split()), set(roles.split()))

    def role(self, name: str, channels: str = "", *, file: bool = False) -> None:
        self._put("role", name, f"role:{name}", set(channels.split()), set())

    def _put(self, kind: str, name: str, principal: str, channels: set[str], roles: set[str]) -> None:
        before, existed = self.oracle.seq, self.oracle.exists(principal)
        with self._access_watched():
            self.oracle.put(principal, channels, roles)
            self._remember_readable()
            change = PrincipalChange({}, channels, roles)
            created = self._run(self.store.put_principal("user" if kind == "user" else "role", name, change))
        assert created is not existed
        self._check_sequences(before)

    def drop_user(self, name: str, *, file: bool = False) -> None:
        self._drop("user", name, name)

    def drop_role(self, name: str, *, file: bool = False) -> None:
        self._drop("role", name, f"role:{name}")

    def _drop(self, kind: str, name: str, principal: str) -> None:
        before = self.oracle.seq
        with self._access_watched():
            self.oracle.delete(principal)
            self._run(self.store.delete_principal("user" if kind == "user" else "role", name))
        self._check_sequences(before)

    def users(self) -> list[str]:
        """All users that live."""
        return [name for name in self.oracle.lives if not name.startswith("role:") and self.oracle.exists(name)]

    # What must hold after every step.

    def _check_sequences(self, before: int) -> None:
        new = self.new()
        if self.oracle.seq == before:
            assert new == [], "a transaction that took no sequence was published"
        else:
            assert [(one.first_seq, one.last_seq) for one in new] == [(before + 1, self.oracle.seq)]

    def new(self) -> list[Publication]:
        """What was published by the latest transaction."""
        return self.published[self._handed_over :]

    def _access_watched(self) -> _AccessWatch:
        self._handed_over = len(self.published)
        return _AccessWatch(self)

    def _remember_readable(self, at: int | None = None) -> None:
        for user in self.users():
            for doc in self.oracle.contents(user):
                self.first_readable.setdefault(user, {}).setdefault(doc, self.oracle.seq if at is None else at)

    # Reading.

    def page(
        self,
        user: str,
        since: Position = START,
        limit: int = MANY,
        *,
        revocations: bool = True,
        channels: Collection[str] | None = None,
        doc_ids: Collection[str] | None = None,
    ) -> Page:
        """One page of the real code by every plan; equal to the oracle's, to the pending count and to P3, P4, P5."""
        wanted = Wanted(limit, revocations=revocations, pending=True, doc_ids=doc_ids)
        pages = self.pages(user, since, wanted, channels)
        assert all(page == pages[0] for page in pages[1:]), "plans disagree"
        page = pages[0]
        all_rows = self.oracle_rows(user, since, revocations=revocations, channels=channels)
        if doc_ids is not None:
            all_rows = [row for row in all_rows if row.doc in doc_ids]
        rows = all_rows[:limit]
        real = [OracleRow(_place(row.position), row.id, row.revs, row.kind, row.reset) for row in page.rows]
        assert real == rows
        more = len(all_rows) > len(rows)
        assert page.last == (_position(rows[-1].place) if more else Position(self.oracle.seq))
        assert page.pending == min(len(all_rows) - len(rows), limits.PENDING_COUNT + 1)
        self._check_rows(user, since, page, revocations)
        return page

    def pages(
        self, user: str, since: Position, wanted: Wanted, channels: Collection[str] | None = None
    ) -> Sequence[Page]:
        """The page by every plan, all in one snapshot."""

        def read(index: Index) -> list[Page]:
            found = []
            who = viewer(index, user, channels)
            for compound, window, chunk in PLANS:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(index_module, "COMPOUND_CHANNELS", compound)
                    patch.setattr(index_module, "FIRST_WINDOW", window)
                    patch.setattr(page_module, "CHUNK", chunk)
                    found.append(page_module.page(index, who, since, wanted))
            return found

        return self.read(read)

    def oracle_rows(
        self, user: str, since: Position, *, revocations: bool, channels: Collection[str] | None = None
    ) -> list[OracleRow]:
        asked = None if channels is None else set(channels)
        return self.oracle.page(user, _place(since), MANY, revocations=revocations, channels=asked)[0]

    def _check_rows(self, user: str, since: Position, page: Page, revocations: bool) -> None:
        last = since
        for row in page.rows:
            assert row.position > last, "P4: positions do not increase"
            last = row.position
            assert row.revs or (revocations and row.kind == "loss")
            for rev in row.revs:
                assert self.oracle.can_fetch(user, row.id, rev), "P3: a listed revision cannot be fetched"
            if row.kind != "live":
                had = self.first_readable.get(user, {}).get(row.id, INFINITY)
                assert had <= since.major, "P5: told of a document that was not readable before"
        assert page.last >= last

    def fetch(self, user: str, doc: str, *revs: str) -> list[Fetched | None]:
        """Revisions with their ancestors; None, missing, for what is no leaf, and was none, that the user may read."""

        def read(index: Index) -> set[str]:
            document = index.find([doc])[doc].document
            who = viewer(index, user)
            return {leaf.rev for leaf in who.readable(index.leaves([document], superseded=True)[document])}

        readable = self.read(read)
        tree = self.trees[doc]
        found: list[Fetched | None] = []
        for rev in revs:
            leaf = self.oracle.documents[doc].leaves.get(rev) or self.superseded.get((doc, rev))
            assert (rev in readable) == (leaf is not None and self.oracle.readable(user, leaf))
            if rev in readable and rev in tree.revisions:
                path = [tree.revisions[at] for at in tree.path(rev)]
                found.append(Fetched(tuple((one.rev, one.parent, one.deleted) for one in path)))
            else:
                found.append(None)
        return found

    def visible(self, user: str, channels: Collection[str] | None = None) -> dict[str, str]:
        """document -> winner of all that the user can read alive, through a channel filter or not."""
        contents = self.oracle.contents(user)
        if channels is None:
            return contents
        held = self.oracle.intervals(user, set(channels))
        opened = {name for name, spans in held.items() if spans[-1][1] == INFINITY}
        leaves = {doc: self.oracle.documents[doc].leaves[rev] for doc, rev in contents.items()}
        return {doc: leaf.rev for doc, leaf in leaves.items() if opened & (leaf.said.channels | {"*"})}

    def is_gone(self, user: str) -> bool:
        """Whether a read for this user is refused."""
        try:
            self.read(lambda index: viewer(index, user))
        except InvalidLogin:
            return True
        return False

    def on_the_wire(self, position: Position) -> Position:
        """The position after a round trip to a client."""
        since = parse_since(position.encode(self._epoch))
        assert since is not None
        return since.within(self._epoch, self.oracle.seq)

    def client(self, user: str, *, revocations: bool = True, channels: str | None = None) -> Client:
        return Client(self, user, revocations, None if channels is None else channels.split())


class _AccessWatch:
    """Around one transaction: every user whose intervals change must be named by its publication (A17)."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline

    def __enter__(self) -> None:
        self._before = {user: self._timeline.oracle.intervals(user) for user in self._timeline.users()}

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is not None:
            return
        touched = {user for one in self._timeline.new() for user in one.users}
        for user in self._timeline.users():
            if self._timeline.oracle.intervals(user) != self._before.get(user):
                assert user in touched, f"the access of {user} changed and nobody was told"
