"""Revisions with their attachments behind them: the parts of multipart answers, streamed from the upstream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from gateway import limits
from gateway.callers import Caller
from gateway.couch.revision_stream import AttachmentOptions, document_of, open_revision
from gateway.couch.upstream import Document, RevisionRef, UpstreamDatabase, UpstreamResponse
from gateway.documents import Documents, Wanted, complete
from gateway.errors import NotFound
from gateway.json_text import encode, parse
from gateway.multipart import Following, MultipartReader, Related, boundary_of
from gateway.queries import BulkGetItem, DocumentQuery, RevisionPart

_JSON = "application/json"


class RevisionParts:
    """Multipart reads of one database. Which revisions a caller gets is decided by Documents, as for every read."""

    def __init__(self, documents: Documents, upstream: UpstreamDatabase) -> None:
        self._documents = documents
        self._upstream = upstream

    async def related(self, caller: Caller, doc_id: str, query: DocumentQuery) -> RevisionPart | Document:
        """The revision as multipart/related with its attachments behind it; just a document when none follows."""
        ref, doc, meta = await self._documents.open(caller, doc_id, query)
        if not doc.get("_attachments"):
            return complete(doc, meta, revs=query.revs)
        options = AttachmentOptions(data=True, since=query.atts_since)
        response = await self._stream(ref, options, revs=query.revs)
        if response is None:
            raise NotFound
        part = _streamed(ref, response)
        if not part.content_type.startswith("multipart/"):
            return complete(await document_of(ref, response), meta, revs=query.revs)
        return await _with_meta(part, meta) if meta else part

    async def open_revs(self, caller: Caller, doc_id: str, query: DocumentQuery) -> AsyncIterator[RevisionPart]:
        """The same as parts of a multipart answer, each with its attachments behind it."""
        wanted = await self._documents.wanted_revs(caller, doc_id, query)
        return self._parts(wanted, revs=query.revs)

    async def bulk_get(
        self, caller: Caller, items: Sequence[BulkGetItem], *, revs: bool, latest: bool
    ) -> AsyncIterator[RevisionPart]:
        """The same as parts of a multipart answer, each with its attachments behind it."""
        chosen = await self._documents.chosen(caller, items, latest=latest)
        return self._parts([one for some in chosen for one in some], revs=revs)

    async def _parts(self, wanted: Sequence[Wanted], *, revs: bool) -> AsyncIterator[RevisionPart]:
        for start in range(0, len(wanted), limits.UPSTREAM_BATCH_ATTACHMENTS_COUNT):
            some = wanted[start : start + limits.UPSTREAM_BATCH_ATTACHMENTS_COUNT]
            refs = list(dict.fromkeys(one.ref for one in some if one.ref is not None))
            docs = dict(zip(refs, await self._documents.bodies(refs), strict=True))
            for one in some:
                doc = docs.get(one.ref) if one.ref is not None else None
                if doc is not None and one.ref is not None and doc.get("_attachments"):
                    options = AttachmentOptions(data=True, since=one.atts_since)
                    response = await self._stream(one.ref, options, revs=revs)
                    if response is not None:
                        yield _streamed(one.ref, response)
                        continue
                    doc = None
                if doc is None:
                    yield RevisionPart(one.id, one.rev, _JSON, _once(encode(one.missing)), error=True)
                else:
                    shown = encode(complete(doc, {}, revs=revs))
                    yield RevisionPart(one.id, one.rev, _JSON, _once(shown), len(shown))

    async def _stream(self, ref: RevisionRef, options: AttachmentOptions, *, revs: bool) -> UpstreamResponse | None:
        return await open_revision(
            self._upstream, ref, options, revs=revs, accept="multipart/related, application/json;q=0.5"
        )


def _streamed(ref: RevisionRef, response: UpstreamResponse) -> RevisionPart:
    size = response.headers.get("content-length", "")
    kind = response.headers.get("content-type", _JSON)
    return RevisionPart(ref.id, ref.rev, kind, response.content, int(size) if size.isdigit() else None)


async def _with_meta(part: RevisionPart, meta: Mapping[str, Any]) -> RevisionPart:
    """The part with more members in its document."""
    parts = MultipartReader(boundary_of(part.content_type), part.content).parts()
    first = await anext(parts)
    doc = parse(await first.read(limits.UPSTREAM_ANSWER_BYTES, "UPSTREAM_ANSWER_BYTES"))
    following = [
        Following(name, entry["content_type"], entry.get("encoded_length", entry["length"]), entry.get("encoding"))
        for name, entry in doc["_attachments"].items()
        if entry.get("follows")
    ]
    related = Related(encode(complete(doc, meta, revs=True)), following)

    async def content() -> AsyncIterator[bytes]:
        try:
            async for piece in related.body(one.content async for one in parts):
                yield piece
        finally:
            if (aclose := getattr(part.content, "aclose", None)) is not None:
                await aclose()

    return RevisionPart(part.id, part.rev, related.content_type, content(), related.size)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
