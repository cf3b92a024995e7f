from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Mapping

import httpx
import pytest

from gateway.embedded import EmbeddedServer

TEXT = b"hello world"
LARGE = bytes(range(256)) * 8_000  # 2 MB, several chunks


def digest(data: bytes) -> str:
    return "md5-" + base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


async def blobs(server: EmbeddedServer) -> int:
    database = await server.open("db", create=False)
    return await database.reading(lambda connection: int(connection.execute("SELECT count(*) FROM blob").fetchone()[0]))


async def attach(http: httpx.AsyncClient, path: str, data: bytes, **params: str) -> str:
    response = await http.put(path, content=data, params=params, headers={"content-type": "image/x-test"})
    assert response.status_code == 201, response.text
    return str(response.json()["rev"])


@pytest.mark.parametrize("data", [b"", TEXT, LARGE, LARGE[:262_144]])
async def test_an_attachment_comes_back_as_it_was(http: httpx.AsyncClient, data: bytes) -> None:
    await attach(http, "a/file", data)
    response = await http.get("a/file")
    assert response.content == data
    assert response.headers["content-type"] == "image/x-test"
    assert response.headers["etag"] == f'"{digest(data)[4:]}"'
    assert response.headers["content-length"] == str(len(data))
    entry = (await http.get("a")).json()["_attachments"]["file"]
    assert entry == {
        "content_type": "image/x-test",
        "revpos": 1,
        "digest": digest(data),
        "length": len(data),
        "stub": True,
    }


async def test_a_second_attachment_needs_the_revision_and_keeps_the_first(http: httpx.AsyncClient) -> None:
    rev = await attach(http, "a/one", TEXT)
    refused = await http.put("a/two", content=TEXT)
    assert refused.status_code == 409
    await attach(http, "a/two", LARGE, rev=rev)
    entries = (await http.get("a")).json()["_attachments"]
    assert {name: entry["revpos"] for name, entry in entries.items()} == {"one": 1, "two": 2}
    assert (await http.get("a/one")).content == TEXT


async def test_a_removed_attachment_is_gone_and_the_rest_stays(http: httpx.AsyncClient) -> None:
    rev = await attach(http, "a/one", TEXT)
    rev = await attach(http, "a/two", TEXT, rev=rev)
    assert (await http.delete("a/one")).status_code == 409
    for method, path in (("PUT", "a/one"), ("DELETE", "a/one"), ("PUT", "b/one"), ("DELETE", "b/one")):
        unknown = await http.request(method, path, params={"rev": "9-x"})
        assert (unknown.status_code, unknown.json()) == (409, {"error": "not_found", "reason": "missing_rev"})
    removed = await http.delete("a/one", params={"rev": rev})
    assert removed.status_code == 200
    assert (await http.get("a/one")).json() == {"error": "not_found", "reason": "Document is missing attachment"}
    assert (await http.get("a/two")).content == TEXT
    assert (await http.get("a/one", params={"rev": rev})).content == TEXT


async def test_names_may_hold_slashes_and_any_letter(http: httpx.AsyncClient) -> None:
    await attach(http, "a/dir/sub/fi%20le%C3%A4.txt", TEXT)
    assert (await http.get("a/dir/sub/fi%20le%C3%A4.txt")).content == TEXT
    assert list((await http.get("a")).json()["_attachments"]) == ["dir/sub/fi leä.txt"]
    assert (await http.put("b/_hidden", content=TEXT)).status_code == 400


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-4", 0, 4),
        ("bytes=300000-", 300_000, None),
        ("bytes=-100", -100, None),
        ("bytes=262143-262144", None, 0),
        ("bytes=1999999-9999999", 1_999_999, None),
    ],
)
async def test_a_range_is_answered_alone(
    http: httpx.AsyncClient, asked: str, first: int | None, last: int | None
) -> None:
    await attach(http, "a/file", LARGE)
    response = await http.get("a/file", headers={"range": asked})
    expected = LARGE[262_143:262_145] if first is None else LARGE[first : None if last is None else last + 1]
    assert (response.status_code, response.content) == (206, expected)
    start, _, _ = response.headers["content-range"].removeprefix("bytes ").partition("-")
    assert LARGE[int(start) :].startswith(expected)


@pytest.mark.parametrize(
    "asked", ["bytes=0-", "bytes=x", "bytes=-", "lines=1-2", "bytes=1-2,x", "bytes=" + "1-2," * 10]
)
async def test_everything_is_answered_where_couchdb_answers_everything(http: httpx.AsyncClient, asked: str) -> None:
    await attach(http, "a/file", TEXT)
    response = await http.get("a/file", headers={"range": asked})
    assert (response.status_code, response.content) == (200, TEXT)


async def test_several_ranges_come_as_parts(http: httpx.AsyncClient) -> None:
    await attach(http, "a/file", TEXT)
    response = await http.get("a/file", headers={"range": "bytes=0-1, -2"})
    assert response.status_code == 206
    kind, _, between = response.headers["content-type"].partition('; boundary="')
    assert kind == "multipart/byteranges"
    parts = [
        b"\r\nContent-Type: image/x-test\r\nContent-Range: bytes %s/11\r\n\r\n%s\r\n" % part
        for part in ((b"0-1", b"he"), (b"9-10", b"ld"))
    ]
    delimiter = b"--" + between.rstrip('"').encode()
    assert response.content == delimiter + delimiter.join(parts) + delimiter + b"--"


async def test_a_range_past_the_end_is_refused(http: httpx.AsyncClient) -> None:
    await attach(http, "a/file", TEXT)
    assert (await http.get("a/file", headers={"range": "bytes=11-"})).status_code == 416


async def test_inline_attachments_come_inline_when_asked_for(http: httpx.AsyncClient) -> None:
    data = base64.b64encode(LARGE).decode()
    response = await http.put("a", json={"_attachments": {"f": {"content_type": "image/png", "data": data}}})
    assert response.status_code == 201
    doc = (await http.get("a", params={"attachments": "true"})).json()
    assert doc["_attachments"]["f"]["data"] == data
    assert "stub" not in doc["_attachments"]["f"]


async def test_atts_since_sends_only_what_is_newer(http: httpx.AsyncClient) -> None:
    rev = await attach(http, "a/old", TEXT)
    await attach(http, "a/new", LARGE, rev=rev)
    entries = (await http.get("a", params={"atts_since": json.dumps([rev])})).json()["_attachments"]
    assert entries["old"]["stub"] is True
    assert base64.b64decode(entries["new"]["data"]) == LARGE


@pytest.mark.parametrize("data", ["%%%", 7, None])
async def test_malformed_inline_data_is_refused(http: httpx.AsyncClient, data: object) -> None:
    response = await http.put("a", json={"_attachments": {"f": {"data": data}}})
    assert (response.status_code, response.json()["reason"]) == (400, "Invalid attachment data for f")


async def test_a_stub_that_names_nothing_is_refused(http: httpx.AsyncClient) -> None:
    response = await http.put("a", json={"_attachments": {"f": {"stub": True, "revpos": 1}}})
    assert (response.status_code, response.json()["error"]) == (412, "missing_stub")


def related(doc: Mapping[str, object], *files: bytes, boundary: str = "b0") -> bytes:
    body = f"--{boundary}\r\nContent-Type: application/json\r\n\r\n{json.dumps(doc)}".encode()
    for data in files:
        body += f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n".encode() + data
    return body + f"\r\n--{boundary}--".encode()


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.mark.parametrize("size", [7, 1_000, 100_000_000])
async def test_multipart_put_stores_what_follows_the_document(http: httpx.AsyncClient, size: int) -> None:
    files = (TEXT, LARGE if size > 7 else LARGE[:5_000], b"")
    entries = {f"f{n}": {"follows": True, "content_type": "x/y", "length": len(one)} for n, one in enumerate(files)}
    body = related({"n": 1, "_attachments": entries}, *files)
    headers = {"content-type": 'multipart/related; boundary="b0"'}
    response = await http.put("a", content=pieces(body, size), headers=headers)
    assert response.status_code == 201, response.text
    for n, one in enumerate(files):
        assert (await http.get(f"a/f{n}")).content == one


async def test_multipart_put_keeps_a_replicated_revision(http: httpx.AsyncClient) -> None:
    doc = {"_rev": "3-x", "_revisions": {"start": 3, "ids": ["x", "y"]}, "_attachments": {"f": {"follows": True}}}
    headers = {"content-type": "multipart/related;boundary=b0"}
    response = await http.put("a", params={"new_edits": "false"}, content=related(doc, TEXT), headers=headers)
    assert (response.status_code, response.json()["rev"]) == (201, "3-x")
    assert (await http.get("a/f", params={"rev": "3-x"})).content == TEXT


@pytest.mark.parametrize(
    "body",
    [
        related({"_attachments": {"f": {"follows": True}}}),
        related({"_attachments": {}}, TEXT),
        related({"_attachments": {"f": {"follows": True}}}, LARGE)[:-100],
        b"",
        b"--b0\r\n\r\nnot json\r\n--b0--",
        b"--b0\r\n\r\n[]\r\n--b0--",
    ],
)
async def test_broken_multipart_stores_nothing(http: httpx.AsyncClient, server: EmbeddedServer, body: bytes) -> None:
    response = await http.put("a", content=body, headers={"content-type": 'multipart/related; boundary="b0"'})
    assert response.status_code == 400, response.text
    assert (await http.get("a")).status_code == 404
    assert await blobs(server) == 0


async def test_what_multipart_sends_can_be_sent_back(http: httpx.AsyncClient) -> None:
    rev = await attach(http, "a/one", LARGE)
    await attach(http, "a/two", TEXT, rev=rev)
    headers = {"accept": "multipart/related"}
    response = await http.get("a", params={"attachments": "true", "revs": "true"}, headers=headers)
    again = await http.put(
        "b",
        params={"new_edits": "false"},
        content=response.content.replace(b'"_id":"a"', b'"_id":"b"'),
        headers={"content-type": response.headers["content-type"]},
    )
    assert again.status_code == 201, again.text
    assert (await http.get("b/one")).content == LARGE
    assert (await http.get("b/two")).content == TEXT
    assert (await http.get("b")).json()["_rev"] == (await http.get("a")).json()["_rev"]


async def test_a_gzipped_upload_is_served_both_ways(http: httpx.AsyncClient) -> None:
    packed = gzip.compress(LARGE, mtime=0)
    response = await http.put("a/f", content=packed, headers={"content-encoding": "gzip", "content-type": "text/x"})
    assert response.status_code == 201
    plain = await http.get("a/f", headers={"accept-encoding": "identity"})
    assert plain.content == LARGE
    assert "content-length" not in plain.headers  # as in CouchDB, which does not know it
    encoded = await http.get("a/f", headers={"accept-encoding": "gzip"})
    assert (encoded.headers["content-encoding"], encoded.headers["content-length"]) == ("gzip", str(len(packed)))
    assert encoded.content == LARGE  # unpacked by the client
    entry = (await http.get("a", params={"att_encoding_info": "true"})).json()["_attachments"]["f"]
    assert (entry["encoding"], entry["encoded_length"], entry["digest"]) == ("gzip", len(packed), digest(packed))
    assert entry["length"] == len(packed)
    refused = await http.put("b/f", content=LARGE, headers={"content-encoding": "gzip"})
    assert refused.status_code == 400


@pytest.mark.parametrize(
    ("text", "stored", "known"),
    [
        # As a real CouchDB stored them.
        (b"This is a base64 encoded text", 47, "md5-qUUYqS41RhwF0TrCsTAxFg=="),
        (b"", 20, "md5-cCkGbCesb17xjWYNV0GXmg=="),
        (LARGE, None, None),
    ],
)
@pytest.mark.parametrize("kind", ["text/plain", "Text/HTML; charset=utf-8", "application/json", "application/xml ;x"])
async def test_text_is_stored_compressed_as_couchdb_does(
    http: httpx.AsyncClient, text: bytes, stored: int | None, known: str | None, kind: str
) -> None:
    await http.put("a/f", content=text, headers={"content-type": kind})
    data = {"f": {"content_type": kind, "data": base64.b64encode(text).decode()}}
    await http.put("b", json={"_attachments": data})
    for path in ("a", "b"):
        entry = (await http.get(path, params={"att_encoding_info": "true"})).json()["_attachments"]["f"]
        assert (entry["encoding"], entry["length"]) == ("gzip", len(text))
        if stored is not None:
            assert (entry["encoded_length"], entry["digest"]) == (stored, known)
        plain = await http.get(f"{path}/f", headers={"accept-encoding": "identity"})
        assert (plain.content, plain.headers["content-length"]) == (text, str(len(text)))
        assert plain.headers["accept-ranges"] == "none"
        inline = (await http.get(path, params={"attachments": "true"})).json()["_attachments"]["f"]["data"]
        assert base64.b64decode(inline) == text
    assert (await http.get("a")).json()["_attachments"]["f"]["digest"] == (await http.get("b")).json()["_attachments"][
        "f"
    ]["digest"]


@pytest.mark.parametrize("kind", ["image/svg+xml", "application/jsonx", "xtext/plain", "application/octet-stream"])
async def test_other_types_are_stored_as_they_are(http: httpx.AsyncClient, kind: str) -> None:
    await http.put("a/f", content=TEXT, headers={"content-type": kind})
    entry = (await http.get("a", params={"att_encoding_info": "true"})).json()["_attachments"]["f"]
    assert (entry["digest"], "encoding" in entry) == (digest(TEXT), False)


async def test_bytes_that_are_not_those_of_the_digest_are_refused(http: httpx.AsyncClient) -> None:
    headers = {"content-type": "multipart/related;boundary=b0"}
    for kind, said, status in (("text/x", TEXT, 201), ("a/b", TEXT, 201), ("text/x", LARGE, 400), ("a/b", LARGE, 400)):
        stub = {"follows": True, "content_type": kind, "length": len(TEXT), "digest": digest(said)}
        response = await http.put(
            f"doc{status}{kind[0]}", content=related({"_attachments": {"f": stub}}, TEXT), headers=headers
        )
        assert response.status_code == status, response.text
        if status == 400:
            assert response.json()["error"] == "content_md5_mismatch"


async def test_equal_content_is_stored_once_and_freed_by_compaction(
    http: httpx.AsyncClient, server: EmbeddedServer, root: httpx.AsyncClient
) -> None:
    rev = await attach(http, "a/one", LARGE)
    await attach(http, "b/two", LARGE)
    await attach(http, "c/three", TEXT)
    assert await blobs(server) == 2
    await http.delete("a", params={"rev": rev})
    await http.delete("b", params={"rev": (await http.get("b")).json()["_rev"]})
    assert (await root.post("/db/_compact", json={})).status_code == 202
    async with asyncio.timeout(20):
        while (await root.get("/db")).json()["compact_running"]:
            pass
    assert await blobs(server) == 1
    assert (await http.get("c/three")).content == TEXT


async def test_an_upload_that_breaks_off_leaves_nothing(http: httpx.AsyncClient, server: EmbeddedServer) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield LARGE
        raise OSError("the client is gone")

    with pytest.raises(OSError, match="gone"):
        await http.put("a/f", content=breaking())
    async with asyncio.timeout(20):
        while await blobs(server):
            pass
    assert (await http.get("a")).status_code == 404
