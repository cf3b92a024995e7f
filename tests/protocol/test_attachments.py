"""Attachments of any size: streamed both ways in little memory, under access, with CouchDB's headers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.protocol.raw import exchange
from tests.protocol.site import Person, Place, basic

pytestmark = pytest.mark.asyncio(loop_scope="session")

MEBIBYTE = os.urandom(1_048_576)
ALLOWED_BYTES = 20_000_000  # by which the gateway may grow, whatever passes through it


def digest(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def peak_bytes(pid: int) -> int:
    """The most memory that a process ever had."""
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


async def body(mebibytes: int, *events: Callable[[], Awaitable[object]]) -> AsyncIterator[bytes]:
    """That many bytes, with something that happens in the middle."""
    for at in range(mebibytes):
        if at == mebibytes // 2:
            for event in events:
                await event()
        yield MEBIBYTE


async def put(person: Person, path: str, data: bytes | AsyncIterator[bytes], rev: str | None, kind: str) -> str:
    params = {} if rev is None else {"rev": rev}
    answer = await person.http.put(path, content=data, params=params, headers={"Content-Type": kind})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["rev"])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the memory of processes")
@pytest.mark.parametrize("mebibytes", [40, pytest.param(200, marks=pytest.mark.slow)])
async def test_a_large_attachment_passes_both_ways_in_little_memory(own: Place, mebibytes: int) -> None:
    ann = await own.user("ann", own.name("a"))
    doc, pid = own.name("doc"), own.site.gateway.pid
    rev = await ann.put(doc, channels=own.name("a"))
    before, sent = peak_bytes(pid), hashlib.sha256()
    for _ in range(mebibytes):
        sent.update(MEBIBYTE)
    await put(ann, f"/{doc}/film", body(mebibytes), rev, "video/mp4")
    received = hashlib.sha256()
    async with ann.http.stream("GET", f"/{doc}/film") as answer:
        assert (answer.status_code, answer.headers["Content-Length"]) == (200, str(mebibytes << 20))
        async for chunk in answer.aiter_raw():
            received.update(chunk)
    assert received.digest() == sent.digest()
    assert peak_bytes(pid) - before < ALLOWED_BYTES


async def test_who_may_not_write_is_refused_before_he_sends(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    doc = notes.name("doc")
    rev = await ann.put(doc, channels=notes.name("a"), writers=[bob.name])
    for person, status in ((ann, b"403"), (bob, b"403")):
        login = basic(person.name, f"{person.name}-pw")["Authorization"]
        head = f"PUT /notes/{doc}/film?rev={rev} HTTP/1.1\r\nHost: x\r\nAuthorization: {login}\r\n"
        head += "Content-Length: 900000000\r\nExpect: 100-continue\r\n\r\n"
        answer = await exchange(notes.site.gateway.public, head.encode())
        assert answer.startswith(b"HTTP/1.1 " + status)  # and not 100 Continue
    assert (await ann.get(f"/{doc}"))["_rev"] == rev


async def test_who_loses_the_channel_while_he_sends_stores_nothing(notes: Place) -> None:
    channel = notes.name("a")
    ann, admin = await notes.user("ann", channel), await notes.admin()
    doc = notes.name("doc")
    rev = await ann.put(doc, channels=channel, needs=channel)
    data = body(2, lambda: notes.change_user(ann, admin_channels=[]))
    answer = await ann.http.put(f"/{doc}/film", content=data, params={"rev": rev})
    assert (answer.status_code, answer.json()["reason"]) == (403, "sg missing channel access")
    assert (await admin.get(f"/{doc}"))["_rev"] == rev


async def test_a_document_that_changed_while_the_attachment_came_is_a_conflict(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    doc = notes.name("doc")
    rev = await ann.put(doc, channels=notes.name("a"))
    data = body(2, lambda: ann.put(doc, rev=rev, channels=notes.name("a"), n=2))
    answer = await ann.http.put(f"/{doc}/film", content=data, params={"rev": rev})
    assert (answer.status_code, answer.json()["error"]) == (409, "conflict")
    assert "_attachments" not in await ann.get(f"/{doc}")


async def test_an_attachment_of_an_unknown_revision_is_couchdbs_409(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    doc, gone = notes.name("doc"), notes.name("gone")
    rev = await put(ann, f"/{doc}/file", b"1", await ann.put(doc, channels=notes.name("a")), "image/png")
    unknown = {"rev": "9-" + "0" * 32}
    for method in ("PUT", "DELETE"):
        for path in (f"/{doc}/file", f"/{doc}/other", f"/{gone}/file"):
            answer = await ann.http.request(method, path, params=unknown)
            told = {name: answer.json()[name] for name in ("error", "reason")}
            assert (answer.status_code, told) == (409, {"error": "not_found", "reason": "missing_rev"})
        assert await bob.status(method, f"/{doc}/file", params=unknown) == 403
    for params in ({"rev": rev}, {}):
        answer = await ann.http.delete(f"/{doc}/other", params=params)
        assert (answer.status_code, answer.json()["reason"]) == (404, "Document is missing attachment")
    assert await ann.status("DELETE", f"/{doc}/file") == 409
    assert await ann.status("DELETE", f"/{gone}/file") == 404
    assert await ann.status("PUT", f"/{doc}/new") == 409


async def test_a_client_that_hangs_up_in_the_middle_leaves_nothing_stored(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    doc = notes.name("doc")
    rev = await ann.put(doc, channels=notes.name("a"))

    async def hang_up() -> None:
        raise ConnectionError

    for headers in ({"Content-Length": str(4 << 20)}, {"Transfer-Encoding": "chunked"}):
        with pytest.raises(ConnectionError):
            await ann.http.put(f"/{doc}/film", content=body(4, hang_up), params={"rev": rev}, headers=headers)
    # What came too late would be a conflict with this one.
    later = await put(ann, f"/{doc}/other", b"whole", rev, "image/png")
    assert await ann.get(f"/{doc}") == {
        "_id": doc,
        "_rev": later,
        "channels": notes.name("a"),
        "_attachments": {
            "other": {
                "content_type": "image/png",
                "digest": f"md5-{digest(b'whole')}",
                "length": 5,
                "revpos": 2,
                "stub": True,
            }
        },
    }


async def test_an_attachment_is_read_through_a_readable_revision_only(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    doc = notes.name("doc")
    secret = await put(ann, f"/{doc}/file", b"secret", await ann.put(doc, channels=notes.name("a")), "image/png")
    later = await put(ann, f"/{doc}/file", b"open", secret, "image/png")
    stubs = (await ann.get(f"/{doc}"))["_attachments"]
    moved = await ann.put(doc, rev=later, channels=notes.name("b"), _attachments=stubs)
    assert (await bob.http.get(f"/{doc}/file")).content == b"open"
    assert (await bob.http.get(f"/{doc}/file", params={"rev": moved})).content == b"open"
    for rev in (secret, later):
        assert await bob.status("GET", f"/{doc}/file", params={"rev": rev}) == 404
        assert await bob.status("HEAD", f"/{doc}/file", params={"rev": rev}) == 404
    for method in ("GET", "HEAD"):
        assert await ann.status(method, f"/{doc}/file") == 403
        assert await ann.status(method, f"/{doc}/file", params={"rev": moved}) == 403


@pytest.mark.parametrize(
    "name", ["plain", "dir/sub/file.txt", "dir%2Fsub", "ünï%20cödé%25.txt", "a%2Bb", "x..y", "%F0%9F%93%B7"]
)
async def test_attachments_may_have_any_name(notes: Place, name: str) -> None:
    ann = await notes.user("ann", notes.name("a"))
    doc = notes.name("doc")
    rev = await ann.put(doc, channels=notes.name("a"))
    rev = await put(ann, f"/{doc}/{name}", b"\0data", rev, "application/x-any")
    assert (await ann.http.get(f"/{doc}/{name}")).content == b"\0data"
    (stored,) = (await ann.get(f"/{doc}"))["_attachments"]
    assert stored == httpx.URL(f"http://x/{name}").path.removeprefix("/").replace("%2F", "/")
    assert await ann.status("DELETE", f"/{doc}/{name}", params={"rev": rev}) == 200
    assert await ann.status("GET", f"/{doc}/{name}") == 404


async def test_an_attachment_has_couchdbs_headers(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    doc, data = notes.name("doc"), bytes(range(100))
    await put(ann, f"/{doc}/file", data, await ann.put(doc, channels=notes.name("a")), "image/png")
    tag = f'"{digest(data)}"'
    for method in ("GET", "HEAD"):
        answer = await ann.http.request(method, f"/{doc}/file")
        told = {name: answer.headers.get(name) for name in ("ETag", "Content-Type", "Content-Length", "Accept-Ranges")}
        assert told == {"ETag": tag, "Content-Type": "image/png", "Content-Length": "100", "Accept-Ranges": "bytes"}
        assert answer.headers["Content-MD5"] == digest(data)
        assert answer.headers["Content-Security-Policy"] == "sandbox"
        assert "Content-Encoding" not in answer.headers
        assert answer.content == (data if method == "GET" else b"")
        held = await ann.http.request(method, f"/{doc}/file", headers={"If-None-Match": tag})
        assert (held.status_code, held.content, held.headers["ETag"]) == (304, b"", tag)
    for asked, expected in (("bytes=3-5", data[3:6]), ("bytes=-4", data[-4:]), ("bytes=90-500", data[90:])):
        part = await ann.http.get(f"/{doc}/file", headers={"Range": asked})
        assert (part.status_code, part.content) == (206, expected)
        assert part.headers["Content-Range"].endswith("/100")
        assert "Content-MD5" not in part.headers
    refused = await ann.http.get(f"/{doc}/file", headers={"Range": "bytes=100-"})
    assert (refused.status_code, refused.json()["error"], refused.json()["code"]) == (
        416,
        "requested_range_not_satisfiable",
        "CG1013",
    )
    assert (await ann.http.get(f"/{doc}/file", headers={"Range": "bytes=0-"})).status_code == 200


async def test_text_is_kept_compressed_and_served_as_the_client_likes_it(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    doc, data = notes.name("doc"), b"This is a base64 encoded text"
    await put(ann, f"/{doc}/file", data, await ann.put(doc, channels=notes.name("a")), "text/plain")
    stub = (await ann.get(f"/{doc}", att_encoding_info="true"))["_attachments"]["file"]
    assert stub == {
        "content_type": "text/plain",
        "digest": "md5-qUUYqS41RhwF0TrCsTAxFg==",
        "encoded_length": 47,
        "encoding": "gzip",
        "length": 29,
        "revpos": 2,
        "stub": True,
    }
    plain = await ann.http.get(f"/{doc}/file", headers={"Accept-Encoding": "identity"})
    assert (plain.content, plain.headers["Content-Length"]) == (data, "29")
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["Accept-Ranges"] == "none"
    packed = await ann.http.get(f"/{doc}/file", headers={"Accept-Encoding": "gzip"})
    assert (packed.headers["Content-Encoding"], packed.headers["Content-Length"]) == ("gzip", "47")
    assert packed.headers["Content-MD5"] == packed.headers["ETag"].strip('"') == "qUUYqS41RhwF0TrCsTAxFg=="
    assert packed.content == data
    assert "encoding" not in (await ann.get(f"/{doc}"))["_attachments"]["file"]


async def test_as_many_uploads_as_clients_like_end_in_good_order(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    docs = [notes.name(f"doc{at}") for at in range(20)]

    async def add(doc: str) -> str:
        rev = await ann.put(doc, channels=notes.name("a"))
        return await put(ann, f"/{doc}/file", body(1), rev, "image/png")

    revs = await asyncio.gather(*map(add, docs))
    assert {row["id"]: row["changes"][0]["rev"] for row in (await ann.changes())["results"]} == dict(
        zip(docs, revs, strict=True)
    )


@pytest.mark.parametrize("data", ["false", "true"])
async def test_the_encodings_of_attachments_are_told_in_lists_as_couchdb_tells_them(notes: Place, data: str) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    doc, plain = notes.name("doc"), notes.name("plain")
    await put(
        ann,
        f"/{doc}/file",
        b"This is a base64 encoded text",
        await ann.put(doc, channels=notes.name("a")),
        "text/plain",
    )
    await ann.put(plain, channels=notes.name("a"))
    asked = {"include_docs": "true", "att_encoding_info": "true", "attachments": data}
    keys = {"keys": [doc, plain]}

    async def listed(person: Person) -> dict[str, list[Any]]:
        bulk = await person.http.post("/_bulk_get", params=asked, json={"docs": [{"id": doc}, {"id": plain}]})
        feed = await person.http.post(
            "/_changes", params={**asked, "filter": "_doc_ids"}, json={"doc_ids": [doc, plain]}
        )
        rows = (await person.http.post("/_all_docs", params=asked, json=keys)).json()["rows"]
        queries = await person.http.post(
            "/_all_docs/queries", json={"queries": [{**keys, **dict.fromkeys(asked, True)}]}
        )
        return {
            "bulk": [one["docs"][0]["ok"] for one in bulk.json()["results"]],
            "feed": sorted((row["doc"] for row in feed.json()["results"]), key=lambda found: str(found["_id"])),
            "rows": [row["doc"] for row in rows],
            "queries": [row["doc"] for row in queries.json()["results"][0]["rows"]],
        }

    mine = await listed(ann)
    entry = mine["rows"][0]["_attachments"]["file"]
    assert (entry["encoding"], entry["encoded_length"]) == ("gzip", 47)
    assert ("data" in entry, "stub" in entry) == (data == "true", data == "false")
    assert all(found["_attachments"]["file"] == entry for found in (mine["feed"][0], mine["bulk"][0]))
    assert mine == await listed(admin)
