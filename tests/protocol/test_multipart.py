"""Documents with their attachments behind them, as CouchDB's replicator pulls and pushes them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.multipart import MultipartReader, boundary_of
from tests.protocol.site import Person, Place
from tests.protocol.test_attachments import ALLOWED_BYTES, MEBIBYTE, peak_bytes

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEXT = b"This is a base64 encoded text"
PACKED_DIGEST = "md5-qUUYqS41RhwF0TrCsTAxFg=="  # of the text as CouchDB stores it
IMAGE = bytes(range(256))
Parts = list[tuple[dict[str, str], bytes]]


async def parts_of(body: bytes, content_type: str) -> Parts:
    async def once() -> AsyncIterator[bytes]:
        yield body

    parts = MultipartReader(boundary_of(content_type), once()).parts()
    return [(dict(part.headers), b"".join([chunk async for chunk in part.content])) async for part in parts]


async def related(body: bytes, content_type: str) -> tuple[dict[str, Any], Parts]:
    """The document and the parts that follow it."""
    assert content_type.startswith("multipart/related; boundary=")
    (headers, document), *following = await parts_of(body, content_type)
    assert headers == {"content-type": "application/json"}
    return json.loads(document), following


async def two_attachments(person: Person, doc: str, channel: str) -> tuple[str, str]:
    """A document with a text and, in its second revision, an image; the revisions."""
    data = base64.b64encode(TEXT).decode()
    first = await person.put(doc, channels=channel, _attachments={"text": {"content_type": "text/plain", "data": data}})
    answer = await person.http.put(
        f"/{doc}/dir%2Fim%22age", content=IMAGE, params={"rev": first}, headers={"Content-Type": "image/png"}
    )
    assert answer.status_code == 201, answer.text
    return first, str(answer.json()["rev"])


FOLLOWING_IMAGE = (
    {
        "content-disposition": 'attachment; filename="dir/im\\"age"',
        "content-type": "image/png",
        "content-length": "256",
    },
    IMAGE,
)
FOLLOWING_TEXT = {
    "content-disposition": 'attachment; filename="text"',
    "content-type": "text/plain",
    "content-length": "47",
    "content-encoding": "gzip",
}


def unpacked(parts: Parts) -> Parts:
    return [(head, gzip.decompress(data) if "content-encoding" in head else data) for head, data in parts]


def without_quote(parts: Parts) -> Parts:
    """CouchDB does not escape quotes in names."""
    return [
        ({**head, "content-disposition": head["content-disposition"].replace('im\\"age', 'im"age')}, data)
        for head, data in parts
    ]


@pytest.mark.parametrize("accept", ["multipart/related", "*/*", "multipart/*, text/html"])
async def test_a_document_comes_with_its_attachments_behind_it(notes: Place, accept: str) -> None:
    ann = await notes.user("ann", notes.name("a"))
    doc = notes.name("doc")
    _, rev = await two_attachments(ann, doc, notes.name("a"))
    params = {"attachments": "true", "revs": "true"}
    answer = await ann.http.get(f"/{doc}", params=params, headers={"Accept": accept})
    assert (answer.status_code, answer.headers["ETag"]) == (200, f'"{rev}"')
    assert answer.headers["Content-Length"] == str(len(answer.content))
    document, following = await related(answer.content, answer.headers["Content-Type"])
    assert (document["_rev"], document["_revisions"]["start"]) == (rev, 2)
    assert document["_attachments"]["text"] == {
        "content_type": "text/plain",
        "revpos": 1,
        "digest": PACKED_DIGEST,
        "length": 29,
        "follows": True,
        "encoding": "gzip",
        "encoded_length": 47,
    }
    assert list(document["_attachments"]) == ['dir/im"age', "text"]
    expected = [FOLLOWING_IMAGE, (FOLLOWING_TEXT, TEXT)]
    assert without_quote(unpacked(following)) == without_quote(expected)
    held = await ann.http.get(f"/{doc}", params=params, headers={"Accept": accept, "If-None-Match": f'"{rev}"'})
    assert (held.status_code, held.content) == (304, b"")
    head = await ann.http.head(f"/{doc}", params=params, headers={"Accept": accept})
    assert (head.status_code, head.headers["Content-Length"]) == (200, answer.headers["Content-Length"])


async def test_what_is_asked_for_beside_the_revision_is_in_the_document_before_its_attachments(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    doc = notes.name("doc")
    _, rev = await two_attachments(ann, doc, notes.name("a"))
    params = {"attachments": "true", "meta": "true", "local_seq": "true"}
    answer = await ann.http.get(f"/{doc}", params=params, headers={"Accept": "multipart/related"})
    assert "ETag" not in answer.headers
    document, following = await related(answer.content, answer.headers["Content-Type"])
    assert document["_revs_info"][0]["rev"] == rev
    assert list(document)[-3:] == ["_revs_info", "_local_seq", "_attachments"]
    assert "_revisions" not in document
    assert unpacked(following)[1] == (FOLLOWING_TEXT, TEXT)


async def test_only_attachments_that_are_newer_come_along(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    doc = notes.name("doc")
    first, rev = await two_attachments(ann, doc, notes.name("a"))
    since = {"atts_since": json.dumps([first])}
    inline = await ann.http.get(f"/{doc}", params=since, headers={"Accept": "application/json"})
    attachments = inline.json()["_attachments"]
    assert base64.b64decode(attachments['dir/im"age']["data"]) == IMAGE
    assert (attachments["text"]["stub"], attachments["text"]["length"]) == (True, 29)
    answer = await ann.http.get(f"/{doc}", params=since, headers={"Accept": "multipart/related"})
    document, following = await related(answer.content, answer.headers["Content-Type"])
    assert (document["_attachments"]["text"]["stub"], len(following)) == (True, 1)
    nothing = await ann.http.get(
        f"/{doc}", params={"atts_since": json.dumps([rev])}, headers={"Accept": "multipart/related"}
    )
    assert nothing.headers["Content-Type"] == "application/json"
    assert {entry["stub"] for entry in nothing.json()["_attachments"].values()} == {True}


async def test_open_revs_come_with_their_attachments(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    doc = notes.name("doc")
    first, rev = await two_attachments(ann, doc, notes.name("a"))
    await ann.replicate(doc, "1-f", channels=notes.name("b"), secret="of bob")
    asked = {"open_revs": json.dumps([rev, "1-f", "9-x"]), "revs": "true", "atts_since": json.dumps([first])}
    answer = await ann.http.get(f"/{doc}", params=asked, headers={"Accept": "multipart/mixed"})
    assert answer.content.endswith(b"--")
    found, *missing = await parts_of(answer.content, answer.headers["Content-Type"])
    document, following = await related(found[1], found[0]["content-type"])
    assert (document["_rev"], document["_attachments"]["text"]["stub"]) == (rev, True)
    assert without_quote(following) == without_quote([FOLLOWING_IMAGE])
    error = {"content-type": 'application/json; error="true"'}
    assert missing == [(error, b'{"missing":"1-f"}'), (error, b'{"missing":"9-x"}')]
    answer = await bob.http.get(f"/{doc}", params={"open_revs": "all"})
    ((headers, body),) = await parts_of(answer.content, answer.headers["Content-Type"])
    assert headers == {"content-type": "application/json"}
    assert json.loads(body) == {"_id": doc, "_rev": "1-f", "channels": notes.name("b"), "secret": "of bob"}
    as_json = await ann.http.get(
        f"/{doc}", params={**asked, "att_encoding_info": "true"}, headers={"Accept": "application/json"}
    )
    attachments = as_json.json()[0]["ok"]["_attachments"]
    assert (attachments["text"]["encoding"], "data" in attachments['dir/im"age']) == ("gzip", True)


async def test_bulk_get_sends_attachments_behind_their_documents(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    doc, hidden, plain = notes.name("doc"), notes.name("hidden"), notes.name("plain")
    first, rev = await two_attachments(ann, doc, notes.name("a"))
    _, secret = await two_attachments(bob, hidden, notes.name("b"))
    plain_rev = await ann.put(plain, channels=notes.name("a"))
    docs = [{"id": doc, "rev": rev, "atts_since": [first]}, {"id": hidden, "rev": secret}, {"id": plain}]
    answer = await ann.http.post("/_bulk_get", json={"docs": docs}, headers={"Accept": "multipart/mixed"})
    assert answer.headers["Content-Type"].startswith("multipart/mixed; boundary=")
    found, missing, other = await parts_of(answer.content, answer.headers["Content-Type"])
    assert (found[0]["x-doc-id"], found[0]["x-rev-id"]) == (doc, rev)
    document, following = await related(found[1], found[0]["content-type"])
    assert (document["_rev"], len(following)) == (rev, 1)
    assert missing[0] == {"content-type": 'application/json; error="true"'}
    assert json.loads(missing[1])["error"] == "not_found"
    assert b"image" not in missing[1]
    assert json.loads(other[1])["_rev"] == plain_rev
    inline = await ann.http.post("/_bulk_get", json={"docs": docs[:1]})
    attachments = inline.json()["results"][0]["docs"][0]["ok"]["_attachments"]
    assert ("data" in attachments['dir/im"age'], "data" in attachments["text"]) == (True, False)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the memory of processes")
async def test_large_documents_pass_both_ways_in_little_memory(own: Place) -> None:
    ann = await own.user("ann", own.name("a"))
    doc, pid, mebibytes = own.name("doc"), own.site.gateway.pid, 40
    announced = {"follows": True, "content_type": "video/mp4", "length": mebibytes << 20}
    history = {"_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}}
    document = {"_id": doc, "channels": own.name("a"), **history, "_attachments": {"film": announced}}

    async def body() -> AsyncIterator[bytes]:
        yield b"--x\r\nContent-Type: application/json\r\n\r\n" + json.dumps(document).encode() + b"\r\n--x\r\n\r\n"
        for _ in range(mebibytes):
            yield MEBIBYTE
        yield b"\r\n--x--"

    before = peak_bytes(pid)
    answer = await ann.http.put(
        f"/{doc}",
        params={"new_edits": "false"},
        content=body(),
        headers={"Content-Type": 'multipart/related; boundary="x"'},
    )
    assert (answer.status_code, answer.json()) == (201, {"ok": True, "id": doc, "rev": "2-b"})
    expected = hashlib.md5(usedforsecurity=False)
    for _ in range(mebibytes):
        expected.update(MEBIBYTE)
    stub = (await ann.get(f"/{doc}"))["_attachments"]["film"]
    assert stub["digest"] == "md5-" + base64.b64encode(expected.digest()).decode()
    for path, params in ((f"/{doc}", {"open_revs": "all"}), (f"/{doc}", {"attachments": "true"})):
        size = 0
        async with ann.http.stream("GET", path, params=params) as stream:
            async for chunk in stream.aiter_raw():
                size += len(chunk)
        assert mebibytes << 20 < size < (mebibytes << 20) + 2_000
    assert peak_bytes(pid) - before < ALLOWED_BYTES


async def test_what_was_pulled_can_be_pushed(notes: Place) -> None:
    """As CouchDB's replicator does: encodings, digests and revision positions stay what they are."""
    ann = await notes.user("ann", notes.name("a"))
    doc, copy = notes.name("doc"), notes.name("cop")
    await two_attachments(ann, doc, notes.name("a"))
    pulled = await ann.http.get(
        f"/{doc}", params={"attachments": "true", "revs": "true"}, headers={"Accept": "multipart/related"}
    )
    body = pulled.content.replace(f'"_id":"{doc}"'.encode(), f'"_id":"{copy}"'.encode())
    for _ in range(2):
        answer = await ann.http.put(
            f"/{copy}",
            params={"new_edits": "false"},
            content=body,
            headers={"Content-Type": pulled.headers["Content-Type"]},
        )
        assert answer.status_code == 201, answer.text
    asked = {"revs": "true", "att_encoding_info": "true"}
    assert {**await ann.get(f"/{copy}", **asked), "_id": doc} == await ann.get(f"/{doc}", **asked)
    assert (await ann.http.get(f"/{copy}/text")).content == TEXT


async def test_a_refused_or_broken_push_stores_nothing(notes: Place) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    doc = notes.name("doc")

    async def push(document: dict[str, Any], data: bytes, end: bytes = b"\r\n--x--") -> tuple[int, str]:
        body = b"--x\r\nContent-Type: application/json\r\n\r\n" + json.dumps(document).encode()
        body += b"\r\n--x\r\n\r\n" + data + end
        headers = {"Content-Type": "multipart/related; boundary=x"}
        answer = await ann.http.put(f"/{doc}", content=body, headers=headers)
        return answer.status_code, answer.json()["error"]

    following = {"f": {"follows": True, "content_type": "a/b", "length": 3}}
    assert await push({"_attachments": following, "refuse": "no"}, b"abc") == (403, "forbidden")
    assert await push({"_attachments": following, "_rev": "1-" + "0" * 32}, b"abc") == (409, "conflict")
    assert await push({"_attachments": following}, b"ab") == (400, "bad_request")
    assert await push({"_attachments": following}, b"abcd") == (400, "bad_request")
    assert await push({"_attachments": following}, b"abc", b"") == (400, "bad_request")
    wrong = {"f": {**following["f"], "digest": "md5-AAAAAAAAAAAAAAAAAAAAAA=="}}
    assert await push({"_attachments": wrong}, b"abc") == (400, "content_md5_mismatch")
    assert await admin.status("GET", f"/{doc}") == 404


async def test_a_stub_beside_what_follows_takes_nothing_from_a_hidden_revision(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    doc = notes.name("doc")
    _, rev = await two_attachments(ann, doc, notes.name("a"))
    attachments = {"text": {"stub": True}, "f": {"follows": True, "content_type": "a/b", "length": 1}}
    document = {"channels": notes.name("b"), "_rev": rev, "_attachments": attachments}
    body = (
        b"--x\r\nContent-Type: application/json\r\n\r\n" + json.dumps(document).encode() + b"\r\n--x\r\n\r\n1\r\n--x--"
    )
    answer = await bob.http.put(f"/{doc}", content=body, headers={"Content-Type": "multipart/related; boundary=x"})
    assert (answer.status_code, answer.json()["error"]) == (412, "missing_stub")
    assert (await ann.get(f"/{doc}"))["_rev"] == rev


async def test_a_revision_that_is_named_comes_without_what_is_told_of_the_winner(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    doc = notes.name("doc")
    await ann.replicate(doc, "2-b", "1-a", channels=notes.name("a"))
    await ann.replicate(doc, "2-c", "1-a", channels=notes.name("a"))
    asked = {"conflicts": "true", "revs_info": "true", "local_seq": "true"}
    for person in (ann, await notes.admin()):
        answer = await person.http.get(f"/{doc}", params={**asked, "rev": "2-b"})
        assert answer.json() == {"_id": doc, "_rev": "2-b", "channels": notes.name("a")}
        assert answer.headers["ETag"] == '"2-b"'
        for named in ({}, {"rev": "2-b", "latest": "true"}):
            answer = await person.http.get(f"/{doc}", params={**asked, **named})
            assert (answer.json()["_rev"], answer.json()["_conflicts"]) == ("2-c", ["2-b"])
            assert list(answer.json())[-3:] == ["_revs_info", "_conflicts", "_local_seq"]
            assert "ETag" not in answer.headers


async def test_an_administrator_reads_what_is_upstream(notes: Place) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    doc = notes.name("doc")
    first, rev = await two_attachments(ann, doc, notes.name("a"))
    assert (await admin.get(f"/{doc}", rev=first))["_rev"] == first  # no leaf any more
    answer = await admin.http.get(f"/{doc}", params={"open_revs": json.dumps([rev])})
    ((headers, body),) = await parts_of(answer.content, answer.headers["Content-Type"])
    _, following = await related(body, headers["content-type"])
    assert unpacked(following)[1] == (FOLLOWING_TEXT, TEXT)
    held = await admin.http.get(f"/{doc}", headers={"If-None-Match": f'"{rev}"'})
    assert held.status_code == 304
    missing = await admin.http.get(f"/{notes.name('nothing')}")
    assert (missing.status_code, missing.json()) == (
        404,
        {"error": "not_found", "reason": "missing", "code": "CG4000"},
    )
