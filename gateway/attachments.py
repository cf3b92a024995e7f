"""Attachments under access: read through a readable revision, written in a stream under the sync function."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeAlias
from urllib.parse import quote

from gateway import limits
from gateway.callers import Caller
from gateway.couch.address import document_path
from gateway.couch.upstream import Document, UpstreamDatabase, UpstreamResponse, WriteResult
from gateway.documents import Documents
from gateway.errors import (
    BadJson,
    BadRequest,
    Conflict,
    GatewayError,
    MissingRevision,
    NotFound,
    TooLarge,
    UpstreamError,
    UpstreamOutcomeUnknown,
    UpstreamUnreachable,
    from_status,
)
from gateway.json_text import encode, parse
from gateway.model.drafts import check_id, draft
from gateway.multipart import Following, Related
from gateway.queries import DocumentQuery, Outcome, UploadedAttachment
from gateway.routing.uploads import Upload
from gateway.routing.writes import Author, Writes

Read: TypeAlias = Callable[[Caller, str, DocumentQuery], Awaitable[Document]]
_ANSWER_BYTES = 1_000_000  # of an answer about one write
_TURNED_AWAY = (429, 502, 503, 504)


class Attachments:
    """Attachments of one database's documents."""

    def __init__(self, documents: Documents, writes: Writes, upstream: UpstreamDatabase, read: Read) -> None:
        """`read` gives a document as a caller sees it: Database.document."""
        self._documents = documents
        self._writes = writes
        self._upstream = upstream
        self._read = read

    async def open(
        self, caller: Caller, doc_id: str, name: str, rev: str | None, method: str, headers: Mapping[str, str]
    ) -> UpstreamResponse:
        """GET or HEAD of one attachment of a readable revision, streamed from the upstream."""
        if not caller.is_admin:
            rev = (await self._documents.readable_leaf(caller, doc_id, rev)).rev
        return await self._upstream.request(method, _path(doc_id, name), query=_rev(rev), headers=headers)

    async def put(
        self, caller: Caller, author: Author, doc_id: str, name: str, rev: str | None, uploaded: UploadedAttachment
    ) -> Outcome:
        """A new revision with the attachment added or replaced, under the sync function.

        What the function accepts is the body of `rev`, and the upstream stores just this body: it is told to replace
        that revision, and refuses when it is no leaf any more.
        """
        doc = await self._to_edit(caller, doc_id, rev)
        body = {member: value for member, value in doc.items() if member not in ("_attachments", "_revisions")}
        one = replace(draft(body, new_edits=True), has_attachments=True)
        headers = {"content-type": uploaded.content_type}
        if uploaded.size is not None:
            headers["content-length"] = str(uploaded.size)
        if uploaded.encoding is not None:
            headers["content-encoding"] = uploaded.encoding

        async def store(pieces: AsyncIterator[bytes]) -> WriteResult:
            path, query = _path(doc_id, name), _rev(one.parent)
            return await _result(
                doc_id, await self._upstream.request("PUT", path, query=query, headers=headers, body=pieces)
            )

        return _checked(await self._writes.upload(one, author, Upload(uploaded.pieces, store)))

    async def editable(self, caller: Caller, doc_id: str, name: str, rev: str | None) -> Document:
        """The document without one of its attachments, to be written again. Raises NotFound, MissingRevision, Conflict,
        Forbidden."""
        check_id(doc_id)
        doc = await (self._read(caller, doc_id, DocumentQuery()) if rev is None else self._to_edit(caller, doc_id, rev))
        kept = dict(doc.get("_attachments", {}))
        if kept.pop(name, None) is None:
            raise NotFound("Document is missing attachment")
        if rev is None:
            raise Conflict
        return {**doc, "_attachments": kept}

    async def _to_edit(self, caller: Caller, doc_id: str, rev: str | None) -> Document:
        """The document to change: `rev` of it, which the caller may read, or None for a new one.

        Raises MissingRevision, Conflict, Forbidden.
        """
        check_id(doc_id)
        try:
            if rev is not None:
                return await self._read(caller, doc_id, DocumentQuery(rev=rev))
            await self._read(caller, doc_id, DocumentQuery())
        except NotFound:
            if rev is None:
                return {"_id": doc_id}
            with suppress(NotFound):
                await self._read(caller, doc_id, DocumentQuery())  # raises Forbidden for what may not be read
            raise MissingRevision from None
        raise Conflict

    async def put_document(
        self, author: Author, doc: Document, contents: AsyncIterator[AsyncIterator[bytes]], *, new_edits: bool
    ) -> Outcome:
        """A document whose attachments follow it (`contents`, in the order of its `_attachments`), streamed upstream.

        Raises BadRequest when the two do not agree.
        """
        following = _following(doc)
        sent = {name: _sent(stub, following.get(name)) for name, stub in doc.get("_attachments", {}).items()}
        one = draft({**doc, "_attachments": sent}, new_edits=new_edits, may_follow=True)
        one = replace(one, has_stubs=any(stub.get("stub") is True for stub in sent.values()))
        related = Related(encode(one.doc), [each for each in following.values() if each.size])
        query = "" if new_edits else "new_edits=false"
        headers = {"content-type": related.content_type, "content-length": str(related.size)}

        async def store(pieces: AsyncIterator[bytes]) -> WriteResult:
            path = document_path(one.id)
            return await _result(
                one.id, await self._upstream.request("PUT", path, query=query, headers=headers, body=pieces)
            )

        contents = _without_empty(contents, list(following.values()))
        pieces = related.body(contents)
        if not any(each.size for each in following.values()):
            async for _ in pieces:
                pass
            (outcome,) = await self._writes.write([one], author)
            return _checked(outcome)
        return _checked(await self._writes.upload(one, author, Upload(pieces, store)))


def _checked(outcome: Outcome) -> Outcome:
    if outcome.error is not None:
        raise outcome.error
    return outcome


def _path(doc_id: str, name: str) -> str:
    return f"{document_path(doc_id)}/{'/'.join(quote(part, safe='') for part in name.split('/'))}"


def _rev(rev: str | None) -> str:
    return "" if rev is None else f"rev={quote(rev, safe='')}"


def _following(doc: Document) -> dict[str, Following]:
    """What the document says will follow it. Raises BadRequest without the lengths, which CouchDB needs, too."""
    found: dict[str, Following] = {}
    attachments = doc.get("_attachments")
    for name, stub in attachments.items() if isinstance(attachments, dict) else ():
        if not isinstance(stub, dict) or stub.get("stub") is True or stub.get("follows") is not True:
            continue
        encoding = stub.get("encoding")
        if encoding not in (None, "identity", "gzip"):
            raise BadRequest(f"attachment {name!r} has an encoding that is neither identity nor gzip")
        size = stub.get("length") if encoding in (None, "identity") else stub.get("encoded_length", stub.get("length"))
        if type(size) is not int or size < 0:
            raise BadRequest(f"attachment {name!r} follows, but its length is not given")
        if size > limits.ATTACHMENT_BYTES:
            raise TooLarge(
                f"attachment {name!r} is larger than {limits.ATTACHMENT_BYTES} bytes (limit ATTACHMENT_BYTES)"
            )
        found[name] = Following(name, str(stub.get("content_type", "application/octet-stream")), size, encoding)
    return found


def _sent(stub: Any, following: Following | None) -> Any:
    """As it goes upstream: CouchDB waits in vain for the first byte of an attachment that has none."""
    if following is None or following.size:
        return stub
    kept = {member: value for member, value in stub.items() if member in ("content_type", "revpos")}
    return {**kept, "data": ""}


async def _without_empty(
    contents: AsyncIterator[AsyncIterator[bytes]], following: Sequence[Following]
) -> AsyncIterator[AsyncIterator[bytes]]:
    """The contents without those that are said to be empty, and are."""
    expected = iter(following)
    async for content in contents:
        one = next(expected, None)
        if one is None or one.size:
            yield content
        else:
            async for chunk in content:
                if chunk:
                    raise BadRequest(f"attachment {one.name!r} is longer than the 0 bytes announced")
    if any(not one.size for one in expected):
        raise BadRequest(f"{len(following)} attachments should follow the document, but fewer do")


async def _result(doc_id: str, response: UpstreamResponse) -> WriteResult:
    """What the upstream says of one write. Raises UpstreamOutcomeUnknown where it does not say."""
    received = bytearray()
    try:
        async for chunk in response.content:
            received += chunk
            if len(received) > _ANSWER_BYTES:
                break
        value = parse(bytes(received))
    except (BadJson, UpstreamUnreachable):
        value = None
    finally:
        if (aclose := getattr(response.content, "aclose", None)) is not None:
            await aclose()
    told = value if isinstance(value, dict) else {}
    error, reason = str(told.get("error", "")), str(told.get("reason", ""))
    if response.status in (200, 201, 202) and isinstance(told.get("rev"), str):
        return WriteResult(doc_id, told["rev"], quorum=response.status != 202)
    if response.status < 300 or response.status in _TURNED_AWAY or response.status >= 500:
        raise UpstreamOutcomeUnknown(
            f"the upstream answered an upload with {response.status} {error}: it may or may not be stored"
        )
    raise _refusal(response.status, error, reason)


def _refusal(status: int, error: str, reason: str) -> GatewayError:
    if status == 401:
        return UpstreamError("the upstream refuses the gateway's credentials")
    return from_status(status, error, reason or f"the upstream answered {status}")
