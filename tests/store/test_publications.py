"""What committed transactions tell, and that a read sees one moment."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gateway.errors import NotFound
from gateway.store.protocol import DatabaseStore, Index, MetadataStore, PrincipalChange, Publication
from tests.store.telling import document, known, leaf, put_role, put_user, tell


@pytest.fixture
def published(store: MetadataStore) -> list[Publication]:
    found: list[Publication] = []
    store.subscribe(found.append)
    return found


async def channel_ids(db: DatabaseStore, *names: str) -> frozenset[int]:
    return frozenset((await db.read(lambda index: index.channel_ids(names))).values())


async def test_a_batch_is_published_once_with_an_entry_for_each_document_that_changed(
    db: DatabaseStore, published: list[Publication]
) -> None:
    await tell(db, document("k", leaf("1-k", "A")))
    published.clear()
    await tell(
        db,
        document("a", leaf("1-a", "A")),
        document("k", known("1-k")),
        document("b", leaf("1-b", "B", deleted=True), leaf("1-c", "C", deleted=True)),
    )
    (one,) = published
    assert (one.database, one.first_seq, one.last_seq, one.users) == ("notes", 2, 3, frozenset())
    first, second = one.entries
    assert (first.seq, first.id, first.winner, first.single) == (2, "a", "1-a", True)
    assert (first.live, first.gone) == (await channel_ids(db, "A", "*"), frozenset())
    assert (second.seq, second.id, second.winner, second.single) == (3, "b", "1-c", False)
    assert (second.live, second.gone) == (frozenset(), await channel_ids(db, "C", "*"))
    rows = await db.read(lambda index: index.find(["a", "b"]))
    assert [rows["a"].document, rows["b"].document] == [first.document, second.document]


async def test_an_entry_tells_what_the_document_left(db: DatabaseStore, published: list[Publication]) -> None:
    await tell(db, document("d", leaf("1-a", "A B")))
    await tell(db, document("d", leaf("2-a", "B", after=["1-a"])))
    await tell(db, document("d", purged=True))
    moved, purged = published[1].entries[0], published[2].entries[0]
    assert (moved.live, moved.gone) == (await channel_ids(db, "B", "*"), await channel_ids(db, "A"))
    assert (purged.winner, purged.single, purged.live, purged.gone) == (
        None,
        False,
        frozenset(),
        await channel_ids(db, "B", "*"),
    )


async def test_a_document_that_was_purged_once_is_never_single_again(
    db: DatabaseStore, published: list[Publication]
) -> None:
    await tell(db, document("d", leaf("1-a")))
    await tell(db, document("d", purged=True))
    await tell(db, document("d", leaf("1-b")))
    await tell(db, document("d", leaf("2-b", after=["1-b"])))
    assert [one.entries[0].single for one in published] == [True, False, False, False]


async def test_what_takes_no_sequence_is_not_published(db: DatabaseStore, published: list[Publication]) -> None:
    await put_user(db, "ann", "A")
    await tell(db, document("d", leaf("1-a")))
    published.clear()
    await put_user(db, "ann", "A")
    await tell(db, document("d", known("1-a")))
    await db.apply([], upstream_since="9", now=1.0)
    await db.remember(purge_seq="3")
    await db.local_put("o", "c", None, {})
    await db.forget_superseded(1e12)
    with pytest.raises(NotFound):
        await db.delete_principal("user", "bob")
    assert published == []


async def test_users_are_named_whose_access_or_properties_changed(
    db: DatabaseStore, published: list[Publication]
) -> None:
    async def users() -> frozenset[str]:
        (one,) = published
        published.clear()
        return one.users

    await put_user(db, "ann", "A")
    assert await users() == {"ann"}
    await db.put_principal("user", "ann", PrincipalChange({"disabled": True}))
    assert await users() == {"ann"}
    await tell(db, document("g", leaf("1-a", grants=[("ann", "B"), ("bob", "B")])))
    assert await users() == {"ann", "bob"}
    await tell(db, document("g", leaf("2-a", after=["1-a"], grants=[("ann", "B"), ("bob", "C")])))
    assert await users() == {"bob"}
    await tell(db, document("h", leaf("1-a", grants=[("ann", "B")])))
    assert await users() == frozenset(), "the second source of what ann has already"
    await db.delete_principal("user", "ann")
    assert await users() == {"ann"}


async def test_members_are_named_when_their_role_changes(db: DatabaseStore, published: list[Publication]) -> None:
    async def users() -> frozenset[str]:
        (one,) = published
        published.clear()
        return one.users

    await put_user(db, "ann", roles="r")
    await put_user(db, "bob")
    await put_user(db, "eve", roles="s")
    published.clear()
    await put_role(db, "r", "A")
    assert await users() == {"ann"}
    await tell(db, document("g", leaf("1-a", roles=[("bob", "r")])))
    assert await users() == {"bob"}
    await tell(db, document("h", leaf("1-a", grants=[("role:r", "B")])))
    assert await users() == {"ann", "bob"}
    await tell(db, document("g", leaf("2-a", after=["1-a"])))
    assert await users() == {"bob"}
    await put_role(db, "r", "A C")
    assert await users() == {"ann"}
    await db.delete_principal("role", "r")
    assert await users() == {"ann"}


async def test_publications_come_in_the_order_of_commits_and_before_the_writer_goes_on(
    db: DatabaseStore, published: list[Publication]
) -> None:
    async def write(at: int) -> None:
        await put_user(db, f"u{at}", "A")
        assert any(f"u{at}" in one.users for one in published), "the writer went on before its publication came"
        await tell(db, document(f"d{at}", leaf("1-a")), document(f"e{at}", leaf("1-a")))
        assert any(entry.id == f"e{at}" for one in published for entry in one.entries)

    await asyncio.gather(*(write(at) for at in range(10)))
    seqs = [seq for one in published for seq in range(one.first_seq, one.last_seq + 1)]
    assert seqs == list(range(1, 31))
    assert len(published) == 20


async def test_publications_name_their_database(store: MetadataStore, published: list[Publication]) -> None:
    one, two = await store.database("one"), await store.database("two")
    await put_user(one, "ann")
    await put_user(two, "ann")
    assert [(publication.database, publication.first_seq) for publication in published] == [("one", 1), ("two", 1)]


async def test_every_subscriber_is_told(store: MetadataStore, published: list[Publication], db: DatabaseStore) -> None:
    second: list[Publication] = []
    store.subscribe(second.append)
    await put_user(db, "ann")
    assert second == published
    assert len(second) == 1


async def test_a_caller_who_gives_up_does_not_undo_the_write(db: DatabaseStore, published: list[Publication]) -> None:
    task = asyncio.ensure_future(put_user(db, "ann", "A"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await put_user(db, "bob")
    assert [one.users for one in published] == [{"ann"}, {"bob"}]


async def test_a_read_sees_one_moment_while_writes_go_on(db: DatabaseStore) -> None:
    await put_user(db, "ann", "A")
    await tell(db, document("d", leaf("1-a", "A")))
    reading, written = threading.Event(), threading.Event()

    def look(index: Index) -> tuple[object, ...]:
        access = index.access("ann")
        channels = index.channel_ids(["A", "B"])
        rows = index.find(["d", "e"])
        live = index.live([channels["A"]], 0, 1_000, 10)
        return index.state, access, channels, rows, live, index.count_live_by_id([index.star])

    def read(index: Index) -> tuple[object, object]:
        before = look(index)
        reading.set()
        assert written.wait(30)
        return before, look(index)

    task = asyncio.ensure_future(db.read(read))
    assert await asyncio.to_thread(reading.wait, 30)
    await put_user(db, "ann", "B")
    await tell(db, document("d", leaf("2-a", "B", after=["1-a"])), document("e", leaf("1-a", "A")))
    during = await db.read(look)
    written.set()
    before, after = await task
    assert before == after
    assert during != before
    assert await db.read(look) == during


async def test_a_reader_that_fails_fails_alone(db: DatabaseStore) -> None:
    def fail(index: Index) -> None:
        raise ZeroDivisionError

    for _ in range(10):
        with pytest.raises(ZeroDivisionError):
            await db.read(fail)
    assert await tell(db, document("d", leaf("1-a"))) == 1
    assert await db.read(lambda index: index.state.last_seq) == 1
