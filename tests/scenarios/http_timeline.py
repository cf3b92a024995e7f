"""A timeline that is told to a running gateway as well, over HTTP, and read there by every kind of feed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import pytest

from gateway.feeds.page import Page, Row
from gateway.model.positions import START, Position
from gateway.store.protocol import MetadataStore
from tests.model.client import Client
from tests.model.oracle import INFINITY
from tests.model.timeline import MANY, Fetched, Timeline, said
from tests.scenarios.remote import Branch, Json, Remote, body_of
from tests.scenarios.running import KINDS, RunningFeed
from tests.scenarios.served import Served

WITH_DOCUMENTS = ("eventsource", "websocket")  # running feeds with `include_docs`


@dataclass
class Ear:
    """Feeds that run as long as their user lives. `since` is up to where they must have told everything."""

    user: str
    revocations: bool
    channels: Collection[str] | None
    kinds: Sequence[str]
    since: Position = START
    # Nothing was to be told at these positions, so whether a feed has noticed them is not known.
    perhaps: list[Position] = field(default_factory=list)
    feeds: list[RunningFeed] = field(default_factory=list)


class HttpTimeline(Timeline):
    """What the store and the oracle agree on, the gateway must answer too.

    `kinds_of` says which feeds run for the n-th client. Revisions that a write through HTTP makes have the ids that the
    gateway gave them; all others keep their own.
    """

    def __init__(
        self,
        runner: asyncio.Runner,
        store: MetadataStore,
        served: Served,
        name: str,
        kinds_of: Callable[[int], Sequence[str]] = lambda _: KINDS,
    ) -> None:
        super().__init__(runner, store, name)
        self._served = served
        self.remote = Remote(served, name)
        self._untold: dict[str, list[str]] = {}  # revisions that are not written yet
        self._ears: list[Ear] = []
        self._kinds_of = kinds_of
        self._clients = itertools.count()
        self.run(self.remote.begin())

    def check_the_end(self) -> None:
        """What users can list, and that feeds told nothing else."""
        for user in self.users():
            assert self.run(self.remote.contents(user)) == self.oracle.contents(user)
        if self._ears:
            self.write("the-end", "!")

    def discard(self) -> None:
        """The database is deleted."""
        self._close_feeds()
        self._ears.clear()
        self.run(self._served.forget(self.remote.database))

    def _close_feeds(self) -> None:
        for ear in self._ears:
            for feed in ear.feeds:
                feed.close()
            ear.feeds = []

    # Documents.

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
        """As an ordinary edit where it is one, else by `new_edits=false`; `quiet` revisions go straight to CouchDB
        together with the next, so that no row tells of them."""
        parent = self.tree(doc).replaced(onto, branch)
        is_edit = digest is None and not quiet and doc not in self._untold and self._can_be_edited(doc, parent, deleted)
        if is_edit:
            routing = said(channels, grants, roles)
            write = self.remote.write(doc, parent, routing, deleted=deleted, direct=direct, by=by)
            digest = self.run(write).partition("-")[2]
        else:
            assert by is None, "only an ordinary edit can be a user's"
        rev = super().write(
            doc,
            channels,
            grants=grants,
            roles=roles,
            onto=parent,
            branch=parent is None,
            deleted=deleted,
            digest=digest,
            quiet=True,
        )
        if not is_edit:
            self._untold.setdefault(doc, []).append(rev)
        if not quiet:
            self._apply(doc, direct=direct)
        return rev

    def _can_be_edited(self, doc: str, parent: str | None, deleted: bool) -> bool:
        tree = self.tree(doc)
        if parent is None:
            return not tree.revisions and not deleted
        leaves = tree.leaves()
        if parent not in leaves:
            return False
        if tree.revisions[parent].deleted:
            return not deleted and all(tree.revisions[leaf].deleted for leaf in leaves) and parent == leaves[0]
        return True

    def apply(self, *docs: str) -> None:
        """One document after the other: of a batch the router may read any part first."""
        for doc in docs:
            self._apply(doc, direct=False)

    def _apply(self, doc: str, *, direct: bool) -> None:
        untold = self._untold.pop(doc, [])
        direct = direct or len(untold) > 1
        if untold:
            self.run(self.remote.replicate(doc, self._branches(doc, untold), direct=direct))
        super().apply(doc)
        self._settle(at_once=not direct)

    def _branches(self, doc: str, revs: Sequence[str]) -> list[Branch]:
        tree = self.tree(doc)
        return [(tree.path(rev), tree.revisions[rev].said, tree.revisions[rev].deleted) for rev in revs]

    def purge(self, doc: str, *leaves: str, quiet: bool = False, direct: bool = False) -> None:
        """Never quietly. An administrator's is answered when it is routed, `direct` is seen within some seconds."""
        if doc in self._untold:
            self._apply(doc, direct=False)
        purged = list(leaves) or self.tree(doc).leaves()
        if purged:
            self.run(self.remote.purge(doc, purged, direct=direct))
        super().purge(doc, *leaves, quiet=True)
        super().apply(doc)
        self._settle(at_once=not direct)

    def crash(self, *docs: str) -> None:
        self._close_feeds()
        self.run(self._served.kill())
        for doc in docs:
            if untold := self._untold.pop(doc, []):
                self.run(self.remote.replicate(doc, self._branches(doc, untold), direct=True))
        self.run(self._served.start())
        super().apply(*docs)
        self._settle(at_once=False)

    def send_again(self, doc: str) -> None:
        """The leaves once more, through the gateway and past it: nothing happens (P7)."""
        branches = self._branches(doc, self.tree(doc).leaves())
        for direct in (False, True):
            self.run(self.remote.replicate(doc, branches, direct=direct))
            self._settle()

    def forget_superseded(self) -> None:
        pytest.skip("the grace time of a gateway is ten minutes")

    # Principals.

    def user(self, name: str, channels: str = "", roles: str = "", *, file: bool = False) -> None:
        self._change("user", name, channels.split(), roles.split(), file=file)
        super().user(name, channels, roles)
        self._settle()

    def role(self, name: str, channels: str = "", *, file: bool = False) -> None:
        self._change("role", name, channels.split(), (), file=file)
        super().role(name, channels)
        self._settle()

    def _change(self, kind: str, name: str, channels: Sequence[str], roles: Sequence[str], *, file: bool) -> None:
        self.run(self.remote.put(kind, name, set(channels), set(roles), file=file))

    def drop_user(self, name: str, *, file: bool = False) -> None:
        self.run(self.remote.drop("user", name, file=file))
        super().drop_user(name)
        self._settle()

    def drop_role(self, name: str, *, file: bool = False) -> None:
        self.run(self.remote.drop("role", name, file=file))
        super().drop_role(name)
        self._settle()

    # What must hold after every step.

    def _settle(self, *, at_once: bool = True) -> None:
        async def settle() -> None:
            await self.remote.reach(self.oracle.seq, at_once=at_once)
            await asyncio.gather(*(self._hear(ear) for ear in self._ears))

        self.run(settle())

    async def _hear(self, ear: Ear) -> None:
        """What came must be told by all feeds of a client now, and nothing else."""
        if not self.oracle.exists(ear.user):
            for feed in ear.feeds:
                await feed.refused()
                feed.close()
            ear.feeds = []
            return
        if not ear.feeds:
            ear.perhaps.clear()
            for kind in ear.kinds:
                feed = await self.remote.follow(
                    ear.user,
                    kind,
                    ear.since,
                    revocations=ear.revocations,
                    channels=ear.channels,
                    include_docs=kind in WITH_DOCUMENTS,
                )
                ear.feeds.append(feed)
        rows = self._expected(ear, ear.since)
        for kind, feed in zip(ear.kinds, ear.feeds, strict=True):
            found = await feed.take(len(rows)) if rows else []
            docs = [row.pop("doc") for row in found if "doc" in row]
            told = self.remote.rows(found)
            if kind in WITH_DOCUMENTS:
                self._check_documents(told, docs)
            if told != rows:
                allowed = [self._expected(ear, since) for since in ear.perhaps]
                assert told in (rows, *allowed), f"a {kind} feed told something else"
        ear.perhaps = [] if rows else [*ear.perhaps, ear.since]
        ear.since = Position(self.oracle.seq)

    def _expected(self, ear: Ear, since: Position) -> list[tuple[object, ...]]:
        found = self.oracle_rows(ear.user, since, revocations=ear.revocations, channels=ear.channels)
        rows: list[tuple[object, ...]] = []
        for row in found:
            major, minor = row.place
            place = Position(major) if minor == INFINITY else Position(major, minor)
            rows.append((place, row.doc, row.revs, row.kind, row.reset))
        return rows

    # Reading.

    def client(self, user: str, *, revocations: bool = True, channels: str | None = None) -> Client:
        """Its feeds run from now on, from the very beginning."""
        client = super().client(user, revocations=revocations, channels=channels)
        ear = Ear(user, revocations, client.channels, self._kinds_of(next(self._clients)))
        self._ears.append(ear)
        self.run(self._hear(ear))
        return client

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
        """What the gateway answers, equal to what the store says."""
        expected = super().page(user, since, limit, revocations=revocations, channels=channels, doc_ids=doc_ids)
        asking = self.remote.page(user, since, limit, revocations=revocations, channels=channels, doc_ids=doc_ids)
        page, docs = self.run(asking)
        assert page == expected
        self._check_documents(page.rows, docs)
        return page

    def _check_documents(self, rows: Sequence[Row], docs: Sequence[Json]) -> None:
        """Each row that names revisions came with the first of them."""
        assert [(doc["_id"], doc["_rev"]) for doc in docs] == [(row.id, row.revs[0]) for row in rows if row.revs]
        for doc in docs:
            self._check_body(doc)

    def fetch(self, user: str, doc: str, *revs: str) -> list[Fetched | None]:
        expected = super().fetch(user, doc, *revs)
        got = self.run(self.remote.fetch(user, doc, revs))
        assert [body is not None for body in got] == [one is not None for one in expected]
        for body, one in zip(got, expected, strict=True):
            if body is not None and one is not None:
                revisions = body.pop("_revisions")
                path = [f"{revisions['start'] - at}-{digest}" for at, digest in enumerate(revisions["ids"])]
                assert path == [rev for rev, _, _ in one.path]
                self._check_body(body)
        return expected

    def _check_body(self, body: Json) -> None:
        """It is the one that was written as this revision."""
        doc, rev = body.pop("_id"), body.pop("_rev")
        revision = self.tree(doc).revisions.get(rev)
        assert revision is not None
        assert body.pop("_deleted", False) == revision.deleted
        assert body == body_of(revision.said)

    def is_gone(self, user: str) -> bool:
        gone = super().is_gone(user)
        assert self.run(self.remote.is_gone(user)) is gone
        return gone
