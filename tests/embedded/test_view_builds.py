from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from gateway.embedded import EmbeddedServer
from gateway.embedded.views import index

# Slow enough to be killed in the middle: some milliseconds for each document.
MAP = "function (doc) { for (var end = Date.now() + 4; Date.now() < end; ); emit(doc.n, Math.random()); }"
DESIGN: dict[str, Any] = {"_id": "_design/x", "views": {"v": {"map": MAP}}}
DOCUMENTS: list[dict[str, Any]] = [{"_id": f"d{n:03}", "n": n} for n in range(200)]


async def rows(server: EmbeddedServer, query: str = "") -> list[dict[str, Any]]:
    response = await server.request("GET", "/db/_design/x/_view/v", query=query)
    body = b"".join([piece async for piece in response.content])
    assert response.status == 200, body
    found: list[dict[str, Any]] = json.loads(body)["rows"]
    return found


async def test_a_build_goes_on_after_kill_9_where_it_was(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.embedded.building_process", str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 60)
    process.kill()
    await process.wait()

    server = EmbeddedServer(tmp_path)
    database = await server.open("db", create=False)
    design = await database.views.design("_design/x")
    state = await database.reading(lambda connection: index.state(connection, design.signature))
    assert state is not None
    assert int(line) <= state.seq < len(DOCUMENTS)
    before = await rows(server, "update=false")
    assert [row["key"] for row in before] == list(range(state.seq))
    after = await rows(server)
    assert [row["key"] for row in after] == list(range(200))
    assert after[: len(before)] == before  # mapped once
    await server.close()


async def test_closing_the_server_stops_a_build_and_loses_nothing(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    database = await server.open("db", create=True)
    await database.write(DOCUMENTS, new_edits=True)
    await database.write([DESIGN], new_edits=True)
    database.views.update(await database.views.design("_design/x"))
    async with asyncio.timeout(10):
        await server.close()

    again = EmbeddedServer(tmp_path)
    assert len(await rows(again)) == 200
    await again.close()


async def test_a_deleted_database_ends_its_builds(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    database = await server.open("db", create=True)
    await database.write(DOCUMENTS, new_edits=True)
    await database.write([DESIGN], new_edits=True)
    building = asyncio.ensure_future(server.request("GET", "/db/_design/x/_view/v"))
    while not database.views.building(await database.views.design("_design/x")):
        pass
    await server.delete("db")
    response = await building
    assert response.status in (404, 503)
    await server.close()


async def test_a_query_whose_client_goes_does_not_stop_the_build(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    database = await server.open("db", create=True)
    await database.write(DOCUMENTS[:50], new_edits=True)
    await database.write([DESIGN], new_edits=True)
    asking = asyncio.ensure_future(rows(server))
    design = await database.views.design("_design/x")
    while not database.views.building(design):
        await database.views.design("_design/x")
    asking.cancel()
    await asyncio.wait([asking])
    await database.views.update(design)
    assert len(await rows(server, "update=false")) == 50
    await server.close()
