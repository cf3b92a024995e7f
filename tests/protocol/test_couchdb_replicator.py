"""CouchDB's own replicator (`POST /_replicate`) between a database of that CouchDB and the gateway, as a user of it.

Runs where TEST_COUCHDB_URL names a server with a replicator, which reaches the gateway at 127.0.0.1. `make test-compat`
runs it with pouchdb-server, whose replicator is PouchDB's; with `make test-sharded` there is none, and it is skipped.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from tests.protocol.site import Person, Place
from tests.protocol.upstreams import COUCHDB_URL, UpstreamServer

SKIPPED: Final = pytest.mark.skipif(not COUCHDB_URL, reason="TEST_COUCHDB_URL is not set")
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.parametrize("site", [pytest.param("couchdb", marks=SKIPPED)], indirect=True, scope="session"),
]

PATIENCE_SECONDS: Final = 90.0  # the scheduler of CouchDB's replicator may start a job late
SMALL: Final = b"a few bytes"
LARGE: Final = (
    bytes(range(256)) * 1_000
)  # more than CouchDB puts into a _bulk_docs (64 KiB): a multipart PUT of its own


@dataclass(frozen=True, slots=True)
class Run:
    """What one replication did: CouchDB tells it in its newest history entry, PouchDB at the top."""

    read: int
    written: int
    refused: int


@dataclass(frozen=True, slots=True)
class Copy:
    """A database on the CouchDB under test, and that server's replicator."""

    server: UpstreamServer
    http: httpx.AsyncClient
    name: str

    @property
    def url(self) -> str:
        """With the credentials: the replicator reaches its own databases over HTTP, too."""
        if self.server.username is None:
            return f"{self.server.url}/{self.name}"
        login = ":".join(quote(text or "", safe="") for text in (self.server.username, self.server.password))
        return f"{self.server.url.replace('://', f'://{login}@', 1)}/{self.name}"

    async def pull(self, person: Person, **more: Any) -> Run:
        return await self._run({"source": person.url, "target": self.url, **more})

    async def push(self, person: Person, **more: Any) -> Run:
        return await self._run({"source": self.url, "target": person.url, **more})

    async def _run(self, job: dict[str, Any]) -> Run:
        answer = await self.http.post("/_replicate", json=job, timeout=PATIENCE_SECONDS)
        assert answer.status_code in (200, 202), answer.text
        result = answer.json()
        assert result.get("ok") is True, result
        if result.get("no_changes"):
            return Run(0, 0, 0)
        told = result if "docs_written" in result else result["history"][0]
        return Run(told["docs_read"], told["docs_written"], told["doc_write_failures"])

    async def start(self, job: dict[str, Any]) -> None:
        answer = await self.http.post("/_replicate", json={**job, "continuous": True}, timeout=PATIENCE_SECONDS)
        assert answer.status_code in (200, 202), answer.text

    async def cancel(self, job: dict[str, Any]) -> None:
        cancelled = {**job, "continuous": True, "cancel": True}
        answer = await self.http.post("/_replicate", json=cancelled, timeout=PATIENCE_SECONDS)
        assert answer.status_code in (200, 202), answer.text

    async def put(self, id: str, **body: Any) -> str:
        answer = await self.http.put(f"/{self.name}/{id}", json=body)
        assert answer.status_code in (201, 202), answer.text
        return str(answer.json()["rev"])

    async def leaves(self, id: str) -> dict[str, Any]:
        return await leaves(self.http, f"/{self.name}/{id}")

    async def ids(self) -> list[str]:
        """Those of its living documents."""
        answer = await self.http.get(f"/{self.name}/_all_docs")
        assert answer.status_code == 200, answer.text
        return [row["id"] for row in answer.json()["rows"]]


async def leaves(http: httpx.AsyncClient, path: str) -> dict[str, Any]:
    """Every leaf of a document by its revision: body, history, attachments by name with type and bytes."""
    params = {"open_revs": "all", "revs": "true", "attachments": "true"}
    answer = await http.get(path, params=params, headers={"Accept": "application/json"})
    if answer.status_code == 404:
        return {}
    assert answer.status_code == 200, answer.text
    found = {}
    for doc in (entry["ok"] for entry in answer.json()):
        attached = doc.pop("_attachments", {})
        doc["attached"] = {
            name: (value["content_type"], base64.b64decode(value["data"])) for name, value in attached.items()
        }
        found[doc["_rev"]] = doc
    return found


def attached(**files: bytes) -> dict[str, Any]:
    return {
        f"{name}.bin": {"content_type": "application/octet-stream", "data": base64.b64encode(data).decode()}
        for name, data in files.items()
    }


async def same(person: Person, copy: Copy, id: str) -> dict[str, Any]:
    """The leaves of a document, which are the same in the copy as through the gateway."""
    found = await leaves(person.http, f"/{id}")
    assert found != {}
    assert await copy.leaves(id) == found
    return found


async def until_copied(person: Person, copy: Copy, *ids: str) -> None:
    """Wait until the documents are the same on both sides."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        sides = [(await leaves(person.http, f"/{id}"), await copy.leaves(id)) for id in ids]
        if all(ours == theirs and ours for ours, theirs in sides):
            return
        assert time.monotonic() < end, sides
        await asyncio.sleep(0.1)


@pytest_asyncio.fixture(loop_scope="session")
async def copy(notes: Place) -> AsyncIterator[Copy]:
    """An empty database, which is deleted afterwards. Skips the test where the server has no replicator."""
    server = notes.site.server
    assert server is not None
    async with server.client() as http:
        probe = await http.post("/_replicate", json={})
        if probe.status_code in (404, 405, 501):
            pytest.skip("the server has no replicator")
        made = Copy(server, http, server.database(f"copy_{notes.tag}"))
        answer = await http.put(f"/{made.name}")
        assert answer.status_code in (201, 202), answer.text
        try:
            yield made
        finally:
            gone = await http.delete(f"/{made.name}")
            assert gone.status_code in (200, 202, 404), gone.text


async def test_a_pull_copies_what_the_user_may_read_with_attachments_and_conflicts(notes: Place, copy: Copy) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    plain, files, split, hidden = notes.names("plain", "files", "split", "hidden")
    here = notes.name("a")
    await ann.put(plain, channels=here, text="é")
    await ann.put(files, channels=here, _attachments=attached(small=SMALL, large=LARGE))
    await ann.replicate(split, "2-bb", "1-aa", channels=here, side="b")
    await ann.replicate(split, "2-cc", "1-aa", channels=here, side="c")
    await admin.put(hidden, channels=notes.name("b"))
    assert await copy.pull(ann) == Run(4, 4, 0)
    assert await copy.ids() == sorted([plain, files, split])
    for id in (plain, files):
        await same(ann, copy, id)
    assert set(await same(ann, copy, split)) == {"2-bb", "2-cc"}
    ((_, large),) = [value for doc in (await copy.leaves(files)).values() for value in [doc["attached"]["large.bin"]]]
    assert large == LARGE


async def test_a_second_pull_has_nothing_to_do_and_a_third_only_what_is_new(notes: Place, copy: Copy) -> None:
    ann = await notes.user("ann", notes.name("a"))
    kept, gone, new = notes.names("kept", "gone", "new")
    await ann.put(kept, channels=notes.name("a"))
    rev = await ann.put(gone, channels=notes.name("a"))
    assert await copy.pull(ann) == Run(2, 2, 0)
    assert await copy.pull(ann) == Run(0, 0, 0)
    await ann.put(new, channels=notes.name("a"))
    deleted = await ann.delete(gone, rev)
    assert await copy.pull(ann) == Run(2, 2, 0)
    assert await copy.ids() == sorted([kept, new])
    (tombstone,) = (await copy.leaves(gone)).values()
    assert (tombstone["_rev"], tombstone["_deleted"]) == (deleted, True)


async def test_a_push_brings_attachments_conflicts_and_deletions(notes: Place, copy: Copy) -> None:
    ann = await notes.user("ann", notes.name("a"))
    plain, files, split, gone = notes.names("plain", "files", "split", "gone")
    here = notes.name("a")
    await copy.put(plain, channels=here, text="é")
    await copy.put(files, channels=here, _attachments=attached(small=SMALL, large=LARGE))
    for side in ("b", "c"):
        history = {"start": 2, "ids": [side * 2, "aa"]}
        doc = {"_id": split, "_rev": f"2-{side * 2}", "_revisions": history, "channels": here, "side": side}
        answer = await copy.http.post(f"/{copy.name}/_bulk_docs", json={"docs": [doc], "new_edits": False})
        assert answer.status_code in (201, 202), answer.text
    rev = await copy.put(gone, channels=here)
    assert await copy.push(ann) == Run(5, 5, 0)
    for id in (plain, files, split, gone):
        await same(ann, copy, id)
    answer = await copy.http.delete(f"/{copy.name}/{gone}", params={"rev": rev})
    assert answer.status_code in (200, 202), answer.text
    assert await copy.push(ann) == Run(1, 1, 0)
    assert await ann.held() == sorted([plain, files, split])
    assert await ann.status("GET", f"/{gone}") == 404


async def test_a_second_push_has_nothing_to_do(notes: Place, copy: Copy) -> None:
    ann = await notes.user("ann", notes.name("a"))
    doc = notes.name("doc")
    rev = await copy.put(doc, channels=notes.name("a"))
    assert await copy.push(ann) == Run(1, 1, 0)
    assert await copy.push(ann) == Run(0, 0, 0)
    await copy.put(doc, _rev=rev, channels=notes.name("a"), again=True)
    assert await copy.push(ann) == Run(1, 1, 0)
    await same(ann, copy, doc)


async def test_a_pull_with_the_channel_filter_copies_these_channels_only(notes: Place, copy: Copy) -> None:
    a, b = notes.names("a", "b")
    ann = await notes.user("ann", a, b)
    docs = notes.names("in_a", "in_b", "in_both")
    for id, channels in zip(docs, ([a], [b], [a, b]), strict=True):
        await ann.put(id, channels=channels)
    filtered = {"filter": "sync_gateway/bychannel", "query_params": {"channels": b}}
    assert await copy.pull(ann, **filtered) == Run(2, 2, 0)
    assert await copy.ids() == sorted(docs[1:])
    assert await copy.pull(ann, **filtered) == Run(0, 0, 0)


async def test_a_refused_document_is_counted_and_the_others_arrive(notes: Place, copy: Copy) -> None:
    ann = await notes.user("ann", notes.name("a"))
    first, refused, with_file, last = notes.names("first", "refused", "with_file", "last")
    await copy.put(first, channels=notes.name("a"))
    await copy.put(refused, channels=notes.name("a"), refuse="not this one")
    await copy.put(with_file, channels=notes.name("a"), refuse="nor this", _attachments=attached(large=LARGE))
    await copy.put(last, channels=notes.name("a"))
    assert await copy.push(ann) == Run(4, 2, 2)
    assert await ann.held() == sorted([first, last])


async def test_a_continuous_pull_catches_up_and_follows(notes: Place, copy: Copy) -> None:
    ann = await notes.user("ann", notes.name("a"))
    before, after = notes.names("before", "after")
    await ann.put(before, channels=notes.name("a"))
    job = {"source": ann.url, "target": copy.url}
    await copy.start(job)
    try:
        await until_copied(ann, copy, before)
        await ann.put(after, channels=notes.name("a"), _attachments=attached(small=SMALL))
        await until_copied(ann, copy, before, after)
    finally:
        await copy.cancel(job)


async def test_a_continuous_push_catches_up_and_follows(notes: Place, copy: Copy) -> None:
    ann = await notes.user("ann", notes.name("a"))
    before, after = notes.names("before", "after")
    await copy.put(before, channels=notes.name("a"))
    job = {"source": copy.url, "target": ann.url}
    await copy.start(job)
    try:
        await until_copied(ann, copy, before)
        await copy.put(after, channels=notes.name("a"), _attachments=attached(small=SMALL))
        await until_copied(ann, copy, before, after)
    finally:
        await copy.cancel(job)
