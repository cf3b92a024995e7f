"""kill -9 at the worst moments: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.protocol.proxy import proxy_to
from tests.protocol.site import DATABASES, Person, Place, Site, site_on
from tests.protocol.test_changes import order
from tests.protocol.upstreams import embedded_server
from tests.running import GatewayProcess, write_config

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOTES = {"notes": DATABASES["notes"]}


async def stored(upstream: httpx.AsyncClient, *ids: str) -> None:
    """Wait until the upstream has these documents."""
    since, missing = "0", set(ids)
    while missing:
        found = await upstream.get("/_changes", params={"feed": "longpoll", "since": since})
        page = found.json()
        since, missing = page["last_seq"], missing - {row["id"] for row in page["results"]}


async def consistent(person: Person, expected: set[str], since: str = "0") -> list[dict[str, Any]]:
    """All rows after `since`, in small pages: each document once, positions strictly increasing, all fetchable."""
    rows = await person.read(since=since, limit=7)
    assert sorted(row["id"] for row in rows) == sorted(expected)
    places = [order(row["seq"]) for row in rows]
    assert places == sorted(set(places))
    asked = {"docs": [{"id": row["id"], "rev": row["changes"][0]["rev"]} for row in rows]}
    answer = await person.http.post("/_bulk_get", json=asked)
    assert [result["docs"][0].get("ok", {}).get("_id") for result in answer.json()["results"]] == [
        row["id"] for row in rows
    ]
    return rows


@pytest.mark.parametrize("through", ["the gateway", "the upstream"])
async def test_a_crash_between_the_upstream_write_and_its_routing_loses_and_doubles_nothing(
    tmp_path: Path, through: str
) -> None:
    async with (
        embedded_server(tmp_path / "upstream") as server,
        proxy_to(server.url) as proxy,
        server.client("notes") as upstream,
        AsyncExitStack() as stack,
    ):
        config = write_config(tmp_path, NOTES, couchdb={**server.config, "url": proxy.url})
        place = Place(Site("proxied", GatewayProcess(config), server), "notes", stack)
        await place.site.gateway.start()
        stack.push_async_callback(place.site.gateway.stop)
        ann, admin = await place.user("ann", place.name("a")), await place.admin()
        before = [place.name(f"before{number}") for number in range(3)]
        await ann.bulk(*({"_id": id, "channels": place.name("a")} for id in before))
        await admin.put(place.name("old"), channels=place.name("b"))
        rows = await consistent(ann, set(before))
        at, inside = await ann.now(), rows[0]["seq"]

        proxy.hold("/_changes")
        docs: list[dict[str, Any]] = [
            {"_id": place.name("new1"), "channels": place.name("a")},
            {"_id": place.name("new2"), "channels": place.name("a")},
            {"_id": place.name("grant"), "grants": {ann.name: place.name("b")}},
        ]
        writing = asyncio.create_task(
            (admin.http if through == "the gateway" else upstream).post("/_bulk_docs", json={"docs": docs})
        )
        await stored(upstream, *(doc["_id"] for doc in docs))
        assert await ann.listed(since=at) == [], "stored, and not yet routed"
        await place.site.gateway.kill()
        with contextlib.suppress(httpx.TransportError):
            assert (await writing).status_code == 201
            assert through == "the upstream", "nobody was told that it is routed"

        proxy.release()
        await place.site.gateway.start()
        place.forget_people()
        ann, admin = await place.login(ann.name), await place.admin()
        await admin.put(place.name("last"), channels=place.name("a"))  # routed after all that was there
        new = {*place.names("new1", "new2", "last", "old")}
        await consistent(ann, {*before, *new})
        await consistent(ann, new, since=at)
        await consistent(ann, {*before[1:], *new}, since=inside)
        assert sorted(await ann.held()) == sorted({*before, *new})
        everything = [row["id"] for row in (await admin.get("/_all_docs"))["rows"]]
        assert sorted(everything) == sorted({*before, *new, place.name("grant")})


async def test_a_feed_from_before_the_crash_goes_on_with_what_was_not_yet_routed(tmp_path: Path) -> None:
    async with (
        embedded_server(tmp_path / "upstream") as server,
        proxy_to(server.url) as proxy,
        server.client("notes") as upstream,
        AsyncExitStack() as stack,
    ):
        config = write_config(tmp_path, NOTES, couchdb={**server.config, "url": proxy.url})
        place = Place(Site("proxied", GatewayProcess(config), server), "notes", stack)
        await place.site.gateway.start()
        stack.push_async_callback(place.site.gateway.stop)
        ann = await place.user("ann", place.name("a"))
        doc = place.name("doc")
        rev = await ann.put(doc, channels=place.name("a"), n=1)
        async with ann.following() as lines:
            row = await lines.row()
            proxy.hold("/_changes")
            changed = await upstream.put(f"/{doc}", json={"_rev": rev, "channels": place.name("a"), "n": 2})
            assert changed.status_code == 201
            await place.site.gateway.kill()
            with pytest.raises(httpx.RemoteProtocolError):
                await lines.row()
        proxy.release()
        await place.site.gateway.start()
        place.forget_people()
        ann = await place.login(ann.name)
        async with ann.following(since=row["seq"]) as lines:
            again = await lines.row()
            assert (again["id"], again["changes"]) == (doc, [{"rev": changed.json()["rev"]}])
            await ann.put(place.name("next"), channels=place.name("a"))
            assert (await lines.row())["id"] == place.name("next"), "it is told once"


class Writers:
    """People who write without pause until the gateway is killed, and what was acknowledged to them."""

    def __init__(self, person: Person, place: Place, turn: int) -> None:
        self.person, self.place, self.turn = person, place, turn
        self.acknowledged: dict[str, str] = {}
        self.enough = asyncio.Event()

    async def run(self, writers: int, enough: int) -> None:
        async def write(number: int) -> None:
            with contextlib.suppress(httpx.TransportError):
                for count in range(100_000):
                    doc = self.place.name(f"{self.turn}-{number}-{count}")
                    body: dict[str, Any] = {"channels": self.place.name("a"), "n": 1}
                    if count % 3 == 2:
                        body["grants"] = {self.person.name: self.place.name(f"c{self.turn}")}
                    answer = await self.person.http.put(f"/{doc}", json=body)
                    assert answer.status_code == 201, answer.text
                    rev = answer.json()["rev"]
                    self.acknowledged[doc] = rev
                    if count % 2:
                        answer = await self.person.http.put(f"/{doc}", json={**body, "_rev": rev, "n": 2})
                        assert answer.status_code == 201, answer.text
                        self.acknowledged[doc] = answer.json()["rev"]
                    if len(self.acknowledged) >= enough:
                        self.enough.set()

        async with asyncio.TaskGroup() as group:
            for number in range(writers):
                group.create_task(write(number))
            await self.enough.wait()
            await self.place.site.gateway.kill()


async def test_every_acknowledged_write_survives_kill_9_again_and_again(tmp_path: Path) -> None:
    async with site_on("embedded", tmp_path, NOTES) as site, AsyncExitStack() as stack:
        place = Place(site, "notes", stack)
        ann = await place.user("ann", place.name("a"))
        known: dict[str, str] = {}
        since = "0"
        for turn, enough in ((1, 40), (2, 75), (3, 110)):
            writers = Writers(ann, place, turn)
            await writers.run(8, enough)
            known |= writers.acknowledged
            started = time.monotonic()
            await site.gateway.start()
            assert time.monotonic() - started < 15, "it starts in seconds, whatever was killed"
            place.forget_people()
            ann, admin = await place.login(ann.name), await place.admin()
            await ann.put(place.name(f"{turn}-last"), channels=place.name("a"))  # routed after all that was there
            known[place.name(f"{turn}-last")] = (await ann.get(f"/{place.name(f'{turn}-last')}"))["_rev"]
            held = set(await ann.held())
            assert held >= known.keys()
            rows = await consistent(ann, held)
            told = {row["id"]: row["changes"][0]["rev"] for row in rows}
            for doc, rev in known.items():
                assert told[doc] == rev or int(told[doc].partition("-")[0]) > int(rev.partition("-")[0]), doc
            fresh = await ann.read(since=since, limit=50)
            assert {row["id"] for row in fresh} >= {doc for doc in known if doc.startswith(f"{turn}-")}
            since = await ann.now()
            user = json.loads((await admin.http.get(f"/_user/{ann.name}")).text)
            assert place.name(f"c{turn}") in user["all_channels"]
            assert sorted(await admin.held()) == sorted(held)
