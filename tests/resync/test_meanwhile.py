"""A resync in a gateway that serves: writes, pulls and running clients meanwhile, and kill -9 in the middle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.protocol.pouch import PATIENCE_SECONDS, ClientError, Driver, LocalDatabase
from tests.protocol.site import Person, Place
from tests.resync.conftest import ended, resync, want
from tests.routing.world import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

# As BY_ROOM, but that documents with an owner go to the owner's channel, and some time for each document.
SLOWLY: Final = """
function (doc) {
  for (var end = Date.now() + MILLISECONDS; Date.now() < end;) {}
  channel(doc.owner || doc.room);
  if (doc.grants) { access(doc.grants, doc.to); }
}
"""


def slowly(milliseconds: int) -> str:
    return SLOWLY.replace("MILLISECONDS", str(milliseconds))


async def fill(admin: Person, count: int) -> None:
    """Every third document is owned by b, the others are in a only."""
    for start in range(0, count, 2_000):
        await admin.bulk(
            *(
                {"_id": f"{at:06}", "room": "a", "n": at, **({"owner": "b"} if at % 3 == 0 else {})}
                for at in range(start, min(start + 2_000, count))
            )
        )


async def in_the_middle(admin: Person) -> dict[str, Any]:
    """The status of a running resync once some documents, and not all, are computed."""
    async with asyncio.timeout(30):
        while not 0 < (told := await admin.get("/_resync"))["docs_processed"] < told["docs_total"]:
            assert told["status"] == "running", told
    return dict(told)


async def test_a_gateway_killed_in_the_middle_goes_on_when_it_is_started_again(rooms: Place) -> None:
    admin, ann, bob = await rooms.admin(), await rooms.user("ann", "a"), await rooms.user("bob", "b")
    await fill(admin, 1_200)
    await want(admin, slowly(1))
    since = await ann.now()
    told = await resync(admin)
    assert (told["status"], told["version"]) == ("running", 2)
    before = await in_the_middle(admin)
    await rooms.site.gateway.kill()
    await rooms.site.gateway.start()
    rooms.forget_people()
    admin, ann, bob = await rooms.admin(), await rooms.login(ann.name), await rooms.login(bob.name)
    told = await admin.get("/_resync")
    assert told["status"] in ("running", "completed")
    assert told["docs_processed"] >= before["docs_processed"], "what was computed is not computed again"
    told = await ended(admin)
    assert (told["docs_processed"], told["docs_changed"]) == (1_200, 400)
    rows = await ann.read(since=since, revocations="true", limit=100)
    assert [row["id"] for row in rows] == [f"{at:06}" for at in range(0, 1_200, 3)]
    assert all(row["removed"] for row in rows)
    assert len(await ann.held()) == 800
    assert len(await bob.held()) == 400


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def driver() -> AsyncIterator[Driver]:
    running = Driver()
    await running.start()
    yield running
    await running.stop()


async def caught_up(phone: LocalDatabase, last: str) -> None:
    """Wait until this document is there, for as long as others come. (`has` looks at all of them each time.)"""
    count, came_at = 0, time.monotonic()
    while True:
        try:
            await phone.call("get", last)
            return
        except ClientError as error:
            assert error.status == 404, error
        before, count = count, int((await phone.call("info"))["update_seq"])
        if count > before:
            came_at = time.monotonic()
        assert time.monotonic() - came_at < PATIENCE_SECONDS, "nothing comes any more"
        await asyncio.sleep(0.1)


async def served_meanwhile(rooms: Place, driver: Driver, count: int, milliseconds: int) -> dict[str, Any]:
    """Resync that many documents while PouchDBs write and pull and a feed runs; the status at the end.

    Without a single error, and each ends with exactly what its user may read.
    """
    admin, ann, bob = await rooms.admin(), await rooms.user("ann", "a"), await rooms.user("bob", "b")
    await fill(admin, count)
    await want(admin, slowly(milliseconds))
    since = await ann.now()
    phones = []
    for person in (ann, bob):
        local, remote = await driver.device(person.name), await driver.remote(person.url)
        phones.append((local, await local.sync(remote, retry=False, pull={"since": await person.now()})))
    async with ann.following(since=since, revocations="true") as feed:
        await resync(admin)
        written = 0
        while (told := await admin.get("/_resync"))["status"] == "running":
            await phones[0][0].put(f"new-{written}", room="a", **({"owner": "b"} if written % 2 else {}))
            await bob.put(f"other-{written}", room="b", owner="b")
            assert await ann.status("GET", "/000001") == 200
            assert (await ann.changes(limit=10))["results"]
            written += 1
            await asyncio.sleep(0.02)
        assert told["status"] == "completed", told
        assert written > 1, "it ended too soon to show anything"
        lost = {f"{at:06}" for at in range(0, count, 3)}
        while lost:
            row = await feed.row()
            lost -= {row["id"]} if "removed" in row else set()
    await phones[0][0].put("last-pushed", room="a")

    async def pushed() -> bool:
        return await ann.status("GET", "/last-pushed") == 200

    await until(pushed, PATIENCE_SECONDS)
    await ann.put("last", room="a")
    await bob.put("last-of-bob", room="b")
    for (phone, sync), last in zip(phones, ("last", "last-of-bob"), strict=True):
        await caught_up(phone, last)
        assert sync.seen("error") + sync.seen("denied") == []
        await sync.cancel()
    own = {f"new-{at}" for at in range(0, written, 2)} | {"last-pushed", "last"}
    assert set(await ann.held()) == {f"{at:06}" for at in range(count) if at % 3} | own
    theirs = {f"other-{at}" for at in range(written)} | {f"new-{at}" for at in range(1, written, 2)} | {"last-of-bob"}
    assert set(await bob.held()) == {f"{at:06}" for at in range(0, count, 3)} | theirs
    return dict(told)


async def test_clients_write_and_pull_while_a_resync_runs(rooms: Place, driver: Driver) -> None:
    told = await served_meanwhile(rooms, driver, 1_500, 1)
    assert told["docs_changed"] >= 500


@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_a_hundred_thousand_documents_are_resynced_while_clients_write_and_pull(
    rooms: Place, driver: Driver
) -> None:
    told = await served_meanwhile(rooms, driver, 100_000, 0)
    assert told["docs_changed"] >= 33_334
