"""The documents of one `_bulk_docs`: checked as CouchDB does, and sorted by who stores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.couch.upstream import Document
from gateway.errors import TooLarge
from gateway.model.drafts import DocumentIdTooLong, Draft, check_id, draft
from gateway.pauses import Pauses
from gateway.queries import Outcome


@dataclass(frozen=True, slots=True)
class Batch:
    """Each document with its place in the request."""

    drafts: list[tuple[int, Draft]] = field(default_factory=list)  # those that are routed
    local: list[tuple[int, Document]] = field(default_factory=list)
    designs: list[tuple[int, Document]] = field(default_factory=list)
    refused: dict[int, Outcome] = field(default_factory=dict)


async def sort_out(docs: Sequence[Any], *, new_edits: bool) -> Batch:
    """As in CouchDB, one malformed document refuses them all, before anything is written: raises BadRequest,
    InvalidDocument, InvalidDocumentId, TooLarge. But a replicator, which would send it again and again, is told of a
    single document that passes a limit. Others have their turns in the event loop meanwhile."""
    batch = Batch()
    pauses = Pauses()
    for at, doc in enumerate(docs):
        await pauses.when_due()
        doc_id = doc.get("_id") if isinstance(doc, dict) else None
        if isinstance(doc_id, str) and doc_id.startswith("_local/"):
            check_id(doc_id)
            batch.local.append((at, doc))
            continue
        try:
            drafted = draft(doc, new_edits=new_edits)
        except (DocumentIdTooLong, TooLarge) as error:
            if new_edits:
                raise
            batch.refused[at] = Outcome(str(doc_id), error=error)
            continue
        if drafted.id.startswith("_design/"):
            batch.designs.append((at, doc))
        else:
            batch.drafts.append((at, drafted))
    return batch
