"""CouchDB over HTTP, and servers that speak its protocol (Cloudant, pouchdb-server, the embedded one on a port)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from gateway import json_text, limits
from gateway.couch.address import Address, database_path, document_path
from gateway.couch.feed import follow, seq_text
from gateway.couch.stream import check_path, pass_through
from gateway.couch.transport import (
    AnswerTooLarge,
    AnswerUnreadable,
    Transport,
    backoff,
    error_of,
    expect,
    was_turned_away,
)
from gateway.couch.upstream import (
    ChangeRow,
    DatabaseInfo,
    Document,
    Identity,
    Idle,
    RevisionRef,
    UpstreamResponse,
    WriteResult,
)
from gateway.errors import (
    BadJson,
    UnknownDatabase,
    UnreadableDocument,
    UpstreamError,
    UpstreamOutcomeUnknown,
    UpstreamRefused,
    UpstreamUnreachable,
)
from gateway.model.revisions import winner_first
from gateway.pauses import Pauses

# Vendor names in `GET /` of servers whose _bulk_get of an id without rev answers every leaf: CouchDB, and ours.
_WHOLE_BULK_READS = ("The Apache Software Foundation", "Couch Gateway")
# What a bulk read says of a revision or id that is not there, or that CouchDB could not even store.
_NOT_STORED = frozenset({"not_found", "missing", "deleted", "bad_request", "illegal_docid"})


class CouchDB:
    """A CouchDB server. `url` may hold the credentials; `username` and `password` win over them."""

    def __init__(self, url: str, *, username: str | None = None, password: str | None = None) -> None:
        """Raises ValueError for a URL that cannot be one; connects to nothing yet."""
        self.address = Address.parse(url, username, password)
        self.transport = Transport(self.address)
        self._whole_bulk_reads: bool | None = None

    async def check(self) -> None:
        tried = f"GET {self.address.shown}/"
        try:
            answer = await self.transport.call("GET", self.address.url("/"))
        except UpstreamUnreachable as error:
            where = f"CouchDB at {self.address.shown}"
            raise UpstreamUnreachable(f"{where} cannot be reached", detail=error.detail) from error
        if answer.status in {401, 403, 407}:
            raise UpstreamRefused(f"CouchDB refuses {self._who()}: {tried} answered {answer.describe()}")
        if answer.status >= 500:
            raise UpstreamUnreachable(f"CouchDB is not ready: {tried} answered {answer.describe()}")
        if 300 <= answer.status < 400:
            raise UpstreamRefused(f"{tried} answered a redirect ({answer.status}); configure the URL it leads to")
        welcome = answer.value if isinstance(answer.value, dict) else {}
        if answer.status != 200 or not ("couchdb" in welcome or "express-pouchdb" in welcome):
            raise UpstreamRefused(f"there is no CouchDB at {self.address.shown}: {tried} answered {answer.describe()}")
        self._learn(welcome)

    def _who(self) -> str:
        if self.address.username is None:
            return f"a client without credentials at {self.address.shown}"
        return f"the username or password of {self.address.username} at {self.address.shown}"

    def _learn(self, welcome: Mapping[str, Any]) -> None:
        vendor = welcome.get("vendor")
        name = vendor.get("name") if isinstance(vendor, dict) else ""
        self._whole_bulk_reads = str(name).startswith(_WHOLE_BULK_READS)

    async def welcome(self) -> Mapping[str, Any]:
        """`GET /`."""
        value = expect(await self.transport.call("GET", self.address.url("/")), 200)
        if not isinstance(value, dict):
            raise UpstreamError("the upstream's GET / answered no object")
        self._learn(value)
        return value

    async def bulk_reads_give_all_leaves(self) -> bool:
        """Whether `_bulk_get` of an id without rev answers every leaf, as CouchDB's does; others give the winner."""
        if self._whole_bulk_reads is None:
            await self.welcome()
        return bool(self._whole_bulk_reads)

    async def open(self, name: str, *, create: bool) -> CouchDatabase:
        path = database_path(name)
        url, shown = self.address.url(path), self.address.shown + path
        # GET first: a login that may use the database but not create it is enough where it exists.
        tried, answer = f"GET {shown}", await self.transport.call("GET", url)
        pauses = backoff()
        while answer.status == 404 and create:
            tried, answer = f"PUT {shown}", await self.transport.call("PUT", url)
            if answer.status in {201, 202}:
                return CouchDatabase(self, name)
            pause = next(pauses, None)
            if answer.status != 412 or pause is None:
                break
            # Somebody else has made it, or its deletion is not over yet: then PUT still finds it and GET does not.
            await asyncio.sleep(pause)
            tried, answer = f"GET {shown}", await self.transport.call("GET", url)
        if answer.status == 200 and isinstance(answer.value, dict):
            return CouchDatabase(self, name)
        told = f"{tried} answered {answer.describe()}"
        if answer.status == 404:
            raise UnknownDatabase(f"there is no database {name}: {told}")
        if answer.status in {401, 403} and tried.startswith("PUT"):
            raise UpstreamRefused(f"{self._who()}: no right to create the database {name} (server admins only): {told}")
        if answer.status in {401, 403}:
            raise UpstreamRefused(f"{self._who()}: no right to use the database {name}: {told}")
        if answer.status in {502, 503, 504, 429}:
            raise UpstreamUnreachable(f"the database {name} cannot be opened now: {told}")
        if answer.status >= 500:
            raise UpstreamRefused(
                f"the database {name} cannot be created or opened: {told}; "
                "has the cluster or single node been set up (POST /_cluster_setup)?"
            )
        raise UpstreamRefused(f"the database {name} cannot be opened: {told}")

    async def delete(self, name: str) -> None:
        url = self.address.url(database_path(name))
        expect(await self.transport.call("DELETE", url, write=True), 200, 202)
        for pause in backoff():  # a node may know the shards for a moment after the database is gone
            if (await self.transport.call("GET", url)).status == 404:
                return
            await asyncio.sleep(pause)

    async def all_dbs(self) -> list[str]:
        names = expect(await self.transport.call("GET", self.address.url("/_all_dbs")), 200)
        if not isinstance(names, list):
            raise UpstreamError("the upstream's _all_dbs answered no array")
        return sorted(name for name in names if isinstance(name, str))

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> UpstreamResponse:
        return await pass_through(self.transport, method, path, query, headers, body)

    async def close(self) -> None:
        await self.transport.close()


class CouchDatabase:
    """One database of a CouchDB server."""

    def __init__(self, server: CouchDB, name: str) -> None:
        self.name = name
        self._server = server
        self._transport = server.transport
        self._path = database_path(name)
        address = server.address
        self._url = address.url(self._path)
        self._bulk_docs = address.url(f"{self._path}/_bulk_docs")
        self._bulk_get = {
            False: address.url(f"{self._path}/_bulk_get", "revs=true"),
            True: address.url(f"{self._path}/_bulk_get", "revs=true&attachments=true"),
        }
        self._revs_diff = address.url(f"{self._path}/_revs_diff")

    async def identity(self) -> Identity:
        welcome, info = await self._server.welcome(), await self.info()
        uuid = welcome.get("uuid")
        return Identity(uuid if isinstance(uuid, str) else "", info.instance_start_time)

    async def info(self) -> DatabaseInfo:
        answer = await self._transport.call("GET", self._url)
        if answer.status == 404:
            raise UnknownDatabase
        value = expect(answer, 200)
        if not isinstance(value, dict):
            raise UpstreamError("the upstream's GET /{db} answered no object")
        return DatabaseInfo(
            doc_count=_count(value.get("doc_count")),
            doc_del_count=_count(value.get("doc_del_count")),
            update_seq=seq_text(value.get("update_seq")),
            purge_seq=seq_text(value.get("purge_seq")),
            instance_start_time=str(value.get("instance_start_time", "")),
            raw=value,
        )

    async def write(self, docs: Sequence[Document], *, new_edits: bool) -> list[WriteResult]:
        if not docs:
            return []
        try:
            body = await _bulk(docs, new_edits)
        except (ValueError, RecursionError) as error:
            raise BadJson(f"a document cannot be written as JSON: {error}") from None
        answer = await self._transport.call("POST", self._bulk_docs, body=body, write=True)
        told = answer.value
        # 417 and 500 also carry a result for each document, see `_bulk_docs` in the API reference.
        if answer.status in {200, 201, 202, 417, 500} and isinstance(told, list):
            results = _results_of_edits(docs, told) if new_edits else _results_of_revisions(docs, told, answer.status)
            if results is not None:
                return results
            raise UpstreamOutcomeUnknown("the upstream answered a write with results for other documents")
        if was_turned_away(answer):
            raise UpstreamUnreachable(f"the upstream takes no writes now: it answered {answer.describe()}")
        if answer.status < 300 or answer.status >= 500:
            raise UpstreamOutcomeUnknown(
                f"the upstream answered a write with {answer.describe()}; it may or may not be stored"
            )
        raise error_of(answer)

    async def read(self, wanted: Sequence[RevisionRef], *, attachments: bool = False) -> list[Document | None]:
        asked = [{"id": ref.id, "rev": ref.rev} for ref in dict.fromkeys(wanted)]
        found: dict[RevisionRef, Document] = {}
        for doc_id, entries in await self._get_in_bulk(asked, attachments):
            for doc in _documents(doc_id, entries):
                found[RevisionRef(doc["_id"], doc["_rev"])] = doc
        return [found.get(ref) for ref in wanted]

    async def leaves(self, ids: Sequence[str]) -> list[list[Document]]:
        distinct = list(dict.fromkeys(ids))
        found: dict[str, list[Document]] = {}
        if await self._server.bulk_reads_give_all_leaves():
            for doc_id, entries in await self._get_in_bulk([{"id": doc_id} for doc_id in distinct], False):
                found.setdefault(doc_id, []).extend(_documents(doc_id, entries))
        else:
            turn = asyncio.Semaphore(limits.UPSTREAM_SINGLE_READS_COUNT)
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = {doc_id: group.create_task(self._leaves_of(doc_id, turn)) for doc_id in distinct}
            except BaseExceptionGroup as failures:
                raise failures.exceptions[0] from None
            found = {doc_id: task.result() for doc_id, task in tasks.items()}
        return [_in_order(found.get(doc_id, [])) for doc_id in ids]

    async def revs_diff(self, revs: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[str]]]:
        if not revs:
            return {}
        body = json_text.encode({doc_id: list(wanted) for doc_id, wanted in revs.items()})
        value = expect(await self._transport.call("POST", self._revs_diff, body=body), 200)
        if not isinstance(value, dict):
            raise UpstreamError("the upstream's _revs_diff answered no object")
        return {
            doc_id: {
                "missing": _texts(entry.get("missing")),
                "possible_ancestors": _texts(entry.get("possible_ancestors")),
            }
            for doc_id, entry in value.items()
            if isinstance(entry, dict) and entry.get("missing")
        }

    def changes(self, since: str) -> AsyncGenerator[ChangeRow | Idle, None]:
        heartbeat = int(limits.UPSTREAM_HEARTBEAT_SECONDS * 1000)
        query = f"feed=continuous&style=all_docs&heartbeat={heartbeat}&since={quote(since, safe='')}"
        return follow(self._transport, self._server.address.url(f"{self._path}/_changes", query))

    async def has_changes(self, since: str) -> bool:
        url = self._server.address.url(f"{self._path}/_changes", f"limit=1&since={quote(since, safe='')}")
        value = expect(await self._transport.call("GET", url), 200)
        if not isinstance(value, dict) or not isinstance(value.get("results"), list):
            raise UpstreamError("the upstream's _changes answered no results")
        return bool(value["results"])

    async def purged(self) -> list[tuple[str, list[str]]]:
        answer = await self._transport.call("GET", self._server.address.url(f"{self._path}/_purged_infos"))
        if answer.status in {400, 404, 405}:  # before CouchDB 3.4, and servers without purges
            if answer.status == 404 and isinstance(error_of(answer), UnknownDatabase):
                raise UnknownDatabase
            return []
        value = expect(answer, 200)
        infos = value.get("purged_infos") if isinstance(value, dict) else None
        if not isinstance(infos, list):
            raise UpstreamError("the upstream's _purged_infos answered no array")
        return [
            (info["id"], _texts(info.get("revs")))
            for info in infos
            if isinstance(info, dict) and isinstance(info.get("id"), str)
        ]

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> UpstreamResponse:
        check_path(path, query)
        return await pass_through(self._transport, method, self._path + path, query, headers, body)

    async def _get_in_bulk(self, asked: list[dict[str, str]], attachments: bool) -> list[tuple[str, list[Any]]]:
        """(id, entries) for each result. An answer too large or too deep is asked for in halves."""
        if not asked:
            return []
        body = json_text.encode({"docs": asked})
        try:
            value = expect(await self._transport.call("POST", self._bulk_get[attachments], body=body), 200)
        except (AnswerTooLarge, AnswerUnreadable) as error:
            if len(asked) == 1:
                raise UnreadableDocument(f"document {asked[0]['id']!r}: {error.reason}") from error
            half = len(asked) // 2
            first = await self._get_in_bulk(asked[:half], attachments)
            return first + await self._get_in_bulk(asked[half:], attachments)
        results = value.get("results") if isinstance(value, dict) else None
        if not isinstance(results, list):
            raise UpstreamError("the upstream's _bulk_get answered no results")
        return [(str(result.get("id")), result.get("docs") or []) for result in results if isinstance(result, dict)]

    async def _leaves_of(self, doc_id: str, turn: asyncio.Semaphore) -> list[Document]:
        url = self._server.address.url(self._path + document_path(doc_id), "open_revs=all&revs=true")
        async with turn:
            try:
                answer = await self._transport.call("GET", url)
            except (AnswerTooLarge, AnswerUnreadable) as error:
                raise UnreadableDocument(f"document {doc_id!r}: {error.reason}") from error
        if answer.status == 404 and not isinstance(error_of(answer), UnknownDatabase):
            return []
        value = expect(answer, 200)
        if not isinstance(value, list):
            raise UpstreamError("the upstream's open_revs answered no array")
        return _documents(doc_id, value)


async def _bulk(docs: Sequence[Document], new_edits: bool) -> bytes:
    """The body of `_bulk_docs`, made document by document: others have their turns meanwhile."""
    pauses = Pauses()
    texts: list[bytes] = []
    for doc in docs:
        await pauses.when_due()
        texts.append(json_text.encode(doc))
    return b'{"docs":[%s]%s}' % (b",".join(texts), b"" if new_edits else b',"new_edits":false')


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _failure(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """(error, reason) of one entry of an answer, None where it is none. PouchDB's own form is `name` and `message`."""
    error = entry.get("error")
    if not error:
        return None
    if isinstance(error, dict):  # _bulk_get nests it
        entry, error = error, error.get("error")
    name = error if isinstance(error, str) else str(entry.get("name") or "unknown_error")
    return name, str(entry.get("reason") or entry.get("message") or name)


def _documents(doc_id: str, entries: Sequence[Any]) -> list[Document]:
    """The documents of one result of a bulk read or of open_revs; what is not stored is left out.

    Any other failure is raised: taking a timeout for "not stored" would forget a document.
    """
    found = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise UpstreamError(f"the upstream's answer for document {doc_id!r} is no object")
        doc = entry.get("ok")
        if isinstance(doc, dict):
            if not isinstance(doc.get("_id"), str) or not isinstance(doc.get("_rev"), str):
                raise UpstreamError(f"the upstream's answer for document {doc_id!r} has no _id or _rev")
            found.append(doc)
        elif (failure := _failure(entry)) is not None and failure[0] not in _NOT_STORED:
            error, reason = failure
            raise UpstreamError(f"the upstream could not read document {doc_id!r}: {error}: {reason}")
    return found


def _in_order(docs: list[Document]) -> list[Document]:
    """Leaves with the winner first, each once."""
    by_rev = {doc["_rev"]: doc for doc in docs}
    if len(by_rev) < 2:
        return list(by_rev.values())
    order = winner_first((rev, doc.get("_deleted") is True) for rev, doc in by_rev.items())
    return [by_rev[rev] for rev, _ in order]


def _results_of_edits(docs: Sequence[Document], told: list[Any]) -> list[WriteResult] | None:
    """`new_edits=true`: one entry for each document, in order. None when they do not fit."""
    if len(told) != len(docs):
        return None
    results = []
    for doc, entry in zip(docs, told, strict=True):
        if not isinstance(entry, dict):
            return None
        doc_id = entry.get("id", doc.get("_id"))
        if not isinstance(doc_id, str) or doc_id != doc.get("_id", doc_id):
            return None
        if (failure := _failure(entry)) is not None:
            results.append(WriteResult(doc_id, None, *failure))
        elif isinstance(rev := entry.get("rev"), str):
            results.append(WriteResult(doc_id, rev, quorum=not entry.get("accepted")))
        else:
            return None
    return results


def _results_of_revisions(docs: Sequence[Document], told: list[Any], status: int) -> list[WriteResult] | None:
    """`new_edits=false`: entries only for what failed, named by id and rev; None when one names no document of ours.

    An entry without id (CouchDB's answer when shards failed) leaves open which document it means: all that are not
    named have failed then. Writing a revision again is harmless.
    """
    failed: dict[tuple[str, str | None], tuple[str, str]] = {}
    rest: tuple[str, str] | None = None
    ids = {doc["_id"] for doc in docs}
    for entry in told:
        if not isinstance(entry, dict):
            return None
        if (failure := _failure(entry)) is None:
            continue
        doc_id, rev = entry.get("id"), entry.get("rev")
        if doc_id is None:
            rest = failure
        elif doc_id in ids:
            failed[doc_id, rev if isinstance(rev, str) else None] = failure
        else:
            return None
    results = []
    for doc in docs:
        failure = failed.get((doc["_id"], doc["_rev"])) or failed.get((doc["_id"], None)) or rest
        if failure is None:
            results.append(WriteResult(doc["_id"], doc["_rev"], quorum=status != 202))
        else:
            results.append(WriteResult(doc["_id"], None, *failure))
    return results
