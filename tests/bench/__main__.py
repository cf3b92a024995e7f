"""Starts a gateway on free ports of 127.0.0.1 with a database of its own, measures, and stops it again."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from tests.bench.load import Figures, measure
from tests.running import GatewayProcess, running_gateway, write_config

READERS_DOCUMENTS = 100
CHANNELS = 10
CHUNK = 1_000
JSON = {"Content-Type": "application/json"}


class Bench:
    """One database of one size behind one gateway."""

    def __init__(self, gateway: GatewayProcess, session: aiohttp.ClientSession) -> None:
        self._gateway = gateway
        self._session = session
        self._reader = {"Authorization": aiohttp.encode_basic_auth("reader", "reader")}
        self._owner = {**JSON, "Authorization": aiohttp.encode_basic_auth("owner", "owner")}

    async def fill(self, count: int) -> float:
        """Write `count` documents in bulk; documents per second. The reader has 100 of them, spread over all."""
        every = count // READERS_DOCUMENTS

        async def chunk(start: int) -> None:
            docs = []
            for number in range(start, min(count, start + CHUNK)):
                mine = number % every == 0
                channel = f"mine-{number // every % CHANNELS}" if mine else f"other-{number % 1000}"
                docs.append({"_id": f"doc-{number:08}", "channels": [channel], "text": "x" * 200, "number": number})
            url = f"{self._gateway.admin}/bench/_bulk_docs"
            async with self._session.post(url, data=json.dumps({"docs": docs}), headers=JSON) as response:
                answer = await response.json()
                if response.status != 201 or any("error" in one for one in answer):
                    raise RuntimeError(f"bulk write: {response.status} {str(answer)[:200]}")

        figures = await measure(lambda at: chunk(at * CHUNK), count=(count + CHUNK - 1) // CHUNK, connections=2)
        return count / figures.total_s

    async def _get(self, path: str, headers: dict[str, str], expected: int = 200) -> Any:
        async with self._session.get(f"{self._gateway.public}/bench{path}", headers=headers) as response:
            answer = await response.json()
            if response.status != expected:
                raise RuntimeError(f"GET {path}: {response.status} {answer}")
            return answer

    async def first_page(self) -> Figures:
        """A user with 100 documents in 10 channels asks from the beginning."""

        async def request(_: int) -> None:
            answer = await self._get("/_changes?limit=100&style=all_docs", self._reader)
            if len(answer["results"]) != READERS_DOCUMENTS:
                raise RuntimeError(f"{len(answer['results'])} rows instead of {READERS_DOCUMENTS}")

        await measure(request, count=50, connections=1)
        return await measure(request, count=300, connections=1)

    async def pages(self) -> Figures:
        """Pages of 100 rows of the reader, from 16 connections."""

        async def request(_: int) -> None:
            await self._get("/_changes?limit=100&style=all_docs", self._reader)

        return await measure(request, count=2_000, connections=16)

    async def puts(self, connections: int, count: int) -> Figures:
        run = uuid.uuid4().hex[:8]

        async def request(number: int) -> None:
            url = f"{self._gateway.public}/bench/{run}-{number}"
            body = json.dumps({"channels": ["mine-0"], "text": "x" * 200})
            async with self._session.put(url, data=body, headers=self._owner) as response:
                if response.status != 201:
                    raise RuntimeError(f"PUT: {response.status} {await response.text()}")

        return await measure(request, count=count, connections=connections)

    async def gets(self, connections: int, count: int, size: int) -> Figures:
        every = size // READERS_DOCUMENTS

        async def request(number: int) -> None:
            await self._get(f"/doc-{number % READERS_DOCUMENTS * every:08}", self._reader)

        return await measure(request, count=count, connections=connections)


async def alone(url: str, session: aiohttp.ClientSession) -> dict[str, Figures]:
    """The same single PUTs on CouchDB without a gateway."""
    base = url.rstrip("/")
    name = f"bench-{uuid.uuid4().hex}"
    async with session.put(f"{base}/{name}") as response:
        response.raise_for_status()

    async def request(number: int, run: str) -> None:
        body = json.dumps({"channels": ["mine-0"], "text": "x" * 200})
        async with session.put(f"{base}/{name}/{run}-{number}", data=body, headers=JSON) as response:
            response.raise_for_status()

    try:
        return {
            "1": await measure(lambda at: request(at, "a"), count=300, connections=1),
            "100": await measure(lambda at: request(at, "b"), count=3_000, connections=100),
        }
    finally:
        async with session.delete(f"{base}/{name}"):
            pass


async def run(sizes: list[int], couchdb: str | None) -> None:
    first_pages: list[float] = []
    databases = {
        "bench": {
            "upstream": f"bench-{uuid.uuid4().hex}",
            "users": {
                "reader": {"password": "reader", "admin_channels": [f"mine-{at}" for at in range(CHANNELS)]},
                "owner": {"password": "owner", "admin_channels": ["mine-0"]},
            },
        }
    }
    connector = aiohttp.TCPConnector(limit=200)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=600)) as session:
        for size in sizes:
            with tempfile.TemporaryDirectory(prefix="couch-gateway-bench-") as directory:
                more = {"couchdb": _upstream(couchdb)} if couchdb else {}
                config = write_config(Path(directory), databases, **more)
                async with running_gateway(config) as gateway:
                    bench = Bench(gateway, session)
                    print(f"\n{size:,} documents on {'CouchDB' if couchdb else 'the embedded upstream'}")
                    _line("bulk documents per second", f"{await bench.fill(size):,.0f}", "0.8 of CouchDB alone")
                    first = await bench.first_page()
                    first_pages.append(first.median_ms)
                    _line("first page, user with 100 documents, ms", f"{first.median_ms:.2f}", "the same at every size")
                    pages = await bench.pages()
                    _line("pages of 100 changes, 10 channels, per second", f"{pages.per_second:,.0f}", "1,000")
                    lone = await bench.puts(1, 300)
                    _line("single PUTs per second, 1 connection", _put(lone), "at most 1.5 times CouchDB's latency")
                    many = await bench.puts(100, 4_000)
                    _line("single PUTs per second, 100 connections", _put(many), "twice CouchDB alone")
                    gets = await bench.gets(100, 6_000, size)
                    _line("single GETs per second, 100 connections", f"{gets.per_second:,.0f}", "twice CouchDB alone")
        if couchdb:
            for connections, figures in (await alone(couchdb, session)).items():
                _line(f"CouchDB alone: PUTs per second, {connections} connection(s)", _put(figures), "")
    if len(first_pages) > 1:
        ratio = first_pages[-1] / first_pages[0]
        print()
        _line(f"first page at {sizes[-1]:,} over {sizes[0]:,} documents", f"{ratio:.2f}", "at most 1.5")


def _put(figures: Figures) -> str:
    return f"{figures.per_second:,.0f}  (median {figures.median_ms:.2f} ms, p99 {figures.p99_ms:.2f} ms)"


def _line(what: str, number: str, aim: str) -> None:
    print(f"  {what:<52} {number:<44} {'aim: ' + aim if aim else ''}", flush=True)


def _upstream(url: str) -> dict[str, str]:
    parts = URL(url)
    plain = str(parts.with_user(None))
    return {"url": plain.rstrip("/"), "username": parts.user or "", "password": parts.password or ""}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--sizes", default="10000,300000", help="documents, comma-separated (default: %(default)s)")
    parser.add_argument("--couchdb", default=os.environ.get("TEST_COUCHDB_URL"), help="http://admin:password@host:port")
    given = parser.parse_args()
    asyncio.run(run([int(size) for size in given.sizes.split(",")], given.couchdb))
    return 0


if __name__ == "__main__":
    sys.exit(main())
