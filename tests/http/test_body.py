"""Bodies: sizes, encodings, clients that do not finish."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator

import pytest

from gateway import json_text, limits
from gateway.callers import Caller
from tests.http.conftest import Ports

LOGIN = b"Host: x\r\nAuthorization: Basic YW5uOnNlY3JldA==\r\n"


async def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(gateway: Ports) -> None:
    head = b"PUT /notes/a HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (LOGIN, limits.BODY_BYTES + 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.ports["public"])
    writer.write(head)
    answer = await reader.readuntil(b"}\n")
    writer.close()
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"limit BODY_BYTES" in answer
    assert str(limits.BODY_BYTES).encode() in answer


async def test_a_body_without_a_length_is_counted_while_it_comes(gateway: Ports) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'{"a":"'
        for _ in range(40):
            yield b"x" * 65_536

    answer = await gateway.ann.put("/notes/_local/x", content=endless())
    assert answer.status_code == 413
    assert not gateway.db.locals


@pytest.mark.parametrize("pieces", [1, 7, 100_000])
async def test_a_gzip_body_is_taken_in_any_pieces(gateway: Ports, pieces: int) -> None:
    packed = gzip.compress(b'{"text":"one"') + gzip.compress(b"}")

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(packed), pieces):
            yield packed[start : start + pieces]

    answer = await gateway.ann.put("/notes/a", content=chunks(), headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 201
    assert gateway.db.docs["a"][-1]["text"] == "one"


async def test_a_gzip_bomb_is_noticed_at_the_limit(gateway: Ports) -> None:
    bomb = gzip.compress(b" " * 70_000_000)
    assert len(bomb) < 1_000_000
    answer = await gateway.ann.put("/notes/_local/x", content=bomb, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, "LOCAL_DOCUMENT_BYTES" in answer.json()["reason"]) == (413, True)
    whole = await gateway.ann.put("/notes/a", content=bomb, headers={"Content-Encoding": "gzip"})
    assert (whole.status_code, "limit BODY_BYTES" in whole.json()["reason"]) == (413, True)


@pytest.mark.parametrize(
    "packed",
    [
        b"{}",
        b"",
        b"\x1f\x8b",
        gzip.compress(b"{}", mtime=0)[:-1],
        gzip.compress(b"{}", mtime=0) + b"x",
        zlib.compress(b"{}"),
    ],
)
async def test_a_broken_gzip_body_is_a_bad_request(gateway: Ports, packed: bytes) -> None:
    answer = await gateway.ann.put("/notes/a", content=packed, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "x"])
async def test_other_encodings_are_415(gateway: Ports, encoding: str) -> None:
    answer = await gateway.ann.put("/notes/a", content=b"{}", headers={"Content-Encoding": encoding})
    assert (answer.status_code, answer.json()["error"]) == (415, "bad_content_type")


async def test_a_client_that_asks_first_is_told_to_go_on_only_when_all_is_in_order(gateway: Ports) -> None:
    good = b"PUT /notes/a HTTP/1.1\r\n%bExpect: 100-continue\r\nContent-Length: 2\r\n\r\n" % LOGIN
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.ports["public"])
    writer.write(good)
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"{}")
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 201")
    writer.close()
    nobody = b"PUT /notes/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.ports["public"])
    writer.write(nobody)
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401")
    writer.close()


async def test_a_client_that_stops_in_the_middle_of_its_body_is_408(
    gateway: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BODY_SILENCE_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.ports["public"])
    writer.write(b'PUT /notes/a HTTP/1.1\r\n%bContent-Length: 9\r\n\r\n{"a"' % LOGIN)
    answer = await reader.readuntil(b"}\n")
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408")
    assert not gateway.db.docs


async def test_a_client_that_leaves_in_the_middle_of_its_body_stores_nothing(
    gateway: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    login, login_seen = gateway.db.login, asyncio.Event()

    async def seen(name: str, password: str) -> Caller:
        login_seen.set()
        return await login(name, password)

    monkeypatch.setattr(gateway.db, "login", seen)
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.ports["public"])
    writer.write(b'PUT /notes/a HTTP/1.1\r\n%bContent-Length: 9\r\n\r\n{"a"' % LOGIN)
    await writer.drain()
    async with asyncio.timeout(10):
        await login_seen.wait()
    writer.close()
    assert await gateway.traffic.drain(10)
    assert not gateway.db.docs


async def test_a_body_whose_chunks_are_malformed_is_a_bad_request(gateway: Ports) -> None:
    answer = await gateway.raw(
        b"PUT /notes/a HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n" % LOGIN
    )
    assert b" 400 " in answer.partition(b"\r\n")[0]
    assert not gateway.db.docs


async def test_what_is_no_http_is_answered_in_json(gateway: Ports) -> None:
    for request in (b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n"):
        answer = await gateway.raw(request)
        assert b" 400 " in answer.partition(b"\r\n")[0]
        assert b'{"error":"bad_request","reason":"this is no valid HTTP request' in answer


async def test_a_failure_of_ours_is_a_500_that_tells_nothing(gateway: Ports, caplog: pytest.LogCaptureFixture) -> None:
    gateway.db.raises = RuntimeError("the password is hunter2")
    answer = await gateway.ann.get("/notes/a")
    assert answer.status_code == 500
    assert answer.json()["error"] == "internal_server_error"
    assert "hunter2" not in answer.text
    assert "hunter2" in caplog.text  # the log has it, with its traceback
    assert "Traceback" in caplog.text


async def test_a_body_of_too_many_values_is_refused_before_it_is_parsed(
    gateway: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []
    monkeypatch.setattr(json_text, "parse", lambda data: parsed.append(len(data)))
    body = b'{"docs":[' + b"[]," * limits.JSON_VALUES_COUNT + b"1]}"
    answer = await gateway.ann.post("/notes/_bulk_docs", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]) == (413, "too_large")
    assert f"{limits.JSON_VALUES_COUNT} JSON values (limit JSON_VALUES_COUNT)" in answer.json()["reason"]
    assert not parsed


async def test_a_text_full_of_commas_and_brackets_is_one_value(gateway: Ports) -> None:
    text = '1,[2],{"3":\\' * (limits.JSON_VALUES_COUNT // 4)
    answer = await gateway.ann.put("/notes/a", json={"text": text})
    assert answer.status_code == 201
    assert gateway.db.docs["a"][-1]["text"] == text
