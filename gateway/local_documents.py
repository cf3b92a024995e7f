"""`_local` documents: checkpoints of replicators, one namespace for each caller (DESIGN.md section 13)."""

from __future__ import annotations

from contextlib import suppress

from gateway import limits
from gateway.callers import Caller
from gateway.couch.upstream import Document
from gateway.errors import BadRequest, NotFound, TooLarge
from gateway.json_text import encode
from gateway.model.drafts import check_id
from gateway.store.protocol import DatabaseStore


class LocalDocuments:
    """Those of one database. Ids are with their `_local/`."""

    def __init__(self, store: DatabaseStore) -> None:
        self._store = store

    async def get(self, caller: Caller, doc_id: str) -> Document:
        """Raises NotFound."""
        found = await self._store.local_get(caller.namespace, doc_id)
        if found is None:
            raise NotFound
        rev, body = found
        return {"_id": doc_id, "_rev": rev, **body}

    async def put(self, caller: Caller, doc: Document) -> str:
        """The new revision `0-N`: one more than the document names; `0-0` when it is deleted by that, there or not.

        Raises BadRequest, TooLarge, TooManyRequests.
        """
        doc_id, rev = check_id(doc.get("_id")), doc.get("_rev")
        if rev is not None and not isinstance(rev, str):
            raise BadRequest("_rev must be a string")
        if doc.get("_deleted") is True:
            with suppress(NotFound):
                await self._store.local_delete(caller.namespace, doc_id)
            return "0-0"
        body = {key: value for key, value in doc.items() if not key.startswith("_")}
        most, name = limits.LOCAL_DOCUMENT_BYTES, "LOCAL_DOCUMENT_BYTES"
        if caller.is_guest:
            most, name = limits.LOCAL_DOCUMENT_OF_GUEST_BYTES, "LOCAL_DOCUMENT_OF_GUEST_BYTES"
        if len(encode(body)) > most:
            raise TooLarge(f"a local document may have {most} bytes ({name})")
        return await self._store.local_put(caller.namespace, doc_id, rev, body)

    async def delete(self, caller: Caller, doc_id: str) -> None:
        """Raises NotFound."""
        await self._store.local_delete(caller.namespace, doc_id)
