"""Feeds as server-sent events and over websockets, and the options that all feeds share."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from tests.protocol.site import PATIENCE_SECONDS, Person, Place

pytestmark = pytest.mark.asyncio(loop_scope="session")
KINDS = ("normal", "longpoll", "continuous", "eventsource", "websocket")


@asynccontextmanager
async def websocket(person: Person, **options: Any) -> AsyncIterator[ClientWebSocketResponse]:
    url = f"{person.url}/_changes?feed=websocket"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.send_json(options)
        yield socket


async def message(socket: ClientWebSocketResponse) -> Any:
    """The next message that is no heartbeat."""
    while not (text := await asyncio.wait_for(socket.receive_str(), PATIENCE_SECONDS)):
        pass
    return json.loads(text)


async def event(lines: AsyncIterator[str]) -> dict[str, str]:
    """The next server-sent event: its fields (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    fields: dict[str, str] = {}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while line := await anext(lines):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
    return fields


async def rows(person: Person, kind: str, **asked: Any) -> list[dict[str, Any]]:
    """All rows of a feed that ends by itself, whatever its kind."""
    if kind == "websocket":
        found: list[dict[str, Any]] = []
        async with websocket(person, timeout=100, **asked) as socket:
            async for one in socket:
                found += json.loads(one.data) if one.data else []
            assert socket.close_code == 1000
        return found
    answer = await person.http.get("/_changes", params={"feed": kind, "timeout": 100, **asked})
    assert answer.status_code == 200, answer.text
    if kind in ("normal", "longpoll"):
        return list(answer.json()["results"])
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith(("{", "data: {"))]
    return [row for row in map(json.loads, lines) if "last_seq" not in row]


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_feed_tells_the_same_rows_for_the_same_options(notes: Place, kind: str) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    split, kept, gone = notes.names("split", "kept", "gone")
    text = {"t": {"content_type": "text/plain", "data": base64.b64encode(b"text").decode()}}
    await ann.put(kept, channels=notes.name("a"), _attachments=text)
    await bob.put(notes.name("theirs"), channels=notes.name("b"))
    for rev in ("2-a", "2-b"):
        await ann.replicate(split, rev, "1-r", channels=notes.name("a"), side=rev)
    await ann.replicate(split, "3-c", "2-a", "1-r", channels=notes.name("a"), _deleted=True)
    start = (await ann.changes(limit=1))["last_seq"]
    rev = await ann.put(gone, channels=notes.name("a"))
    before = await ann.now()
    await ann.delete(gone, rev)
    several: list[dict[str, Any]] = [
        {},
        {"style": "all_docs"},
        {"include_docs": "true", "conflicts": "true"},
        {"include_docs": "true", "attachments": "true", "style": "all_docs"},
        {"conflicts": "true", "attachments": "true"},
        {"limit": 2},
        {"limit": 1, "since": start},
        {"limit": 0},
        {"seq_interval": 2},
        {"since": before, "include_docs": "true"},
        {"active_only": "true", "since": before},
        {"filter": "_doc_ids", "doc_ids": json.dumps([kept, gone]), "include_docs": "true"},
    ]
    selector = {"filter": "_selector", "selector": json.dumps({"_id": {"$gt": kept}})}
    several += [{**selector, **more} for more in ({}, {"limit": 0}, {"limit": 1, "include_docs": "true"})]
    for asked in several:
        sent = dict(asked)
        for name in {"doc_ids", "selector"} & asked.keys() if kind == "websocket" else ():
            sent[name] = json.loads(asked[name])
        expected = (await ann.changes(**asked))["results"]
        assert await rows(ann, kind, **sent) == expected, asked
        assert all(row["seq"] for row in expected)
    full = {row["id"]: row for row in (await ann.changes(**several[2]))["results"]}
    assert full[kept]["doc"]["_attachments"]["t"]["stub"] is True
    assert "_conflicts" not in full[split]["doc"], "what is deleted is no conflict"
    (tombstone,) = (await ann.changes(since=before, include_docs="true"))["results"]
    assert (tombstone["id"], tombstone["doc"]["_deleted"]) == (gone, True)
    attached = {row["id"]: row for row in (await ann.changes(**several[3]))["results"]}
    assert attached[kept]["doc"]["_attachments"]["t"]["data"] == text["t"]["data"]
    assert len(attached[split]["changes"]) == 2
    assert await rows(ann, kind, descending="true") == (await ann.changes(descending="true"))["results"]


async def test_a_live_branch_is_a_conflict_in_a_feed(notes: Place) -> None:
    ann, doc = await notes.user("ann", notes.name("a")), notes.name("doc")
    for rev in ("2-a", "2-b"):
        await ann.replicate(doc, rev, "1-r", channels=notes.name("a"))
    (row,) = (await ann.changes(include_docs="true", conflicts="true"))["results"]
    assert (row["doc"]["_rev"], row["doc"]["_conflicts"]) == ("2-b", ["2-a"])


async def test_an_eventsource_goes_on_after_the_last_event_that_was_seen(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    docs = notes.names("d1", "d2", "d3")
    for doc in docs[:2]:
        await ann.put(doc, channels=notes.name("a"))
    seen = ""
    asked = {"feed": "eventsource", "since": "0", "heartbeat": "1000"}
    async with ann.http.stream("GET", "/_changes", params=asked) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        lines = answer.aiter_lines()
        first, second = await event(lines), await event(lines)
        assert [json.loads(one["data"])["id"] for one in (first, second)] == docs[:2]
        assert json.loads(first["id"]) == json.loads(first["data"])["seq"]
        assert await event(lines) == {"event": "heartbeat", "data": ""}
        seen = first["id"]
    await ann.put(docs[2], channels=notes.name("a"))
    async with ann.http.stream("GET", "/_changes", params=asked, headers={"Last-Event-ID": seen}) as answer:
        lines = answer.aiter_lines()
        assert [json.loads((await event(lines))["data"])["id"] for _ in range(2)] == docs[1:]


async def test_an_eventsource_breaks_off_when_its_user_is_disabled(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    async with ann.http.stream("GET", "/_changes", params={"feed": "eventsource"}) as answer:
        await notes.change_user(ann, disabled=True)
        with pytest.raises(httpx.RemoteProtocolError):
            await answer.aread()
    assert await ann.status("GET", "/_changes?feed=eventsource") == 401


async def test_a_websocket_tells_what_was_that_it_caught_up_and_what_comes(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    old, new, granted = notes.names("old", "new", "granted")
    await ann.put(old, channels=notes.name("a"))
    await bob.put(granted, channels=notes.name("b"))
    async with websocket(ann, include_docs=True, heartbeat=1000) as socket:
        (row,) = await message(socket)
        assert (row["id"], row["doc"]["_id"]) == (old, old)
        assert await message(socket) == []
        assert await asyncio.wait_for(socket.receive_str(), PATIENCE_SECONDS) == "", "a heartbeat"
        await bob.put(notes.name("theirs"), channels=notes.name("b"))
        await ann.put(new, channels=notes.name("a"))
        assert [one["id"] for one in await message(socket)] == [new]
        await notes.change_user(ann, admin_channels=[notes.name("a"), notes.name("b")])
        backfill = await message(socket)
        assert [one["id"] for one in backfill] == [granted, notes.name("theirs")]
        position = backfill[-1]["seq"]
    async with websocket(ann, since=position) as socket:
        assert await message(socket) == []


async def test_a_websocket_closes_with_the_reason_when_its_user_gets_another_password(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    async with websocket(ann) as socket:
        assert await message(socket) == []
        await notes.change_user(ann, password="another one")
        closed = await asyncio.wait_for(socket.receive(), PATIENCE_SECONDS)
    assert (closed.type, closed.data) == (WSMsgType.CLOSE, 1008)
    assert closed.extra == "unauthorized: the login is not valid any more"


async def test_a_gateway_that_stops_closes_websockets_as_going_away(own: Place) -> None:
    ann = await own.user("ann", own.name("a"))
    async with websocket(ann) as socket, websocket(ann, heartbeat=1000) as other:
        assert [await message(socket), await message(other)] == [[], []]
        stopping = asyncio.create_task(own.site.gateway.stop())
        for one in (socket, other):
            while (last := await asyncio.wait_for(one.receive(), PATIENCE_SECONDS)).type is WSMsgType.TEXT:
                assert last.data == ""
            assert (last.type, last.data) == (WSMsgType.CLOSE, 1001)
        await stopping


async def test_an_unchanged_feed_is_answered_304_until_something_is_committed(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    first = await ann.http.get("/_changes")
    held = {"If-None-Match": first.headers["etag"]}
    other = await bob.http.get("/_changes", headers=held)
    assert other.status_code == 200, "another user's answer is another one"
    await ann.put(notes.name("doc"), channels=notes.name("a"))
    fresh = await ann.http.get("/_changes", headers=held)
    assert (fresh.status_code, len(fresh.json()["results"])) == (200, 1)
