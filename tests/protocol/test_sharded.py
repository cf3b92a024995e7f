"""A gateway on a CouchDB with shards: rows of different documents come in any order, and every one is routed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from gateway.couch.client import CouchDB
from gateway.couch.upstream import ChangeRow
from tests.protocol.sharded import shard_of, sharded
from tests.protocol.site import DATABASES, Place, Site
from tests.protocol.upstreams import UpstreamServer, configured, embedded_server
from tests.running import GatewayProcess, running_gateway, write_config

pytestmark = pytest.mark.asyncio(loop_scope="session")

SEED: Final = 1
BULK: Final = 100


@dataclass(frozen=True, slots=True)
class Burst:
    """A place of a gateway on a sharded server, and the way past the gateway."""

    place: Place
    server: UpstreamServer

    async def write(self, *ids: str) -> None:
        """One bulk write straight to the upstream."""
        docs: list[dict[str, Any]] = [{"_id": id, "channels": self.place.name("a")} for id in ids]
        async with self.server.client(self.place.database) as http:
            answer = await http.post("/_bulk_docs", json={"docs": docs})
            assert answer.status_code == 201, answer.text


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[UpstreamServer]:
    directory = tmp_path_factory.mktemp("upstream")
    async with embedded_server(directory) as inner, sharded(inner.url, SEED) as url:
        yield UpstreamServer(url, inner.username, inner.password)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(server: UpstreamServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    databases = {"notes": DATABASES["notes"]}
    async with running_gateway(write_config(tmp_path_factory.mktemp("site"), **configured(databases, server))) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="session")
async def burst(server: UpstreamServer, gateway: GatewayProcess) -> AsyncIterator[Burst]:
    async with AsyncExitStack() as stack:
        yield Burst(Place(Site("sharded", gateway, server), "notes", stack), server)


async def test_a_burst_of_bulk_writes_is_routed_completely_in_whatever_order_its_rows_come(burst: Burst) -> None:
    place = burst.place
    ann = await place.user("ann", place.name("a"))
    ids = [place.name(f"d{number:04}") for number in range(4 * BULK)]
    assert {shard_of(id) for id in ids} == {0, 1}
    async with ann.following(limit=str(len(ids))) as lines:
        for start in range(0, len(ids), BULK):
            await burst.write(*ids[start : start + BULK])
        came = await lines.ids(len(ids))
    assert sorted(came) == ids
    assert came != ids, "the stand-in mixes the rows of its shards"
    assert await ann.held() == ids


async def test_the_gateway_goes_on_after_whichever_row_it_ended_at(burst: Burst) -> None:
    place = burst.place
    ann = await place.user("ann", place.name("a"))
    ids = [place.name(f"d{number:04}") for number in range(2 * BULK)]
    for start in range(0, len(ids), BULK):
        async with ann.following() as lines:
            await burst.write(*ids[start : start + BULK])
            await lines.row()  # it has routed some rows of the burst, and saved a position among them
            await place.site.gateway.kill()
            with pytest.raises(httpx.TransportError):
                await ann.held()
        await place.site.gateway.start()
        place.forget_people()
        ann = await place.login(ann.name)
    wanted = set(ids)
    async with ann.following() as lines:
        while wanted:
            wanted.discard((await lines.row())["id"])
    assert await ann.held() == ids


async def test_from_the_sequence_of_any_row_come_exactly_the_rows_not_had_before(server: UpstreamServer) -> None:
    ids = [f"d{number:02}" for number in range(24)]
    client = CouchDB(server.url, username=server.username, password=server.password)
    database = await client.open("rows", create=True)
    await database.write([{"_id": id} for id in ids], new_edits=True)

    async def rows(since: str, count: int) -> list[ChangeRow]:
        found: list[ChangeRow] = []
        feed = database.changes(since)
        while len(found) < count:
            if isinstance(row := await anext(feed), ChangeRow):
                found.append(row)
        await feed.aclose()
        return found

    try:
        everything = await rows("0", len(ids))
        for had, row in enumerate(everything[:-1], start=1):
            assert row.seq is not None
            rest = await rows(row.seq, len(ids) - had)
            assert sorted(row.id for row in [*everything[:had], *rest]) == ids
    finally:
        await client.close()
