"""The gateway stops and comes back: feeds end in good order, clients go on where they were."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gateway import limits
from tests.protocol.pouch import Driver
from tests.protocol.proxy import proxy_to
from tests.protocol.site import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def restart(place: Place) -> None:
    """Stop the gateway in good order and start it again, on other ports. Its people have to log in anew."""
    assert await place.site.gateway.stop() == 0
    await place.site.gateway.start()
    place.forget_people()


async def test_sigterm_ends_running_feeds_with_a_complete_last_line(own: Place) -> None:
    ann = await own.user("ann", own.name("a"))
    await ann.put(own.name("doc"), channels=own.name("a"))
    started = time.monotonic()
    async with ann.following() as lines, ann.waiting(since=await ann.now()) as answer:
        await lines.row()
        own.site.gateway.terminate()
        last = await lines.row()
        assert last["last_seq"].partition("-")[0].isdigit()
        with pytest.raises(StopAsyncIteration):
            await lines.line()
        page = await answer()
        assert page["results"] == []
    assert await own.site.gateway.ended() == 0
    assert time.monotonic() - started < limits.DRAIN_SECONDS


async def test_a_write_under_way_is_answered_while_draining(own: Place) -> None:
    ann = await own.user("ann", own.name("a"))
    body = json.dumps({"channels": own.name("a")}).encode()

    async def slowly() -> AsyncIterator[bytes]:
        yield body[:5]
        async with httpx.AsyncClient() as other:
            while not await taken_up(other):
                pass
            own.site.gateway.terminate()
            while await open_for_others(other):
                pass
        yield body[5:]

    async def taken_up(other: httpx.AsyncClient) -> bool:
        """Whether the gateway has begun to handle the write: what asks is a request, too."""
        status = await other.get(f"{own.site.gateway.admin}/_status")
        return int(status.json()["requests"]) > 1

    async def open_for_others(other: httpx.AsyncClient) -> bool:
        """Whether the gateway still takes new requests."""
        try:
            return (await other.get(f"{own.site.gateway.public}/_up")).status_code == 200
        except httpx.TransportError:
            return False

    answer = await ann.http.put(f"/{own.name('doc')}", content=slowly())
    assert answer.status_code == 201
    assert await own.site.gateway.ended() == 0
    await own.site.gateway.start()
    again = await own.login(ann.name)
    assert await again.held() == [own.name("doc")]


async def test_everything_is_there_after_a_restart(own: Place) -> None:
    ann, admin = await own.user("ann", own.name("a")), await own.admin()
    await ann.put(own.name("mine"), channels=own.name("a"))
    await admin.put(own.name("old"), channels=own.name("b"))
    at = await ann.now()
    await admin.put(own.name("grant"), grants={ann.name: own.name("b")})
    page = await ann.changes(since=at)
    saved = await ann.http.put("/_local/checkpoint", json={"at": at})
    assert saved.status_code == 201
    await restart(own)
    ann = await own.login(ann.name)
    assert await ann.changes(since=at) == page
    assert await ann.held() == own.names("mine", "old")
    assert (await ann.get("/_local/checkpoint"))["at"] == at


async def test_a_live_sync_goes_on_after_a_restart(own: Place, driver: Driver) -> None:
    ann = await own.user("ann", own.name("a"))
    async with proxy_to(own.site.gateway.public) as proxy:
        device = await driver.device("ann")
        remote = await driver.remote(f"http://{ann.name}:{ann.name}-pw@{proxy.url[7:]}/notes")
        running = await device.sync(remote)
        await device.put(own.name("before"), channels=own.name("a"))
        other = await driver.device("other")
        await other.sync(remote)
        await other.holds(own.name("before"))
        assert await own.site.gateway.stop() == 0
        await device.put(own.name("offline"), channels=own.name("a"))
        await own.site.gateway.start()
        own.forget_people()
        proxy.target = own.site.gateway.public
        ann = await own.login(ann.name)
        await ann.put(own.name("after"), channels=own.name("a"))
        await device.holds(*own.names("after", "before", "offline"))
        await other.holds(*own.names("after", "before", "offline"))
        assert running.seen("error") == []
        await running.cancel()


async def test_a_live_sync_outlives_a_connection_that_breaks_beside_a_checkpoint(own: Place, driver: Driver) -> None:
    ann = await own.user("ann", own.name("a"))
    async with proxy_to(own.site.gateway.public) as proxy:
        device = await driver.device("ann")
        remote = await driver.remote(f"http://{ann.name}:{ann.name}-pw@{proxy.url[7:]}/notes")
        running = await device.sync(remote)
        await running.event("paused")
        proxy.break_off("GET", "/notes/")  # PouchDB's `info()`, asked for with each checkpoint
        await ann.put(own.name("first"), channels=own.name("a"))
        await device.holds(own.name("first"))
        await proxy.broke_off()
        proxy.mend()
        await ann.put(own.name("second"), channels=own.name("a"))
        await device.holds(*own.names("first", "second"))
        assert running.seen("error") == []
        await running.cancel()


async def test_a_replication_goes_on_from_its_checkpoint_after_both_ends_restarted(own: Place, tmp_path: Path) -> None:
    ann = await own.user("ann", own.name("a"))
    ids = [own.name(f"d{number}") for number in range(5)]
    await ann.bulk(*({"_id": id, "channels": own.name("a")} for id in ids))
    async with proxy_to(own.site.gateway.public) as proxy:
        remote_url = f"http://{ann.name}:{ann.name}-pw@{proxy.url[7:]}/notes"
        for turn, read in ((1, 5), (2, 1)):
            client = Driver()
            await client.start()
            device = await client.device("ann", tmp_path)  # on disk
            result = await device.pulled(await client.remote(remote_url), batch_size=2)
            assert result["docs_read"] == read
            await device.close()
            await client.stop()
            if turn == 1:
                proxy.forget()
                await restart(own)
                proxy.target = own.site.gateway.public
                ann = await own.login(ann.name)
                await ann.put(own.name("new"), channels=own.name("a"))
        asked = next(request for request in proxy.seen if request.path.endswith("/_changes"))
        assert asked.query["since"] not in ("", "0")
