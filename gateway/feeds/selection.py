"""`filter=_selector`: which rows of a feed match, by the bodies of the revisions that they name."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from gateway import limits
from gateway.couch.revision_cache import RevisionReader, StoredRevision
from gateway.couch.upstream import RevisionRef
from gateway.errors import UnreadableDocument
from gateway.feeds.page import Row
from gateway.mango.matching import Matching
from gateway.mango.selector import selector

log = logging.getLogger(__name__)


class Selection:
    """The selector of one feed.

    As in CouchDB it looks at the winner, with `style=all_docs` at each leaf by itself, deleted ones too; here at those
    that may be read. A row that names no revision (a loss) always passes.
    """

    def __init__(
        self, given: Mapping[str, Any], reader: RevisionReader, matching: Matching, *, all_leaves: bool
    ) -> None:
        self._given = given
        self._reader = reader
        self._matching = matching
        self._all_leaves = all_leaves

    async def passing(self, rows: Sequence[Row]) -> list[tuple[str, ...] | None]:
        """For each row the revisions to tell, None to leave it out.

        Raises what reading bodies raises: a row must not be skipped because its body cannot be had.
        """
        wanted = [(at, rev) for at, row in enumerate(rows) for rev in (row.revs if self._all_leaves else row.revs[:1])]
        matched: list[list[str]] = [[] for _ in rows]
        for start in range(0, len(wanted), limits.SELECTOR_BATCH_DOCUMENTS_COUNT):
            batch = wanted[start : start + limits.SELECTOR_BATCH_DOCUMENTS_COUNT]
            for at, rev in await self._matching_revisions(rows, batch):
                matched[at].append(rev)
        passed: list[tuple[str, ...] | None] = []
        for row, revs in zip(rows, matched, strict=True):
            if not row.revs:
                passed.append(())
            elif not revs:
                passed.append(None)
            else:
                passed.append(tuple(revs) if self._all_leaves else row.revs)
        return passed

    async def _matching_revisions(self, rows: Sequence[Row], batch: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
        async with self._matching.turn():
            stored = await self._reader.revisions_each([RevisionRef(rows[at].id, rev) for at, rev in batch])

            def match() -> list[tuple[int, str]]:
                matches = selector(self._given)
                found = []
                for (at, rev), body in zip(batch, stored, strict=True):
                    if not isinstance(body, StoredRevision):
                        continue  # replaced and gone: the row of its successor follows
                    doc = body.document(revisions=False)
                    if not self._all_leaves and len(rows[at].revs) > 1:
                        doc["_conflicts"] = list(rows[at].revs[1:])
                    if matches(doc):
                        found.append((at, rev))
                return found

            for body in stored:
                if isinstance(body, UnreadableDocument):
                    log.warning("a feed passes over a document that cannot be read: %s", body.reason)
            return await self._matching.run(match)
