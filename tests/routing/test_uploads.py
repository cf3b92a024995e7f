"""Attachments that stream past: the function decides at the end of the body, about the document as it is then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.callers import Caller
from gateway.couch.upstream import UpstreamResponse
from gateway.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    GatewayError,
    MissingRevision,
    NotFound,
    RefusedBySyncFunction,
    Unauthorized,
    UpstreamOutcomeUnknown,
    UpstreamUnreachable,
)
from gateway.queries import Outcome, UploadedAttachment
from gateway.store.protocol import PrincipalChange
from tests.routing.world import ADMIN, World, until, world_in

Piece = bytes | Callable[[], Awaitable[object]]
LARGE = b"x" * 600_000


async def pieces(*several: Piece) -> AsyncIterator[bytes]:
    """A body, and what happens while it is sent."""
    for piece in several:
        if isinstance(piece, bytes):
            yield piece
        else:
            await piece()


async def put(world: World, caller: Caller, doc: str, rev: str | None, *body: Piece) -> Outcome:
    uploaded = UploadedAttachment("image/x", None, None, pieces(*body))
    return await world.database.put_attachment(caller, doc, "photo", rev, uploaded)


async def content(world: World, caller: Caller, doc: str) -> bytes:
    answer = await world.database.attachment(caller, doc, "photo", None, "GET", {})
    assert answer.status == 200
    return b"".join([chunk async for chunk in answer.content])


async def test_an_upload_is_routed_by_its_verdict_and_nothing_is_read_back(world: World) -> None:
    ann = await world.user("ann", ["a"])
    rev = await world.write(ann, "doc", channels=["a"], v=1)
    outcome = await put(world, ann, "doc", rev, LARGE, b"end")
    assert (outcome.routed, outcome.rev and outcome.rev[:2]) == (True, "2-")
    assert await world.listed(ann) == {"doc": outcome.rev}
    assert await content(world, ann, "doc") == LARGE + b"end"
    assert world.upstream.leaf_reads == []


async def test_the_function_sees_the_revision_that_the_upstream_gave(tmp_path: Path) -> None:
    sync = "function (doc, oldDoc) { channel('r' + (doc._rev || 'none').split('-')[0]); if (oldDoc) channel('old'); }"
    async with world_in(tmp_path, sync) as world:
        await world.caught_up()
        new = await put(world, ADMIN, "doc", None, b"1")
        assert await world.channels("doc") == {"r1"}
        await put(world, ADMIN, "doc", new.rev, b"2")
        assert await world.channels("doc") == {"r2", "old"}
        inline = {"photo": {"content_type": "image/x", "data": "Mw=="}}
        await world.write(ADMIN, "inline", _attachments=inline)
        assert await world.channels("inline") == {"r1"}
        assert world.upstream.leaf_reads == []


async def test_what_the_function_refuses_once_it_has_its_revision_is_hidden(tmp_path: Path) -> None:
    """No sane function does so; the document is stored then, as if somebody had written it past the gateway."""
    sync = "function (doc) { if (doc._rev) throw({forbidden: 'no'}); channel('a'); }"
    async with world_in(tmp_path, sync) as world:
        ann = await world.user("ann", ["a"])
        assert (await put(world, ADMIN, "doc", None, b"1")).routed
        assert await world.listed(ann) == {}
        assert world.database.status()["foreign_refused_count"] == 1


async def test_a_refused_upload_costs_nothing(world: World) -> None:
    ann = await world.user("ann", ["a"])
    rev = await world.write(ADMIN, "doc", channels=["a"], owner="bob")
    taken: list[bool] = []

    async def take() -> None:
        taken.append(True)

    with pytest.raises(RefusedBySyncFunction):
        await put(world, ann, "doc", rev, take, b"1")
    assert taken == []
    assert (await world.get(ADMIN, "doc"))["_rev"] == rev


@pytest.mark.parametrize(
    ("rev", "error"),
    [(None, Conflict), ("1-" + "0" * 32, MissingRevision), ("7-x", MissingRevision), ("hidden", Forbidden)],
)
async def test_the_revision_to_replace_must_be_a_readable_leaf(
    world: World, rev: str | None, error: type[GatewayError]
) -> None:
    ann = await world.user("ann", ["a"])
    await world.write(ADMIN, "doc", channels=["a"])
    if rev == "hidden":
        rev = await world.write(ADMIN, "hidden", channels=["b"])
        with pytest.raises(error):
            await put(world, ann, "hidden", rev, b"1")
        return
    with pytest.raises(error):
        await put(world, ann, "doc", rev, b"1")
    with pytest.raises(MissingRevision):
        await put(world, ann, "nothing", "1-" + "0" * 32, b"1")


async def test_a_losing_leaf_that_is_readable_can_be_given_an_attachment(world: World) -> None:
    ann = await world.user("ann", ["a"])
    await world.graft(ADMIN, "doc", "1-a", channels=["a"], v="losing")
    await world.graft(ADMIN, "doc", "3-c", "2-b", channels=["b"])
    outcome = await put(world, ann, "doc", "1-a", b"1")
    assert outcome.rev is not None
    doc = await world.get(ann, "doc", outcome.rev)
    assert (doc["v"], list(doc["_attachments"])) == ("losing", ["photo"])
    with pytest.raises(Forbidden):
        await world.get(ann, "doc", "3-c")


async def test_who_loses_the_right_while_he_sends_stores_nothing(world: World) -> None:
    ann = await world.user("ann", ["a"])
    rev = await world.write(ann, "doc", channels=["a"], needs="a")

    async def lose() -> None:
        await world.store.put_principal("user", "ann", PrincipalChange({"password": "$argon2$x"}, [], []))

    with pytest.raises(RefusedBySyncFunction):
        await put(world, ann, "doc", rev, LARGE, lose, LARGE)
    assert "_attachments" not in await world.get(ADMIN, "doc")


async def test_who_is_disabled_while_he_sends_stores_nothing(world: World) -> None:
    ann = await world.user("ann", ["a"])
    rev = await world.write(ann, "doc", channels=["a"])

    async def disable() -> None:
        change = PrincipalChange({"password": "$argon2$x", "disabled": True}, ["a"], [])
        await world.store.put_principal("user", "ann", change)

    with pytest.raises(Unauthorized):
        await put(world, ann, "doc", rev, LARGE, disable, LARGE)
    assert (await world.get(ADMIN, "doc"))["_rev"] == rev


async def test_nobody_waits_for_an_upload_and_it_is_a_conflict_then(world: World) -> None:
    ann = await world.user("ann", ["a"])
    rev = await world.write(ann, "doc", channels=["a"])
    later: list[str] = []

    async def write() -> None:
        later.append(await world.write(ADMIN, "doc", rev, channels=["a"], v=2))

    with pytest.raises(Conflict):
        await put(world, ann, "doc", rev, LARGE, write, LARGE)
    assert await world.listed(ann) == {"doc": later[0]}


async def test_a_direct_write_that_the_gateway_has_not_seen_is_a_conflict_too(world: World) -> None:
    ann = await world.user("ann", ["a"])
    rev = await world.write(ann, "doc", channels=["a"])
    world.upstream.feed_open.clear()

    async def write() -> None:
        await world.direct("doc", rev, channels=["b"], v=2)

    with pytest.raises(Conflict):
        await put(world, ann, "doc", rev, LARGE, write, LARGE)
    world.upstream.feed_open.set()


async def blobs(world: World) -> int:
    database = await world.server.server.open("notes", create=False)
    return await database.reading(lambda connection: int(connection.execute("SELECT count(*) FROM blob").fetchone()[0]))


async def test_a_body_that_breaks_off_leaves_nothing(world: World) -> None:
    ann = await world.user("ann", ["a"])
    rev = await world.write(ann, "doc", channels=["a"])

    async def hang_up() -> None:
        raise ConnectionResetError("the client is gone")

    for body in ((hang_up,), (LARGE, hang_up), (LARGE, LARGE, hang_up)):
        with pytest.raises(ConnectionResetError):
            await put(world, ann, "doc", rev, *body)
    assert await blobs(world) == 0
    assert (await world.get(ann, "doc"))["_rev"] == rev


@pytest.mark.parametrize("body", [(), (b"",), (b"1",), (b"", b"1", b""), (LARGE, b"1")])
async def test_any_pieces_make_the_body(world: World, body: tuple[bytes, ...]) -> None:
    outcome = await put(world, ADMIN, "doc", None, *body)
    assert outcome.routed
    assert await content(world, ADMIN, "doc") == b"".join(body)


async def test_an_upstream_that_breaks_off_at_the_end_leaves_the_outcome_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rev = await world.write(ADMIN, "doc", channels=["a"])
    request = world.upstream.inner.request

    async def losing(method: str, path: str, **more: Any) -> UpstreamResponse:
        answer = await request(method, path, **more)
        if method == "PUT":
            raise UpstreamUnreachable("the connection broke after everything was stored")
        return answer

    monkeypatch.setattr(world.upstream.inner, "request", losing)
    with pytest.raises(UpstreamOutcomeUnknown):
        await put(world, ADMIN, "doc", rev, LARGE, LARGE)
    await world.routed()
    assert (await world.get(ADMIN, "doc"))["_rev"].startswith("2-")


async def test_an_upstream_that_is_lost_before_the_end_has_stored_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rev = await world.write(ADMIN, "doc", channels=["a"])
    request = world.upstream.inner.request

    async def losing(method: str, path: str, *, body: Any = None, **more: Any) -> UpstreamResponse:
        if method == "PUT":
            await anext(body)
            raise UpstreamUnreachable("the connection broke in the middle")
        return await request(method, path, body=body, **more)

    monkeypatch.setattr(world.upstream.inner, "request", losing)
    stalled = asyncio.Event()
    with pytest.raises(UpstreamUnreachable):
        await put(world, ADMIN, "doc", rev, LARGE, LARGE, stalled.wait)
    assert (await world.get(ADMIN, "doc"))["_rev"] == rev


async def test_closing_gives_up_what_is_under_way(world: World) -> None:
    stuck, forever = asyncio.Event(), asyncio.Event()

    async def stall() -> None:
        stuck.set()
        await forever.wait()

    uploading = asyncio.create_task(put(world, ADMIN, "doc", None, LARGE, LARGE, stall))
    await stuck.wait()
    await world.database.close()
    with pytest.raises(asyncio.CancelledError):
        await uploading
    assert await blobs(world) == 0


async def test_several_attachments_may_be_added_at_once_and_one_wins(world: World) -> None:
    rev = await world.write(ADMIN, "doc", channels=["a"])
    results = await asyncio.gather(
        *(put(world, ADMIN, "doc", rev, LARGE, b"%d" % at) for at in range(4)), return_exceptions=True
    )
    stored = [result for result in results if isinstance(result, Outcome)]
    assert (len(stored), sum(isinstance(result, Conflict) for result in results)) == (1, 3)
    assert (await world.get(ADMIN, "doc"))["_rev"] == stored[0].rev


# Documents whose attachments follow them


async def follow(world: World, doc: dict[str, Any], *datas: bytes, new_edits: bool = True) -> Outcome:
    async def contents() -> AsyncIterator[AsyncIterator[bytes]]:
        for data in datas:
            yield pieces(*(data[at : at + 200_000] for at in range(0, len(data), 200_000)))

    return await world.database.write_related(ADMIN, doc, contents(), new_edits=new_edits)


def announced(data: bytes) -> dict[str, object]:
    return {"follows": True, "content_type": "image/x", "length": len(data)}


@pytest.mark.parametrize("datas", [(LARGE, b"2"), (b"1", b""), (b"", b"2"), (b"", b"")])
async def test_a_document_is_stored_with_what_follows_it(world: World, datas: tuple[bytes, bytes]) -> None:
    attachments = {"photo": announced(datas[0]), "inline": {"data": "YQ=="}, "last": announced(datas[1])}
    outcome = await follow(world, {"_id": "doc", "channels": ["a"], "_attachments": attachments}, *datas)
    assert outcome.routed
    doc = await world.get(ADMIN, "doc")
    assert {name: stub["length"] for name, stub in doc["_attachments"].items()} == {
        "photo": len(datas[0]),
        "inline": 1,
        "last": len(datas[1]),
    }
    assert await content(world, ADMIN, "doc") == datas[0]
    assert world.upstream.leaf_reads == []


async def test_a_replicated_document_keeps_its_revision_and_what_it_is_a_second_time_is_known(world: World) -> None:
    history = {"_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}}
    doc = {"_id": "doc", "channels": ["a"], **history, "_attachments": {"photo": announced(LARGE)}}
    for _ in range(2):
        outcome = await follow(world, doc, LARGE, new_edits=False)
        assert (outcome.rev, outcome.routed) == ("2-b", True)
    ann = await world.user("ann", ["a"])
    assert await content(world, ann, "doc") == LARGE


@pytest.mark.parametrize("datas", [(), (b"12",), (b"1234",), (b"123", b"4")])
async def test_what_follows_must_be_what_was_announced(world: World, datas: tuple[bytes, ...]) -> None:
    with pytest.raises(BadRequest):
        await follow(world, {"_id": "doc", "_attachments": {"photo": announced(b"123")}}, *datas)
    with pytest.raises(BadRequest):
        await follow(world, {"_id": "doc", "_attachments": {"photo": {"follows": True}}}, b"123")
    with pytest.raises(NotFound):
        await world.get(ADMIN, "doc")


async def test_an_upload_waits_for_its_routing(world: World) -> None:
    world.upstream.feed_open.clear()
    uploading = asyncio.create_task(put(world, ADMIN, "doc", None, b"1"))

    async def stored() -> bool:
        return (await world.upstream.inner.info()).doc_count == 1

    await until(stored)
    assert not uploading.done()
    world.upstream.feed_open.set()
    assert (await uploading).routed
