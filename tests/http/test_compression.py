"""gzip of answers."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Mapping

import pytest

from gateway import limits
from gateway.auth.origins import CorsPolicy
from gateway.database import FeedRows
from gateway.http.compression import takes_gzip
from gateway.http.cors import Cors
from tests.http.conftest import ANN, Ports, listening
from tests.http.fake import FakeFeed, upstream_answer
from tests.http.test_streaming import LOGIN

APP = "https://app.example"
GZIP = {"Accept-Encoding": "gzip"}
PLAIN = {"Accept-Encoding": "identity"}
SMALLEST = limits.COMPRESSED_ANSWER_BYTES_MIN
INLINE = limits.COMPRESSED_INLINE_BYTES


class Raw:
    """An answer as it came over the wire."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def packed(self) -> bool:
        return self.headers.get("content-encoding") == "gzip"

    @property
    def text(self) -> bytes:
        return gzip.decompress(self.body) if self.packed else self.body


async def ask(gateway: Ports, path: str, headers: Mapping[str, str], method: str = "GET", port: str = "ann") -> Raw:
    async with gateway.clients[port].stream(method, path, headers=dict(headers)) as answer:
        body = b"".join([piece async for piece in answer.aiter_raw()])
        return Raw(answer.status_code, answer.headers, body)


def fill(gateway: Ports, size: int) -> bytes:
    """A document `a` whose answer has exactly this many bytes; they."""
    doc = {"_id": "a", "_rev": "1-a", "text": ""}
    doc["text"] = "lorem ipsum " * size
    doc["text"] = doc["text"][: size - len(json.dumps({**doc, "text": ""}, separators=(",", ":"))) - 1]
    gateway.db.docs["a"] = [doc]
    return json.dumps(doc, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize("size", [SMALLEST, INLINE, INLINE + 1, 2_000_000])
async def test_an_answer_that_is_long_enough_is_compressed(gateway: Ports, size: int) -> None:
    expected = fill(gateway, size)
    assert len(expected) == size
    answer = await ask(gateway, "/notes/a", GZIP)
    assert (answer.status, answer.packed, answer.text) == (200, True, expected)
    assert int(answer.headers["content-length"]) == len(answer.body) < size / 2
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["vary"] == "Accept-Encoding"


async def test_a_short_answer_is_not(gateway: Ports) -> None:
    expected = fill(gateway, SMALLEST - 1)
    answer = await ask(gateway, "/notes/a", GZIP)
    assert (answer.packed, answer.body) == (False, expected)
    assert "vary" not in answer.headers


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("deflate, br", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip;q=0, *", False),
        ("*;q=0, gzip", True),
        ("identity;q=0, *;q=0.1", True),
        ("gzip;q=0.001", True),
        ("gzip; q=1.000", True),
        ("gzip ; Q=0.5", True),
        ("gzip;q=0.5, identity", False),
        ("gzip;q=0.5, identity;q=0.5", True),
        ("identity;q=0.4, gzip;q=0.5", True),
        ("identity", False),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("gzip;q=1.5", False),
        ("gzip;q=0.1234", False),
        ("gzip;q=-1", False),
        ("gzip;q=", False),
        ("gzip;level=9", False),
        ("gzip;q=1;q=0", False),
        (",,;,=", False),
        ("gzipped", False),
    ],
)
def test_what_a_client_says_of_gzip(header: str | None, taken: bool) -> None:
    assert takes_gzip(header) is taken


async def test_who_does_not_ask_for_it_gets_the_plain_answer(gateway: Ports) -> None:
    expected = fill(gateway, 5_000)
    for header in ("identity", "gzip;q=0", "br"):
        answer = await ask(gateway, "/notes/a", {"Accept-Encoding": header})
        assert (answer.packed, answer.body, answer.headers["vary"]) == (False, expected, "Accept-Encoding")
    bare = await gateway.raw(b"GET /notes/a HTTP/1.1\r\nConnection: close\r\n%b\r\n" % LOGIN)
    assert bare.endswith(b"\r\n\r\n" + expected)


async def test_the_etag_stays_that_of_the_revision(gateway: Ports) -> None:
    fill(gateway, 5_000)
    answer = await ask(gateway, "/notes/a", GZIP)
    assert (answer.packed, answer.headers["etag"]) == (True, '"1-a"')
    for tag in ('"1-a"', 'W/"1-a"'):
        unchanged = await ask(gateway, "/notes/a", {**GZIP, "If-None-Match": tag})
        assert (unchanged.status, unchanged.body, unchanged.headers["vary"]) == (304, b"", "Accept-Encoding")
        assert "content-encoding" not in unchanged.headers


async def test_head_says_how_long_the_document_is(gateway: Ports) -> None:
    fill(gateway, 5_000)
    answer = await ask(gateway, "/notes/a", GZIP, method="HEAD")
    assert (answer.body, answer.headers["content-length"], answer.packed) == (b"", "5000", False)
    assert answer.headers["vary"] == "Accept-Encoding"


async def test_lists_in_pieces_are_compressed_too(gateway: Ports) -> None:
    for number in range(3_000):
        gateway.db.docs[f"d{number}"] = [{"_id": f"d{number}", "_rev": "1-a"}]
    plain, packed = [await ask(gateway, "/notes/_all_docs", headers) for headers in (PLAIN, GZIP)]
    assert packed.headers["transfer-encoding"] == "chunked"
    assert (plain.packed, packed.packed) == (False, True)
    assert plain.text == packed.text
    assert len(packed.body) < len(plain.body) / 5
    head = await ask(gateway, "/notes/_all_docs", GZIP, method="HEAD")
    assert (head.status, head.packed, head.body) == (200, False, b"")
    body = {"docs": [{"id": f"d{number}"} for number in range(3_000)]}
    bulk = await gateway.ann.post("/notes/_bulk_get", json=body, headers=GZIP)
    assert bulk.headers["content-encoding"] == "gzip"
    assert len(bulk.json()["results"]) == 3_000


async def test_each_piece_can_be_read_when_it_arrives(gateway: Ports) -> None:
    page = FeedRows([b'{"id":"doc-%d"}' % n for n in range(10_000)])
    gate = asyncio.Event()
    gateway.db.feed = FakeFeed([page, gate, page])
    async with gateway.ann.stream("GET", "/notes/_changes", headers=GZIP) as answer:
        pieces = answer.aiter_bytes()
        received = b""
        while not received.endswith(page.rows[-1]):
            received += await asyncio.wait_for(anext(pieces), 10)
        gate.set()  # until now nothing but the first page was there to be sent
        received += b"".join([piece async for piece in pieces])
    assert len(json.loads(received)["results"]) == 20_000


async def test_answers_are_compressed_at_every_port(gateway: Ports) -> None:
    for number in range(100):
        gateway.db.docs[f"d{number}"] = [{"_id": f"d{number}", "_rev": "1-a"}]
    listed = await ask(gateway, "/notes/_all_docs", GZIP)
    assert listed.packed
    assert len(json.loads(listed.text)["rows"]) == 100
    numbers = await ask(gateway, "/_metrics", GZIP, port="metrics")
    assert numbers.packed
    assert numbers.text.startswith(b"#")
    for number in range(200):
        gateway.db.principals["user", f"user-{number}"] = {}
    users = await ask(gateway, "/notes/_user/", GZIP, port="admin")
    assert users.packed
    assert len(json.loads(users.text)) == 200


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {"content-type": "text/plain"}),
        (206, {"content-type": "application/json", "content-range": "bytes 0-4999/9000"}),
        (200, {"content-type": "application/json", "content-encoding": "gzip"}),
    ],
)
async def test_attachments_pass_as_they_are(gateway: Ports, status: int, headers: dict[str, str]) -> None:
    data = b"abcde" * 1_000
    gateway.db.upstream = upstream_answer(status, data, headers)
    answer = await ask(gateway, "/notes/a/b", GZIP)
    assert (answer.status, answer.body) == (status, data)
    assert answer.headers.get("content-encoding") == headers.get("content-encoding")
    assert answer.headers["content-length"] == "5000"


@pytest.mark.parametrize("kind", ["longpoll", "continuous"])
async def test_feeds_that_wait_are_not_compressed(gateway: Ports, kind: str) -> None:
    gateway.db.feed = FakeFeed([FeedRows([b'{"id":"%b"}' % (b"x" * 5_000)])])
    answer = await ask(gateway, f"/notes/_changes?feed={kind}", GZIP)
    assert not answer.packed
    assert b"last_seq" in answer.body


async def test_a_normal_feed_is_compressed_whether_it_goes_out_at_once_or_in_pieces(gateway: Ports) -> None:
    page = FeedRows([b'{"seq":"%d-x","id":"doc-%d","changes":[]}' % (n, n) for n in range(500)])
    for pages in (1, 20):
        bodies = []
        for headers in (PLAIN, GZIP):
            gateway.db.feed = FakeFeed([page] * pages)
            answer = await ask(gateway, "/notes/_changes", headers)
            assert answer.packed is (headers is GZIP)
            assert answer.headers["vary"] == "Accept-Encoding"
            bodies.append(answer.text)
        assert bodies[0] == bodies[1]
        assert len(json.loads(bodies[0])["results"]) == 500 * pages


async def test_a_compressed_feed_that_breaks_off_never_looks_whole(gateway: Ports) -> None:
    page = FeedRows([b'{"id":"doc-%d"}' % n for n in range(10_000)])
    gateway.db.feed = FakeFeed([page, page, RuntimeError("a defect")])
    raw = await gateway.raw(b"GET /notes/_changes HTTP/1.1\r\nAccept-Encoding: gzip\r\n%b\r\n" % LOGIN)
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"Content-Encoding: gzip" in head
    assert not body.endswith(b"0\r\n\r\n")


async def test_many_long_answers_at_once_are_each_their_own(gateway: Ports) -> None:
    for n in range(8):
        gateway.db.docs[f"d{n}"] = [{"_id": f"d{n}", "_rev": "1-a", "text": f"{n}" * 200_000}]
    answers = await asyncio.gather(*[ask(gateway, f"/notes/d{n}", GZIP) for n in range(8)])
    assert [json.loads(answer.text)["_id"] for answer in answers] == [f"d{n}" for n in range(8)]


# Pages that nobody listed (BREACH)

FROM_APP = {"Origin": APP, "Sec-Fetch-Site": "cross-site"}


@pytest.fixture
async def listed() -> AsyncIterator[Ports]:
    """Where pages of APP may act for the user, and every page may read the database `open`."""
    cors = Cors(CorsPolicy(frozenset({APP}), credentials=True), {"open": CorsPolicy(frozenset({"*"}))})
    async with listening(cors=cors) as running:
        running.databases.by_name["open"] = running.db
        running.db.guest_enabled = True
        fill(running, 5_000)
        yield running


@pytest.mark.parametrize(
    ("path", "headers", "login", "packed"),
    [
        ("/notes/a", {}, True, True),
        ("/notes/a", {"Sec-Fetch-Site": "same-origin"}, True, True),
        ("/notes/a", {"Sec-Fetch-Site": "none"}, True, True),
        ("/notes/a", {"Sec-Fetch-Site": "same-origin", "Origin": "https://gateway.example"}, True, True),
        ("/notes/a", FROM_APP, True, True),
        ("/notes/a", {"Origin": APP}, True, True),
        ("/notes/a", {"Sec-Fetch-Site": "cross-site"}, True, False),
        ("/notes/a", {"Sec-Fetch-Site": "same-site"}, True, False),
        ("/notes/a", {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, True, False),
        ("/notes/a", {"Origin": "https://evil.example"}, True, False),
        ("/notes/a", {"Sec-Fetch-Site": "cross-site", "Cookie": "other=x"}, False, False),
        ("/notes/a", {"Sec-Fetch-Site": "cross-site"}, False, True),
        ("/open/a", {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, True, False),
        ("/open/a", {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, False, True),
    ],
)
async def test_what_a_page_asks_for_in_its_visitors_name_is_not_compressed(
    listed: Ports, path: str, headers: dict[str, str], login: bool, packed: bool
) -> None:
    answer = await ask(listed, path, {**GZIP, **headers}, port="ann" if login else "public")
    assert (answer.status, answer.packed) == (200, packed)
    assert "Accept-Encoding" in answer.headers["vary"]


async def test_the_same_holds_for_answers_in_pieces(listed: Ports) -> None:
    page = FeedRows([b'{"id":"doc-%d"}' % n for n in range(10_000)])
    for headers, packed in ((FROM_APP, True), ({"Sec-Fetch-Site": "cross-site"}, False)):
        listed.db.feed = FakeFeed([page])
        answer = await ask(listed, "/notes/_changes", {**GZIP, **headers})
        assert answer.packed is packed
        assert {name.strip() for name in answer.headers["vary"].split(",")} == {"Origin", "Accept-Encoding"}


async def test_what_depends_on_the_page_and_on_the_encoding_says_both(listed: Ports) -> None:
    answer = await listed.public.get("/notes/a", headers={**GZIP, **FROM_APP}, auth=ANN)
    assert answer.headers["vary"] == "Origin, Accept-Encoding"
    assert answer.headers["access-control-allow-origin"] == APP
