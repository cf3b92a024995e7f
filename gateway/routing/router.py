"""The router: the one task of a database that follows the upstream's changes and writes the routing index.

A row is only a hint that a document changed (W9). Rows are taken in batches, each applied in one transaction together
with the upstream position, so that a crash at any instruction loses and doubles nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from gateway import limits
from gateway.couch.revision_cache import RevisionCache
from gateway.couch.upstream import ChangeRow, DatabaseInfo, Identity, UpstreamDatabase
from gateway.errors import GatewayError, NotFound, UpstreamError, UpstreamRefused, UpstreamUnreachable
from gateway.routing.imports import Imports
from gateway.routing.ledger import Ledger
from gateway.routing.resolve import RefusedRow, Resolver, RowHint
from gateway.store.protocol import DatabaseStore

log = logging.getLogger(__name__)
# Recorded while the index is reconciled with another upstream: after a crash in the middle it is done again.
_RECONCILING = Identity("", "reconciling")


@dataclass(slots=True)
class RouterStatus:
    """What the operator is told. `caught_up` means: everything that was upstream at the last connect is routed."""

    state: str = "starting"
    caught_up: bool = False
    problem: str | None = None
    upstream_since: str = "0"
    routed_count: int = 0
    foreign_refused_count: int = 0
    not_imported_count: int = 0  # leaves found since the start
    refused: Sequence[RefusedRow] = ()  # the last of them


def leading_number(seq: str) -> int:
    """The number that CouchDB's opaque sequences begin with; 0 where there is none."""
    digits = seq.partition("-")[0]
    return int(digits) if digits.isdigit() else 0


def purges_moved(before: str, now: str) -> bool:
    """Whether anything was purged between these two `purge_seq`.

    Of one state CouchDB has several: it packs its shards in the order in which they answer. Their sum stays.
    """
    if before == now:
        return False
    counted = before.partition("-")[0].isdigit() and now.partition("-")[0].isdigit()
    return not counted or leading_number(before) != leading_number(now)


def _is_routed(doc: str) -> bool:
    return not doc.startswith(("_design/", "_local/"))


class Router:
    """Start it with `start()`, end it with `stop()`. Owns nothing but its task."""

    def __init__(
        self,
        name: str,
        store: DatabaseStore,
        upstream: UpstreamDatabase,
        resolver: Resolver,
        ledger: Ledger,
        cache: RevisionCache,
        imports: Imports,
    ) -> None:
        self.name = name
        self.status = RouterStatus()
        self._store = store
        self._upstream = upstream
        self._resolver = resolver
        self._ledger = ledger
        self._cache = cache
        self._imports = imports
        self._task: asyncio.Task[None] | None = None
        self._identity: Identity | None = None
        self._target = 0
        self._caught_up = asyncio.Event()
        self._purge_check = asyncio.Lock()
        self._applying = asyncio.Lock()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"router:{self.name}")

    async def stop(self) -> None:
        """End the task; a batch that is being committed is committed or not, both are right."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[None]:
        """Nothing is routed within this block: what was begun is recorded, what comes waits."""
        async with self._applying:
            yield

    async def wait_caught_up(self) -> None:
        """Until everything that was upstream at the last connect is routed."""
        await self._caught_up.wait()

    async def _run(self) -> None:
        pause = limits.UPSTREAM_RETRY_FIRST_SECONDS
        while True:
            started = time.monotonic()
            try:
                await self._follow()
            except GatewayError as error:
                unreachable = isinstance(error, (UpstreamError, NotFound))
                self.status.state = "upstream_unreachable" if unreachable else "failing"
                self.status.problem = error.explained if isinstance(error, UpstreamError) else error.reason
                log.warning("database %s: %s; trying again", self.name, self.status.problem)
                if isinstance(error, UpstreamRefused):
                    # CouchDB locks a login out after a few wrong ones (chttpd_auth_lockout): rather ask seldom.
                    pause, started = limits.UPSTREAM_RETRY_LAST_SECONDS, time.monotonic()
            except Exception:
                # The router must never die: without it nothing is routed, and every write would wait in vain.
                self.status.state, self.status.problem = "failing", "the router failed; the log says more"
                log.exception("database %s: the router failed; trying again", self.name)
            if time.monotonic() - started > limits.UPSTREAM_RETRY_LAST_SECONDS:
                pause = limits.UPSTREAM_RETRY_FIRST_SECONDS
            await asyncio.sleep(pause)
            pause = min(pause * 2, limits.UPSTREAM_RETRY_LAST_SECONDS)

    async def _follow(self) -> None:
        since = await self._connect()
        self.status.state, self.status.problem = "online", None
        rows: list[tuple[int, ChangeRow]] = []
        idle_since = kept_house_at = time.monotonic()
        async with aclosing(self._upstream.changes(since)) as feed:
            async for item in feed:
                if isinstance(item, ChangeRow):
                    rows.append((self._ledger.moment(), item))
                    if len(rows) < limits.ROUTER_BATCH_ROWS_COUNT:
                        continue
                if rows:
                    await self._apply(rows)
                    rows = []
                    idle_since = time.monotonic()
                elif time.monotonic() - idle_since > limits.UPSTREAM_HEARTBEAT_SECONDS / 2:
                    await self._look_ahead()
                if time.monotonic() - kept_house_at >= limits.ROUTER_HOUSEKEEPING_SECONDS:
                    kept_house_at = time.monotonic()
                    await self._housekeeping()

    async def _connect(self) -> str:
        """Check that this is the database that is recorded, before any of its rows is applied (W8)."""
        state = await self._store.state()
        self._identity = identity = await self._upstream.identity()
        info = await self._upstream.info()
        since = state.upstream_since
        replaced = state.identity is not None and state.identity != identity
        behind = leading_number(info.update_seq) < leading_number(since)
        if replaced or behind:
            why = "was replaced by another" if replaced else f"went back to {info.update_seq[:20]}"
            log.warning("database %s: the upstream database %s; routing is reconciled with it", self.name, why)
            self.status.state = "upstream_replaced"
            self._cache.drop_database(self._upstream.name)
            await self._store.remember(identity=_RECONCILING)
            await self._imports.forget()
            await self._reconcile()
            since = "0"
        if replaced or behind or state.identity is None:
            await self._store.apply([], upstream_since=since, now=time.time())
            await self._store.remember(identity=identity, purge_seq=info.purge_seq)
        else:
            await self.check_purges(info)
        await self._imports.follow(lambda ids: self.route_again(ids, authoritative=False))
        self.status.upstream_since = since
        self._target = leading_number(info.update_seq)
        self.status.caught_up = False
        self._caught_up.clear()
        self._note_progress(since)
        return since

    def _note_progress(self, since: str) -> None:
        self.status.upstream_since = since
        if leading_number(since) >= self._target:
            self._be_caught_up()

    async def _look_ahead(self) -> None:
        """Nothing came for a while: sequences moved without rows, or the upstream is slow to find them."""
        if not self.status.caught_up and not await self._upstream.has_changes(self.status.upstream_since):
            self._be_caught_up()

    def _be_caught_up(self) -> None:
        self.status.caught_up = True
        self._caught_up.set()

    async def _apply(self, rows: Sequence[tuple[int, ChangeRow]]) -> None:
        """Apply a batch of rows with the moments they came at, at most one for each document: the last."""
        hints = {row.id: RowHint(row.id, row.revs, moment) for moment, row in rows if _is_routed(row.id)}
        seqs = [row.seq for _, row in rows if row.seq is not None]
        since = seqs[-1] if seqs else None
        await self._apply_hints(list(hints.values()), since)
        if since is not None:
            self._note_progress(since)

    async def _apply_hints(self, hints: Sequence[RowHint], since: str | None, *, authoritative: bool = False) -> None:
        async with self._applying:
            await self._ledger.settle({hint.id: hint.seen_at for hint in hints})
            resolved = await self._resolver.resolve(hints, authoritative=authoritative)
            answer = resolved.known
            if resolved.found or since is not None:
                answer |= await self._store.apply(resolved.found, upstream_since=since, now=time.time())
        for one in resolved.found:
            if one.purged:
                self._cache.drop(self._upstream.name, one.id)
        self.status.routed_count += len(resolved.found)
        self.status.refused = tuple(self._resolver.refused)
        self.status.foreign_refused_count = self._resolver.refused_count
        self.status.not_imported_count = self._imports.refused_count
        for doc, leaves in answer.items():
            self._ledger.applied(doc, resolved.seen_at[doc], leaves)

    async def _housekeeping(self) -> None:
        self._ledger.expire()
        if self.status.caught_up:
            await self._imports.forget_own()
        await self._store.forget_superseded(time.time() - limits.SUPERSEDED_GRACE_SECONDS)
        info = await self._upstream.info()
        if self._identity is not None and info.instance_start_time != self._identity.instance_start_time:
            raise UpstreamUnreachable("the upstream database is another one now")
        await self.check_purges(info)

    async def check_purges(self, info: DatabaseInfo) -> None:
        """Purges have no row of their own: when purge_seq moved, read again what was purged (W7)."""
        async with self._purge_check:
            state = await self._store.state()
            if not purges_moved(state.purge_seq, info.purge_seq):
                return
            ids = sorted({doc for doc, _ in await self._upstream.purged()})
            await self.route_again(ids)
            await self._store.remember(purge_seq=info.purge_seq)

    async def route_again(self, ids: Sequence[str], *, authoritative: bool = True) -> None:
        """Read these documents upstream and make what is found the recorded state."""
        routed = [doc for doc in ids if _is_routed(doc)]
        for start in range(0, len(routed), limits.ROUTER_BATCH_ROWS_COUNT):
            chunk = routed[start : start + limits.ROUTER_BATCH_ROWS_COUNT]
            hints = [RowHint(doc, None, self._ledger.moment()) for doc in chunk]
            await self._apply_hints(hints, None, authoritative=authoritative)

    async def _reconcile(self) -> None:
        """Compare every recorded document with the upstream; those that are not there become ghosts (A11)."""
        after = ""
        while ids := await self._store.recorded_ids(after, limits.ROUTER_BATCH_ROWS_COUNT):
            await self.route_again(ids)
            after = ids[-1]
