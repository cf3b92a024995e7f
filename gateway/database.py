"""Database: all that one configured database offers. The only thing http/ calls."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from gateway import limits
from gateway.accounts import Accounts
from gateway.attachments import Attachments
from gateway.auth.credentials import Credentials
from gateway.auth.passwords import Passwords
from gateway.auth.sessions import Session
from gateway.callers import Caller
from gateway.couch.address import document_path
from gateway.couch.batching import Batcher
from gateway.couch.revision_cache import RevisionCache, RevisionReader
from gateway.couch.upstream import Document, Upstream, UpstreamDatabase, UpstreamResponse
from gateway.documents import Documents
from gateway.errors import (
    Forbidden,
    GatewayError,
    TooLarge,
    UnknownDatabase,
    UpstreamError,
    from_status,
)
from gateway.explain.explaining import Explaining
from gateway.feeds.feed import CaughtUp, Feed, FeedRows, Heartbeat
from gateway.feeds.passed import passed_on
from gateway.feeds.selection import Selection
from gateway.feeds.viewers import Viewers
from gateway.feeds.wakes import Wakes
from gateway.finding import Finder
from gateway.json_text import encode, parse
from gateway.listing import Listings
from gateway.local_documents import LocalDocuments
from gateway.mango.matching import Matching
from gateway.mango.query import Find
from gateway.model.drafts import check_id
from gateway.queries import (
    AllDocsQuery,
    BulkGetItem,
    BulkGetResult,
    ChangesQuery,
    DocumentQuery,
    Listing,
    Outcome,
    RevisionPart,
    Trial,
    UploadedAttachment,
)
from gateway.resync.job import Resync
from gateway.revision_parts import RevisionParts
from gateway.routing.batches import sort_out
from gateway.routing.expiries import Expiries, end_what_is_over
from gateway.routing.imports import Imports
from gateway.routing.ledger import Ledger
from gateway.routing.resolve import Resolver
from gateway.routing.router import Router
from gateway.routing.writes import Author, Writes
from gateway.settings.values import DatabaseSettings
from gateway.store.protocol import DatabaseStore, Index, MetadataStore, Publication
from gateway.sync_versions import SyncVersions, function_in_force
from gateway.syncfn.in_force import FunctionInForce
from gateway.trials import Trials
from gateway.users import Users

__all__ = ["CaughtUp", "Database", "Feed", "FeedRows", "Heartbeat"]

log = logging.getLogger(__name__)
T = TypeVar("T")


class Database:
    """One database. Made by `open`; every method raises `GatewayError`s whose bodies are ready to be answered."""

    def __init__(
        self,
        settings: DatabaseSettings,
        store: DatabaseStore,
        upstream: UpstreamDatabase,
        function: FunctionInForce,
        cache: RevisionCache,
        passwords: Passwords,
        credentials: Credentials,
        *,
        epoch: str,
        last_seq: int,
    ) -> None:
        self.name = settings.name
        self.upstream_name = upstream.name
        self._store = store
        self._upstream = upstream
        self._function = function
        self._epoch = epoch
        self._cache = cache
        self._batcher = Batcher(upstream)
        reader = RevisionReader(self._batcher, cache)
        ledger = Ledger(time.monotonic)
        rules = settings.imports
        self._imports = Imports(store, enabled=rules.enabled, filter_source=rules.filter_source, name=settings.name)
        resolver = Resolver(store, upstream, reader, function, ledger, self._imports)
        self.router = Router(settings.name, store, upstream, resolver, ledger, cache, self._imports)
        self.versions = SyncVersions(settings.name, store, function, self.router.at_rest)
        self.resync = Resync(settings.name, store, upstream, self.versions, self.router.at_rest)
        self._writes = Writes(
            store=store,
            upstream=upstream,
            batcher=self._batcher,
            reader=reader,
            cache=cache,
            function=function,
            ledger=ledger,
            status=self.router.status,
            route_again=lambda ids: self.router.route_again(ids, authoritative=False),
            note_own=self._imports.note_own,
        )
        self._expiries = Expiries(
            settings.name,
            store,
            self._batcher,
            is_online=lambda: self.router.status.state == "online",
            route_again=lambda ids: self.router.route_again(ids, authoritative=False),
        )
        viewers = Viewers()
        self._reader = reader
        self._matching = Matching()
        self._finder = Finder(store, reader, viewers, self._matching)
        self._documents = Documents(store, self._batcher, reader, viewers, hide_existence=settings.hide_existence)
        self._local = LocalDocuments(store)
        self._listings = Listings(store, viewers, self._documents)
        self.explaining = Explaining(store, viewers)  # for administrators only
        self._attachments = Attachments(self._documents, self._writes, upstream, self.document)
        self._parts = RevisionParts(self._documents, upstream)
        self._accounts = Accounts(store, passwords)
        self._wakes = Wakes(last_seq)
        self._viewers = viewers
        self._users = Users(settings.name, store, credentials, lambda: self._wakes.last_seq)
        self._trials = Trials(lambda: self._function.source, self._users)
        self._gone = False
        self.deleted = asyncio.Event()  # set by who has deleted it

    @classmethod
    async def open(
        cls,
        settings: DatabaseSettings,
        metadata: MetadataStore,
        upstream: Upstream,
        cache: RevisionCache,
        passwords: Passwords,
        credentials: Credentials,
    ) -> Database:
        """Open both sides, bring in the config file's users and roles, start the router.

        Raises UpstreamRefused, UpstreamUnreachable when the upstream database cannot be opened or created.
        """
        opened = await upstream.open(settings.upstream, create=True)
        store = await metadata.database(settings.name)
        await Accounts(store, passwords).configure(settings)
        await store.settle_members()
        await end_what_is_over(store)
        function = await function_in_force(store, settings)
        state = await store.state()
        database = cls(
            settings,
            store,
            opened,
            function,
            cache,
            passwords,
            credentials,
            epoch=state.epoch,
            last_seq=state.last_seq,
        )
        await database.versions.follow(settings)
        metadata.subscribe(database.published)
        database.router.start()
        database._expiries.start()
        await database.resync.resume()
        database.versions.watch(database.resync.wanted_changed)
        return database

    def published(self, publication: Publication) -> None:
        """A transaction was committed: forget what it changed, wake whom it concerns."""
        if publication.database != self.name:
            return
        self._users.forget(publication.users)
        self._wakes.publish(publication)
        self._expiries.note(publication.next_end)

    async def close(self) -> None:
        """End the router, the timers, a resync and the engine. What was acknowledged is stored already."""
        await self._expiries.stop()
        await self.versions.close()
        await self.resync.close()
        await self.router.stop()
        await self._writes.close()
        await self._documents.close()
        self._matching.close()
        await self._batcher.close()
        await self._function.close()
        await self._imports.close()

    async def retire(self, metadata: MetadataStore) -> None:
        """Close for good: the database is about to be deleted. Its feeds end, and what is under way is refused."""
        self._gone = True
        metadata.unsubscribe(self.published)
        self._wakes.end()
        await self.close()
        self._cache.drop_database(self._upstream.name)

    # Who

    async def login(self, name: str, password: str) -> Caller:
        """The caller, or InvalidLogin (also for disabled and unknown users)."""
        return await self._users.login(name, password)

    async def resume(self, session: Session) -> Caller:
        """Who a session is here. Raises SessionOver for one that is not, or not any more, a user of this database."""
        return await self._users.resume(session)

    async def without_password(self, name: str) -> Caller:
        """A user for whom an administrator makes a session. Raises NotFound; Forbidden for a disabled user."""
        return await self._users.without_password(name)

    def session_ended(self, user: str | None) -> None:
        """A session of this user (None: of an administrator) is over: its running feeds look at it."""
        self._wakes.recheck(user)

    async def guest(self) -> Caller:
        """The guest, or Unauthorized when the guest is disabled."""
        return await self._users.guest()

    async def session(self, caller: Caller) -> dict[str, Any]:
        """CouchDB's `_session` JSON with Sync Gateway's `channels` in `userCtx`."""
        return await self._users.session(caller)

    # Users and roles: Sync Gateway's JSON; kind is "user" or "role"

    async def list_principals(self, kind: str, *, name_only: bool, limit: int | None) -> list[Any]:
        return await self._accounts.listing(kind, name_only=name_only, limit=limit)

    async def get_principal(self, kind: str, name: str) -> dict[str, Any]:
        return await self._accounts.get(kind, name)

    async def put_principal(self, kind: str, name: str | None, body: Any, *, must_be_new: bool) -> bool:
        """Create or merge; True if created. `body` is the parsed JSON, `name` None when it comes from the body."""
        return await self._accounts.put(kind, name, body, must_be_new=must_be_new)

    async def delete_principal(self, kind: str, name: str) -> None:
        await self._accounts.delete(kind, name)

    async def security(self, caller: Caller) -> dict[str, Any]:
        """The `_security` object; to a user what of it concerns this user."""
        value = await self._store.security()
        value = {part: {"roles": ["_admin"]} for part in ("members", "admins")} if value is None else value
        if caller.user is None:
            return value
        user = await self._users.get(caller.user)
        own = {"names": {caller.user}, "roles": user.roles if user is not None else frozenset()}
        return {
            part: {kind: [one for one in value.get(part, {}).get(kind, ()) if one in own[kind]] for kind in own}
            for part in ("members", "admins")
        }

    async def set_security(self, value: Mapping[str, Any]) -> None:
        """Keep it: whom it names as member or admin gains access to all channels, who is no longer named loses it."""
        await self._store.set_security(value)

    async def settle_members(self, name: str) -> None:
        """A user of the server was changed: so is its account here, if it is a member."""
        await self._store.settle_members(name)

    # Reads

    async def info(self, caller: Caller) -> dict[str, Any]:
        """`GET /{db}`: counts are of what the caller may read. To administrators it is the upstream's own."""
        if caller.is_admin:
            return {**(await self._upstream.info()).raw, "db_name": self.name}

        def count(index: Index) -> tuple[int, int]:
            return index.count_live_by_id(self._viewers.of(index, caller.user).opened), index.state.last_seq

        documents, last_seq = await self._store.read(count)
        return {
            "db_name": self.name,
            "doc_count": documents,
            "doc_del_count": 0,
            "update_seq": f"{last_seq}-{self._epoch}",
            "purge_seq": 0,
            "compact_running": False,
            "disk_format_version": 8,
            "instance_start_time": "0",
            "sizes": {"file": 0, "external": 0, "active": 0},
            "props": {},
        }

    async def document(self, caller: Caller, doc_id: str, query: DocumentQuery) -> Document:
        """One revision. Raises NotFound, Deleted, Forbidden. Not for `open_revs`, `_local/` and `_design/`."""
        if caller.is_admin:
            found: Document = await self._admin_get(doc_id, query)
            return found
        return await self._documents.document(caller, doc_id, query)

    async def open_revs(self, caller: Caller, doc_id: str, query: DocumentQuery) -> list[dict[str, Any]]:
        """`[{"ok": doc} | {"missing": rev}]`; NotFound for "all" of a document that the caller cannot see."""
        return await self._documents.open_revs(caller, doc_id, query)

    async def document_related(self, caller: Caller, doc_id: str, query: DocumentQuery) -> RevisionPart | Document:
        """`document` with its attachments behind it; just the document when none follows. Not for administrators."""
        return await self._parts.related(caller, doc_id, query)

    async def open_revs_parts(self, caller: Caller, doc_id: str, query: DocumentQuery) -> AsyncIterator[RevisionPart]:
        """`open_revs` as the parts of a multipart answer. Not for administrators."""
        return await self._parts.open_revs(caller, doc_id, query)

    async def bulk_get_parts(
        self, caller: Caller, items: Sequence[BulkGetItem], *, revs: bool, latest: bool
    ) -> AsyncIterator[RevisionPart]:
        """`bulk_get` as the parts of a multipart answer."""
        return await self._parts.bulk_get(caller, items, revs=revs, latest=latest)

    async def _admin_get(self, doc_id: str, query: DocumentQuery) -> Any:
        flags = {
            name: "true"
            for name in ("revs", "revs_info", "conflicts", "deleted_conflicts", "local_seq", "latest", "attachments")
            if getattr(query, name)
        }
        if query.rev is not None:
            flags["rev"] = query.rev
        text = "&".join(f"{name}={quote(value, safe='')}" for name, value in flags.items())
        return await self._upstream_json("GET", document_path(doc_id), query=text)

    async def _upstream_json(self, method: str, path: str, *, query: str = "", body: Any = None) -> Any:
        headers = {"accept": "application/json"}
        data = None
        if body is not None:
            headers["content-type"] = "application/json"
            data = encode(body)
        response = await self._upstream.request(method, path, query=query, headers=headers, body=data)
        received = bytearray()
        async for chunk in response.content:
            received += chunk
            if len(received) > limits.BODY_BYTES:
                raise TooLarge(f"the answer is longer than {limits.BODY_BYTES} bytes (BODY_BYTES)")
        value = parse(bytes(received))
        if response.status >= 400:
            answer = value if isinstance(value, dict) else {}
            raise from_status(response.status, str(answer.get("error", "")), str(answer.get("reason", "")))
        return value

    async def attachment(
        self, caller: Caller, doc_id: str, name: str, rev: str | None, method: str, headers: Mapping[str, str]
    ) -> UpstreamResponse:
        """GET or HEAD of one attachment of a readable revision, streamed from the upstream."""
        return await self._attachments.open(caller, doc_id, name, rev, method, headers)

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
        return await self._documents.bulk_get(
            caller, items, revs=revs, attachments=attachments, latest=latest, encoding_info=encoding_info
        )

    async def all_docs(self, caller: Caller, query: AllDocsQuery) -> Listing:
        """What the caller may read, from the index, which has no design documents."""
        return await self._listings.all_docs(caller, query)

    async def design_docs(self, caller: Caller, query: AllDocsQuery) -> Listing:
        """What a user sees of design documents: none."""
        return await self._listings.design_docs(caller, query)

    async def revs_diff(self, caller: Caller, revs: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        if caller.is_admin:
            found = await self._upstream.revs_diff(revs)
            return {doc_id: {name: told for name, told in one.items() if told} for doc_id, one in found.items()}
        return await self._documents.revs_diff(caller, revs)

    async def find(self, caller: Caller, find: Find) -> bytes:
        """The body of a `_find` answer over what the user may read. Administrators ask the upstream instead."""
        return await self._finder.find(caller, find)

    async def check_selector(self, selector: Any) -> None:
        """Raises InvalidQuery for a selector that no feed could be filtered by."""
        await self._matching.check(selector)

    def changes(self, caller: Caller, query: ChangesQuery) -> Feed:
        selection = None
        if query.selector is not None:
            all_leaves = query.style == "all_docs"
            selection = Selection(query.selector, self._reader, self._matching, all_leaves=all_leaves)
        return Feed(
            store=self._store,
            wakes=self._wakes,
            viewers=self._viewers,
            epoch=self._epoch,
            caller=caller,
            query=query,
            still_valid=self._validity(caller),
            include_docs=lambda rows: self._documents.for_feed(
                rows,
                attachments=query.attachments,
                conflicts=query.conflicts,
                encoding_info=query.att_encoding_info,
            ),
            selection=selection,
        )

    def passed_on(self, caller: Caller, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """A feed of the upstream for an administrator, until the login or the database ends."""
        return passed_on(content, self._wakes, self._validity(caller), self.deleted)

    def changes_tag(self, caller: Caller) -> str:
        """The ETag of what `changes` lists at this moment: another one after every commit, and for every caller."""
        text = f"{self._epoch} {self._wakes.last_seq} {caller.namespace}"
        return f'"{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}"'

    def _validity(self, caller: Caller) -> Callable[[], Awaitable[None]]:
        """A check that the caller may go on here. It raises Unauthorized, UnknownDatabase."""
        check = self._users.validity(caller)

        async def still_valid() -> None:
            if self._gone:
                raise UnknownDatabase
            await check()

        return still_valid

    # Writes

    async def write(self, caller: Caller, doc: Document, *, new_edits: bool = True) -> Outcome:
        """One document with its `_id`, under the sync function. Raises the error instead of answering it."""
        (outcome,) = await self.bulk_docs(caller, [doc], new_edits=new_edits)
        if outcome.error is not None:
            raise outcome.error
        return outcome

    async def bulk_docs(self, caller: Caller, docs: Sequence[Any], *, new_edits: bool) -> list[Outcome]:
        """Results in order. One malformed document refuses them all (routing/batches.py)."""
        batch = await sort_out(docs, new_edits=new_edits)
        outcomes = dict(batch.refused)
        for at, doc in (*batch.local, *batch.designs):
            try:
                if doc["_id"].startswith("_local/"):
                    outcomes[at] = Outcome(doc["_id"], await self.local_put(caller, doc))
                else:
                    outcomes[at] = await self._write_design(caller, doc, new_edits)
            except GatewayError as error:
                outcomes[at] = Outcome(doc["_id"], error=error)
        if batch.drafts:
            written = await self._unless_gone(
                self._writes.write([one for _, one in batch.drafts], self._author(caller))
            )
            outcomes |= {at: outcome for (at, _), outcome in zip(batch.drafts, written, strict=True)}
        return [outcomes[at] for at in range(len(docs))]

    async def _unless_gone(self, writing: Awaitable[T]) -> T:
        try:
            return await writing
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._gone and task is not None and not task.cancelling():
                raise UnknownDatabase from None  # the write was given up, not its request
            raise

    def _author(self, caller: Caller) -> Author:
        return Author(
            lambda: self._users.writer(caller), lambda doc_id, rev: self._documents.may_read(caller, doc_id, rev)
        )

    async def _write_design(self, caller: Caller, doc: Document, new_edits: bool) -> Outcome:
        """Design documents are not routed; only administrators write them."""
        if not caller.is_admin:
            raise Forbidden("You are not a db or server admin.")
        check_id(doc["_id"])
        result = await self._batcher.write_one(doc, new_edits)
        if result.rev is None:
            raise from_status(409 if result.error == "conflict" else 400, result.error, result.reason)
        return Outcome(doc["_id"], result.rev)

    async def write_related(
        self, caller: Caller, doc: Document, contents: AsyncIterator[AsyncIterator[bytes]], *, new_edits: bool = True
    ) -> Outcome:
        """A document whose attachments follow it, under the sync function: `contents` in their order, streamed."""
        return await self._unless_gone(
            self._attachments.put_document(self._author(caller), doc, contents, new_edits=new_edits)
        )

    async def put_attachment(
        self, caller: Caller, doc_id: str, name: str, rev: str | None, uploaded: UploadedAttachment
    ) -> Outcome:
        """A new revision with the attachment added or replaced, under the sync function; streamed."""
        return await self._unless_gone(self._attachments.put(caller, self._author(caller), doc_id, name, rev, uploaded))

    async def delete_attachment(self, caller: Caller, doc_id: str, name: str, rev: str | None) -> Outcome:
        return await self.write(caller, await self._attachments.editable(caller, doc_id, name, rev))

    # Local documents, one namespace for each caller

    async def local_get(self, caller: Caller, doc_id: str) -> Document:
        return await self._local.get(caller, doc_id)

    async def local_put(self, caller: Caller, doc: Document) -> str:
        return await self._local.put(caller, doc)

    async def local_delete(self, caller: Caller, doc_id: str) -> None:
        await self._local.delete(caller, doc_id)

    async def local_docs(self, caller: Caller, query: AllDocsQuery) -> Listing:
        """The caller's own local documents."""
        return await self._listings.local_docs(caller, query)

    # Administration

    async def purge(self, revs: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Purge upstream and in the index; CouchDB's answer. Returns once it is routed."""
        answer = await self._upstream_json("POST", "/_purge", body=revs)
        for doc_id in revs:
            self._cache.drop(self._upstream.name, doc_id)
        await self.router.route_again(list(revs))
        if not isinstance(answer, dict):
            raise UpstreamError("the upstream's answer to _purge is not understood")
        return answer

    async def try_sync_function(self, trial: Trial) -> dict[str, Any]:
        """What the function would say about a document (trials.py)."""
        return await self._trials.run(trial)

    async def upstream_request(
        self, method: str, path: str, *, query: str, headers: Mapping[str, str], body: bytes | None
    ) -> UpstreamResponse:
        """Pass-through below the upstream's `/{db}`, for administrators only."""
        return await self._upstream.request(method, path, query=query, headers=headers, body=body)

    async def wait_caught_up(self, seconds: float) -> bool:
        """Whether everything that is upstream was routed within that time."""
        try:
            async with asyncio.timeout(seconds):
                await self.router.wait_caught_up()
        except TimeoutError:
            return False
        return True

    def status(self) -> dict[str, Any]:
        """`{"name", "state": "starting|online|upstream_unreachable|…", "seq", "caught_up", …}`."""
        router = self.router.status
        return {
            "name": self.name,
            "state": router.state,
            "caught_up": router.caught_up,
            "problem": router.problem,
            "seq": self._wakes.last_seq,
            "upstream_seq": router.upstream_since,
            "routed_count": router.routed_count,
            "foreign_refused_count": router.foreign_refused_count,
            "not_imported_count": router.not_imported_count,
            "foreign_refused": [{"id": one.id, "rev": one.rev, "reason": one.reason} for one in router.refused],
            "written_count": self._writes.written_count,
            "refused_count": self._writes.refused_count,
            "expired_count": self._expiries.expired_count,
            "feeds_waiting": len(self._wakes),
            **self.versions.status(),
            "resync": self.resync.brief(),
        }
