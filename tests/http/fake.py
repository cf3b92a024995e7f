"""A small database in memory with the methods of `gateway.database.Database`, for the forms of the HTTP layer.

Documents belong to the users in their `owners`; `broken` and `admin_only` ids misbehave on purpose. What it was asked
is in `asked`, so that tests see what a request was parsed to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from gateway.auth.sessions import Session
from gateway.callers import Caller
from gateway.couch.upstream import UpstreamResponse
from gateway.database import CaughtUp, FeedRows, Heartbeat
from gateway.errors import (
    Conflict,
    Deleted,
    Forbidden,
    GatewayError,
    InvalidLogin,
    NotFound,
    RefusedBySyncFunction,
    SessionOver,
    Unauthorized,
    UnauthorizedBySyncFunction,
)
from gateway.json_text import encode
from gateway.mango.query import Find, Found, answer_text
from gateway.mango.selector import normalize
from gateway.model.drafts import draft
from gateway.model.revisions import generation, next_local_rev, next_rev
from gateway.queries import (
    AllDocsQuery,
    BulkGetItem,
    BulkGetResult,
    ChangesQuery,
    DocumentQuery,
    Listing,
    Outcome,
    ResyncKind,
    ResyncStart,
    RevisionPart,
    Trial,
    UploadedAttachment,
)

EPOCH = "3f2a"


class FakeFeed:
    """Plays a script: events are yielded, exceptions raised, an asyncio.Event waited for."""

    def __init__(self, script: Sequence[FeedRows | Heartbeat | CaughtUp | BaseException | asyncio.Event]) -> None:
        self._script = script
        self._at = 0
        self.pending = 0
        self.closed = asyncio.Event()
        self.waiting = asyncio.Event()

    @property
    def last_seq(self) -> str:
        return f"{self._at}-{EPOCH}"

    async def events(self) -> AsyncIterator[FeedRows | Heartbeat | CaughtUp]:
        try:
            for step in self._script:
                if isinstance(step, BaseException):
                    raise step
                if isinstance(step, asyncio.Event):
                    self.waiting.set()
                    await step.wait()
                    continue
                yield step
                if isinstance(step, FeedRows):
                    self._at += len(step.rows)
        finally:
            self.closed.set()


class FakeExplaining:
    """What explain was asked; it answers that."""

    def __init__(self, note: Callable[[str, Any], None]) -> None:
        self._note = note

    async def _told(self, what: str, *asked: Any) -> dict[str, Any]:
        self._note(what, asked)
        return {"asked": [what, *asked]}

    async def explain(self, user: str, doc: str, rev: str | None = None) -> dict[str, Any]:
        return await self._told("explain", user, doc, rev)

    async def readers(self, doc: str, start: str, limit: int) -> dict[str, Any]:
        return await self._told("readers", doc, start, limit)

    async def documents(self, user: str, *, start: str, since: int, limit: int) -> dict[str, Any]:
        return await self._told("documents", user, start, since, limit)

    async def channels(self, prefix: str, start: str, limit: int) -> dict[str, Any]:
        return await self._told("channels", prefix, start, limit)

    async def channel(self, name: str, start: str, limit: int) -> dict[str, Any]:
        return await self._told("channel", name, start, limit)


class FakeResync:
    """What was asked of the resync; it answers that."""

    def __init__(self, note: Callable[[str, Any], None]) -> None:
        self._note = note

    async def start(self, asked: ResyncStart) -> None:
        self._note("resync", asked)

    async def stop(self) -> None:
        self._note("resync", "stop")

    async def status(self) -> dict[str, Any]:
        return {"status": "none"}

    async def documents(self, kind: ResyncKind, channel: str | None, start: int, limit: int) -> dict[str, Any]:
        return {"asked": [kind, channel, start, limit]}

    async def channels(self, start: str, limit: int) -> dict[str, Any]:
        return {"asked": [start, limit]}

    async def access(self, start: int, limit: int) -> dict[str, Any]:
        return {"asked": [start, limit]}


class FakeDatabase:
    """Duck-typed: `test_fake.py` holds it against the real class."""

    def __init__(self, name: str = "notes") -> None:
        self.name = name
        self.upstream_name = name
        self.users = {"ann": "secret", "bob": "secret", "Zoë": "pä:ss"}
        self.login_seqs: dict[str, int] = {}  # another number: all logins before are over
        self.guest_enabled = False
        self.docs: dict[str, list[dict[str, Any]]] = {}  # revisions, the winner last
        self.locals: dict[tuple[str, str], dict[str, Any]] = {}
        self.principals: dict[tuple[str, str], dict[str, Any]] = {}
        self.members: dict[str, Any] = {}
        self.asked: list[tuple[str, Any]] = []
        self.feed = FakeFeed([])
        self.routed = True
        self.tag = "1"
        self.breaks: Exception | None = None  # after the pages of a listing
        self.state = "online"
        self.upstream: UpstreamResponse | None = None
        self.part: RevisionPart | None = None
        self.raises: Exception | None = None  # by every read and write
        self.fails: dict[str, GatewayError] = {}  # by the writes of these documents
        self.explaining = FakeExplaining(self._note)
        self.resync = FakeResync(self._note)

    def _note(self, what: str, value: Any) -> None:
        self.asked.append((what, value))
        if self.raises is not None:
            raise self.raises

    def last(self, what: str) -> Any:
        """What the last call of this kind was asked."""
        return [value for name, value in self.asked if name == what][-1]

    # Who

    async def login(self, name: str, password: str) -> Caller:
        if self.users.get(name) != password:
            raise InvalidLogin
        return Caller(name, login_seq=self.login_seqs.get(name, 1))

    async def resume(self, session: Session) -> Caller:
        login_seq = self.login_seqs.get(session.name, 1)
        if session.name not in self.users or not session.holds(self.name, login_seq):
            raise SessionOver
        return Caller(session.name, login_seq=login_seq, session=session)

    async def without_password(self, name: str) -> Caller:
        if name not in self.users:
            raise NotFound
        return Caller(name, login_seq=self.login_seqs.get(name, 1))

    async def guest(self) -> Caller:
        if not self.guest_enabled:
            raise Unauthorized
        return Caller("GUEST")

    async def session(self, caller: Caller) -> dict[str, Any]:
        name = caller.admin if caller.is_admin else None if caller.is_guest else caller.user
        roles = ["_admin"] if caller.is_admin else []
        return {"ok": True, "userCtx": {"name": name, "roles": roles, "channels": {"!": 1}}}

    async def security(self, caller: Caller) -> dict[str, Any]:
        return self.members if caller.is_admin else {"members": {"names": [], "roles": []}}

    async def set_security(self, value: Mapping[str, Any]) -> None:
        self.members = dict(value)

    # Users and roles

    async def list_principals(self, kind: str, *, name_only: bool, limit: int | None) -> list[Any]:
        names = sorted(name for of, name in self.principals if of == kind)
        return names if name_only else [{"name": name} for name in names[:limit]]

    async def get_principal(self, kind: str, name: str) -> dict[str, Any]:
        if (kind, name) not in self.principals:
            raise NotFound
        return {"name": name, **self.principals[kind, name]}

    async def put_principal(self, kind: str, name: str | None, body: Any, *, must_be_new: bool) -> bool:
        self._note("put_principal", (kind, name, body, must_be_new))
        key = kind, str(name or body["name"])
        if must_be_new and key in self.principals:
            raise Conflict("Already exists")
        created = key not in self.principals
        self.principals[key] = body
        return created

    async def delete_principal(self, kind: str, name: str) -> None:
        if self.principals.pop((kind, name), None) is None:
            raise NotFound

    # Reads

    async def info(self, caller: Caller) -> dict[str, Any]:
        self._note("info", caller)
        return {"db_name": self.name, "update_seq": f"9-{EPOCH}", "instance_start_time": "1700000000"}

    def _readable(self, caller: Caller, doc_id: str) -> dict[str, Any]:
        if doc_id not in self.docs:
            raise NotFound
        doc = self.docs[doc_id][-1]
        if not caller.is_admin and caller.user not in doc.get("owners", [caller.user]):
            raise Forbidden
        return doc

    async def document(self, caller: Caller, doc_id: str, query: DocumentQuery) -> dict[str, Any]:
        self._note("document", (caller, doc_id, query))
        doc = self._readable(caller, doc_id)
        if query.rev is not None:
            for revision in self.docs[doc_id]:
                if revision["_rev"] == query.rev:
                    return dict(revision)
            raise NotFound
        if doc.get("_deleted"):
            raise Deleted
        return dict(doc)

    async def open_revs(self, caller: Caller, doc_id: str, query: DocumentQuery) -> list[dict[str, Any]]:
        self._note("open_revs", (caller, doc_id, query))
        if query.open_revs == "all" or query.open_revs is None:
            return [{"ok": self._readable(caller, doc_id)}]
        known = {doc["_rev"]: doc for doc in self.docs.get(doc_id, [])}
        return [{"ok": known[rev]} if rev in known else {"missing": rev} for rev in query.open_revs]

    async def document_related(
        self, caller: Caller, doc_id: str, query: DocumentQuery
    ) -> RevisionPart | dict[str, Any]:
        return await self.document(caller, doc_id, query) if self.part is None else self.part

    async def open_revs_parts(self, caller: Caller, doc_id: str, query: DocumentQuery) -> AsyncIterator[RevisionPart]:
        return _parts(doc_id, await self.open_revs(caller, doc_id, query))

    async def bulk_get_parts(
        self, caller: Caller, items: Sequence[BulkGetItem], *, revs: bool, latest: bool
    ) -> AsyncIterator[RevisionPart]:
        results = await self.bulk_get(caller, items, revs=revs, attachments=True, latest=latest)
        return _parts("", [one for result in results for one in result.docs])

    async def attachment(
        self, caller: Caller, doc_id: str, name: str, rev: str | None, method: str, headers: Mapping[str, str]
    ) -> UpstreamResponse:
        self._note("attachment", (caller, doc_id, name, rev, method, dict(headers)))
        if self.upstream is None:
            raise NotFound("Document is missing attachment")
        return self.upstream

    async def bulk_get(
        self,
        caller: Caller,
        items: Sequence[BulkGetItem],
        *,
        revs: bool,
        attachments: bool,
        latest: bool,
        encoding_info: bool = False,
    ) -> list[BulkGetResult]:
        self._note("bulk_get", (caller, list(items), {"revs": revs, "attachments": attachments, "latest": latest}))
        results = []
        for item in items:
            error = item.error
            try:
                if error is None:
                    results.append(BulkGetResult(item.id, [{"ok": self._readable(caller, item.id)}]))
                    continue
            except GatewayError as raised:
                error = raised
            results.append(
                BulkGetResult(item.id, [{"error": {"id": item.id or None, "rev": item.rev, **error.body()}}])
            )
        return results

    async def all_docs(self, caller: Caller, query: AllDocsQuery) -> Listing:
        self._note("all_docs", (caller, query))
        rows = [
            {"id": doc_id, "key": doc_id, "value": {"rev": self.docs[doc_id][-1]["_rev"]}}
            for doc_id in sorted(self.docs)
        ]
        return Listing({"total_rows": len(rows), "offset": 0}, self._pages(rows))

    async def _pages(self, rows: Sequence[dict[str, Any]]) -> AsyncIterator[Sequence[bytes]]:
        for at in range(0, len(rows), 500):
            yield [encode(row) for row in rows[at : at + 500]]
        if self.breaks is not None:
            raise self.breaks

    async def design_docs(self, caller: Caller, query: AllDocsQuery) -> Listing:
        self._note("design_docs", (caller, query))
        return Listing({"total_rows": 0, "offset": 0}, self._pages([]))

    async def revs_diff(self, caller: Caller, revs: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        self._note("revs_diff", (caller, revs))
        answer = {}
        for doc_id, wanted in revs.items():
            known = {doc["_rev"] for doc in self.docs.get(doc_id, [])}
            if missing := [rev for rev in wanted if rev not in known]:
                answer[doc_id] = {"missing": missing}
        return answer

    async def find(self, caller: Caller, find: Find) -> bytes:
        self._note("find", (caller, find))
        return answer_text(find, Found([encode(self.docs[doc_id][-1]) for doc_id in sorted(self.docs)], "nil", 1, 0.1))

    async def check_selector(self, selector: Any) -> None:
        normalize(selector)

    def changes_tag(self, caller: Caller) -> str:
        return f'"{self.tag}-{caller.namespace}"'

    async def passed_on(self, caller: Caller, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in content:
            yield chunk

    def changes(self, caller: Caller, query: ChangesQuery) -> FakeFeed:
        self._note("changes", (caller, query))
        return self.feed

    # Writes

    async def write(self, caller: Caller, doc: dict[str, Any], *, new_edits: bool = True) -> Outcome:
        self._note("write", (caller, doc, new_edits))
        one = draft(doc, new_edits=new_edits)
        if one.id in self.fails:
            raise self.fails[one.id]
        if one.body.get("refuse") == "forbidden":
            raise RefusedBySyncFunction("sg wrong user")
        if one.body.get("refuse") == "unauthorized":
            raise UnauthorizedBySyncFunction("not you")
        current = self.docs.get(one.id, [])
        if new_edits:
            live = bool(current) and not current[-1].get("_deleted")
            if (live or one.parent is not None) and (not current or current[-1]["_rev"] != one.parent):
                raise Conflict
            rev = next_rev(one.parent, dict(one.body), deleted=one.deleted)
        else:
            rev = str(one.rev)
        stored = {"_id": one.id, "_rev": rev, **({"_deleted": True} if one.deleted else {}), **one.body}
        if one.has_attachments:
            stored["_attachments"] = one.doc["_attachments"]
        self.docs.setdefault(one.id, []).append(stored)
        self.docs[one.id].sort(key=lambda revision: generation(revision["_rev"]))
        return Outcome(one.id, rev, routed=self.routed)

    async def bulk_docs(self, caller: Caller, docs: Sequence[Any], *, new_edits: bool) -> list[Outcome]:
        self._note("bulk_docs", (caller, list(docs), new_edits))
        for doc in docs:
            draft(doc, new_edits=new_edits)  # one that is malformed refuses them all
        outcomes = []
        for doc in docs:
            try:
                outcomes.append(await self.write(caller, doc, new_edits=new_edits))
            except GatewayError as error:
                outcomes.append(Outcome(str(doc.get("_id", "")) if isinstance(doc, dict) else "", error=error))
        return outcomes

    async def write_related(
        self,
        caller: Caller,
        doc: dict[str, Any],
        contents: AsyncIterator[AsyncIterator[bytes]],
        *,
        new_edits: bool = True,
    ) -> Outcome:
        following = [b"".join([chunk async for chunk in content]) async for content in contents]
        self._note("write_related", (caller, doc, following, new_edits))
        return Outcome(doc["_id"], doc.get("_rev", "1-aa"), routed=self.routed)

    async def put_attachment(
        self, caller: Caller, doc_id: str, name: str, rev: str | None, uploaded: UploadedAttachment
    ) -> Outcome:
        data = b"".join([piece async for piece in uploaded.pieces])
        self._note(
            "put_attachment", (caller, doc_id, name, rev, uploaded.content_type, uploaded.encoding, uploaded.size, data)
        )
        return Outcome(doc_id, "1-aa", routed=self.routed)

    async def delete_attachment(self, caller: Caller, doc_id: str, name: str, rev: str | None) -> Outcome:
        self._note("delete_attachment", (caller, doc_id, name, rev))
        return Outcome(doc_id, "2-bb", routed=self.routed)

    # Local documents

    async def local_get(self, caller: Caller, doc_id: str) -> dict[str, Any]:
        if (caller.namespace, doc_id) not in self.locals:
            raise NotFound
        return self.locals[caller.namespace, doc_id]

    async def local_put(self, caller: Caller, doc: dict[str, Any]) -> str:
        self._note("local_put", (caller, doc))
        rev = f"0-{next_local_rev(doc.get('_rev'))}"
        self.locals[caller.namespace, doc["_id"]] = {**doc, "_rev": rev}
        return rev

    async def local_delete(self, caller: Caller, doc_id: str) -> None:
        await self.local_get(caller, doc_id)
        del self.locals[caller.namespace, doc_id]

    async def local_docs(self, caller: Caller, query: AllDocsQuery) -> Listing:
        self._note("local_docs", (caller, query))
        rows = [{"id": doc_id} for owner, doc_id in self.locals if owner == caller.namespace]
        return Listing({"total_rows": None, "offset": None}, self._pages(rows))

    # Administration

    async def purge(self, revs: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        self._note("purge", revs)
        return {"purge_seq": None, "purged": dict(revs)}

    async def try_sync_function(self, trial: Trial) -> dict[str, Any]:
        self._note("try_sync_function", trial)
        return {"accepted": True}

    async def upstream_request(
        self, method: str, path: str, *, query: str, headers: Mapping[str, str], body: bytes | None
    ) -> UpstreamResponse:
        self._note("upstream_request", (method, path, query, dict(headers), body))
        return self.upstream if self.upstream is not None else upstream_answer(200, {"from": "upstream"})

    def status(self) -> dict[str, Any]:
        return {"name": self.name, "state": self.state, "seq": 9, "caught_up": True}


async def _parts(doc_id: str, found: Sequence[Mapping[str, Any]]) -> AsyncIterator[RevisionPart]:
    for one in found:
        error = "ok" not in one
        value = one.get("error", one) if error else one["ok"]
        yield RevisionPart(doc_id, None, "application/json", Streamed([encode(value)]), error=error)


class Streamed:
    """The content of an upstream's answer, which knows whether it was released."""

    def __init__(self, chunks: Sequence[bytes | Exception]) -> None:
        self._chunks = iter(chunks)
        self.released = asyncio.Event()

    def __aiter__(self) -> Streamed:
        return self

    async def __anext__(self) -> bytes:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise StopAsyncIteration
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    async def aclose(self) -> None:
        self.released.set()


def upstream_answer(status: int, value: Any, headers: Mapping[str, str] | None = None) -> UpstreamResponse:
    data = value if isinstance(value, bytes) else encode(value)
    return UpstreamResponse(
        status,
        {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})},
        Streamed([data]),
    )
