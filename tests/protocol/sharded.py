"""The embedded server made to look like a CouchDB whose databases have shards (q=2, CouchDB's default), for tests.

A proxy before the port of `gateway.embedded`. What it does as such a CouchDB does, and the embedded server does not:

- A document lives in one shard. A feed has the rows of one shard in order, those of different shards mixed anyhow.
- A sequence is a number (the sum over the shards), a dash, and the packed positions in every shard. To go on after
  a row is to go on after the position in each shard that the row's sequence holds (fabric_view_changes.erl).
- `purge_seq` is packed in the order in which the shards answered: the same state has several texts.
- `instance_start_time` counts whole seconds.

`make test-sharded` runs the tests of a real CouchDB against it: `python -m tests.protocol.sharded [PYTEST ARGUMENT…]`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import random
import subprocess
import sys
import tempfile
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

import aiohttp
from aiohttp import web
from yarl import URL

from tests.compat import ONLY_COUCHDB
from tests.protocol.upstreams import PASSWORD, embedded_server

SHARDS: Final = 2
SEED: Final = "TEST_SHARDED_SEED"
_GATHER_SECONDS: Final = 0.02  # rows of one burst that the embedded server sends in several pieces are mixed, too
_HOP: Final = {
    *("connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding"),
    "upgrade",
}
_MALFORMED: Final = {"error": "bad_request", "reason": "Malformed sequence supplied in 'since' parameter."}


def shard_of(id: str) -> int:
    """The shard of a document: CouchDB, too, divides the checksums of ids into ranges."""
    return zlib.crc32(id.encode()) * SHARDS >> 32


def number(seq: object) -> int:
    """The number at the beginning of a sequence of the embedded server."""
    return int(str(seq).partition("-")[0])


@dataclass(frozen=True, slots=True)
class Position:
    """How far each shard is read. `token` is what the embedded server's sequences of this database end with."""

    token: str
    read: tuple[int, ...] = (0,) * SHARDS

    @classmethod
    def of(cls, text: str) -> Position:
        """What `str()` made, or 0. Raises ValueError."""
        if number(text) == 0 and "-" not in text:
            return cls("")
        packed = text.partition("-")[2]
        try:
            token, *read = json.loads(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
        except (binascii.Error, TypeError) as error:
            raise ValueError(text) from error
        return cls(token, tuple(read))

    def __str__(self) -> str:
        packed = base64.urlsafe_b64encode(json.dumps([self.token, *self.read]).encode()).decode().rstrip("=")
        return f"{sum(self.read)}-{packed}"

    def since(self) -> str:
        """Where the embedded server is to begin: some of the rows that come were had before."""
        return f"{min(self.read)}-{self.token}" if self.token else str(min(self.read))

    def after(self, row: Mapping[str, Any]) -> Position:
        read = list(self.read)
        read[shard_of(row["id"])] = number(row["seq"])
        return replace(self, read=tuple(read))

    def knows(self, row: Mapping[str, Any]) -> bool:
        return number(row["seq"]) <= self.read[shard_of(row["id"])]


class Feed:
    """One request for `_changes`: rows of the embedded server, mixed, with packed sequences."""

    def __init__(self, position: Position, query: Mapping[str, str], chance: random.Random) -> None:
        self.position = position
        self.left = int(query["limit"]) if "limit" in query else sys.maxsize
        self._interval = int(query.get("seq_interval", "1"))
        self._descending = query.get("descending") == "true"
        self._chance = chance
        self._count = 0

    def mixed(self, rows: Sequence[dict[str, Any]], token: str) -> list[dict[str, Any]]:
        """Those not had before, at most as many as are wanted; the position moves past them."""
        if token != self.position.token:  # of a database that was deleted: from the beginning, as CouchDB does
            self.position = Position(token)
        waiting: list[list[dict[str, Any]]] = [[] for _ in range(SHARDS)]
        for row in rows:
            if self._descending or not self.position.knows(row):
                waiting[shard_of(row["id"])].append(row)
        out = []
        while self.left and (some := [queue for queue in waiting if queue]):
            row = self._chance.choice(some).pop(0)
            self.position = self.position.after(row)
            self._count += 1
            row["seq"] = None if self._count % self._interval else str(self.position)
            out.append(row)
            self.left -= 1
        return out


class ShardedCouchDB:
    """Handles every request that comes to the proxy. `seed` decides how rows are mixed."""

    def __init__(self, target: str, session: aiohttp.ClientSession, seed: int) -> None:
        self._target = target
        self._session = session
        self._chance = random.Random(seed)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        parts = path.strip("/").split("/")
        query = dict(parse_qsl(request.query_string, keep_blank_values=True))
        try:
            if len(parts) == 2 and parts[1] == "_changes" and request.method in ("GET", "POST"):
                return await self._changes(request, path, query)
            return await self._passed_on(request, parts, query)
        except (aiohttp.ClientError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)

    def _ask(self, request: web.BaseRequest, target: str, body: Any, method: str = "") -> Any:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        url = URL(self._target + target, encoded=True)
        return self._session.request(
            method or request.method,
            url,
            headers=headers,
            data=body,
            allow_redirects=False,
            skip_auto_headers=["Accept-Encoding"],
        )

    async def _passed_on(
        self, request: web.BaseRequest, parts: Sequence[str], query: Mapping[str, str]
    ) -> web.StreamResponse:
        body = request.content if request.can_read_body else None
        async with self._ask(request, request.raw_path, body) as answer:
            headers = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP]
            if answer.status in (200, 201) and request.method in ("GET", "POST") and _tells_sequences(parts, query):
                text = json.dumps(await self._told(request, parts, await answer.json()))
                return web.Response(status=answer.status, headers=headers, body=text.encode())
            response = web.StreamResponse(status=answer.status)
            response.headers.extend(headers)
            response.content_length = answer.content_length
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    async def _told(self, request: web.BaseRequest, parts: Sequence[str], value: Any) -> Any:
        """An answer with the sequences and times that a sharded CouchDB tells."""
        if parts[0] == "_dbs_info":
            for entry in value:
                if "info" in entry:
                    await self._info(request, quote(entry["key"], safe=""), entry["info"])
        elif parts[1:] == ["_ensure_full_commit"]:
            value["instance_start_time"] = _seconds(value["instance_start_time"])
        elif len(parts) == 1:
            await self._info(request, parts[0], value)
        elif parts[1] == "_purged_infos":
            value["purged_infos"].sort(key=lambda purged: shard_of(purged["id"]))
        else:
            value["update_seq"] = str(await self._end(request, parts[0]))
        return value

    async def _info(self, request: web.BaseRequest, name: str, info: dict[str, Any]) -> None:
        info["update_seq"] = str(await self._end(request, name))
        info["purge_seq"] = f"{number(info['purge_seq'])}-{self._chance.choice(['g1AB', 'g1BA'])}"
        info["instance_start_time"] = _seconds(info["instance_start_time"])
        info["cluster"] = {**info["cluster"], "q": SHARDS}

    async def _end(self, request: web.BaseRequest, name: str) -> Position:
        """The position after every row that there is."""
        async with self._ask(request, f"/{name}/_changes", None, "GET") as answer:
            answer.raise_for_status()
            value = await answer.json()
        position = Position(value["last_seq"].partition("-")[2])
        for row in value["results"]:
            position = position.after(row)
        return position

    async def _changes(self, request: web.BaseRequest, path: str, query: dict[str, str]) -> web.StreamResponse:
        since = query.get("since") or request.headers.get("Last-Event-ID") or "0"
        try:
            start = Position.of("0") if since == "now" else Position.of(since)
        except ValueError:
            return web.json_response(_MALFORMED, status=400)
        if since == "now":
            start = await self._end(request, path.strip("/").partition("/")[0])
        feed = Feed(start, query, self._chance)
        kept = {name: value for name, value in query.items() if name not in ("limit", "seq_interval", "feed")}
        body = await request.read() or None
        listed = f"{path}?{urlencode({**kept, 'since': start.since()})}"
        kind = query.get("feed") or "normal"
        if kind in ("continuous", "live", "eventsource"):
            return await self._followed(request, f"{listed}&feed=continuous", body, feed, kind == "eventsource")
        async with self._ask(request, listed, body) as answer:
            if answer.status != 200:
                return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")
            value = await answer.json()
            token = value["last_seq"].partition("-")[2]
            rows = feed.mixed(value["results"], token)
            if kind == "longpoll" and not rows and feed.left:
                listed = f"{path}?{urlencode({**kept, 'since': value['last_seq']})}"
                return await self._awaited(request, f"{listed}&feed=continuous", body, feed)
            pending = value["pending"] + len(value["results"]) - len(rows) if feed.left == 0 else value["pending"]
        return web.json_response({"results": rows, "last_seq": str(feed.position), "pending": pending})

    async def _awaited(self, request: web.BaseRequest, target: str, body: Any, feed: Feed) -> web.StreamResponse:
        """The rest of a longpoll that found nothing yet."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"results":[\n')
        async with self._ask(request, target, body) as answer, aclosing(_gathered(answer)) as batches:
            async for batch, token in batches:
                if rows := feed.mixed(batch, token) if batch else []:
                    await response.write(b",\n".join(json.dumps(row).encode() for row in rows))
                    break
                await response.write(b"\n")
        ending = json.dumps({"last_seq": str(feed.position), "pending": 0})
        await response.write(f"\n],\n{ending[1:]}\n".encode())
        await response.write_eof()
        return response

    async def _followed(
        self, request: web.BaseRequest, target: str, body: Any, feed: Feed, events: bool
    ) -> web.StreamResponse:
        async with self._ask(request, target, body) as answer:
            if answer.status != 200:
                return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")
            response = web.StreamResponse(
                headers={"Content-Type": "text/event-stream" if events else "application/json"}
            )
            await response.prepare(request)
            async with aclosing(_gathered(answer)) as batches:
                async for batch, token in batches:
                    rows = feed.mixed(batch, token) if batch else []
                    heartbeat = b"event: heartbeat\ndata: \n\n" if events else b"\n"
                    await response.write(b"".join(_line(row, events) for row in rows) or heartbeat)
                    if not feed.left:
                        break
            if not events:
                await response.write(json.dumps({"last_seq": str(feed.position), "pending": 0}).encode() + b"\n")
            await response.write_eof()
            return response


def _tells_sequences(parts: Sequence[str], query: Mapping[str, str]) -> bool:
    """Whether the answer to such a GET or POST holds what the proxy has to tell otherwise."""
    if len(parts) == 1:
        return parts[0] == "_dbs_info" or (parts[0] != "" and not parts[0].startswith("_"))
    return parts[1] in ("_purged_infos", "_ensure_full_commit") or (
        query.get("update_seq") == "true" and parts[-1] != "queries"
    )


def _seconds(microseconds: str) -> str:
    return str(int(microseconds) // 1_000_000)


def _line(row: Mapping[str, Any], event: bool) -> bytes:
    text = json.dumps(row)
    return f"data: {text}\nid: {row['seq']}\n\n".encode() if event else f"{text}\n".encode()


async def _gathered(answer: aiohttp.ClientResponse) -> AsyncGenerator[tuple[list[dict[str, Any]], str], None]:
    """The rows of each burst of a continuous feed, with the token of their sequences; no rows for a heartbeat."""
    content, rest = answer.content, b""
    while data := await content.readany():
        with suppress(TimeoutError):
            async with asyncio.timeout(_GATHER_SECONDS):
                while more := await content.readany():
                    data += more
        *lines, rest = (rest + data).split(b"\n")
        rows = [row for row in map(json.loads, filter(bytes.strip, lines)) if "id" in row]
        yield rows, (rows[-1]["seq"].partition("-")[2] if rows else "")


@asynccontextmanager
async def sharded(target: str, seed: int) -> AsyncIterator[str]:
    """The URL of a sharded CouchDB on top of the embedded server at `target`, within the block."""
    timeout, connector = aiohttp.ClientTimeout(total=None), aiohttp.TCPConnector(limit=0)
    # Attachments pass as they are stored, compressed or not.
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False) as session:
        couch = ShardedCouchDB(target, session, seed)
        listening = web.Server(couch.handle, handler_cancellation=True, auto_decompress=False)
        runner = web.ServerRunner(listening, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def run(arguments: Sequence[str]) -> int:
    """Run pytest against it; the exit status. The seed is TEST_SHARDED_SEED, or a new one that is printed."""
    seed = int(os.environ.get(SEED) or random.SystemRandom().randrange(1_000_000))
    sys.stdout.write(f"{SEED}={seed}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as directory:
        async with embedded_server(Path(directory)) as server, sharded(server.url, seed) as url:
            login = f"admin:{quote(PASSWORD, safe='')}@"
            environ = {**os.environ, "TEST_COUCHDB_URL": url.replace("://", f"://{login}"), ONLY_COUCHDB: "1"}
            command = [sys.executable, "-m", "pytest", *arguments]
            return await asyncio.to_thread(lambda: subprocess.run(command, env=environ, check=False).returncode)


if __name__ == "__main__":
    sys.exit(asyncio.run(run(sys.argv[1:])))
