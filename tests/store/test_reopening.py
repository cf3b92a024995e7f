"""What a store still knows when it is opened again."""

from __future__ import annotations

from gateway.couch.upstream import Identity
from gateway.store.protocol import DatabaseStore, Index
from tests.store.conftest import Opener
from tests.store.telling import document, entries_by_name, leaf, put_role, put_user, spans_by_name, tell


def everything(index: Index) -> object:
    rows = index.find(["d", "e"])
    numbers = sorted(row.document for row in rows.values())
    return (
        index.state,
        index.access("ann"),
        rows,
        index.leaves(numbers, superseded=True),
        entries_by_name(index, "d"),
        spans_by_name(index, "d"),
        (index.star, index.public),
    )


async def fill(db: DatabaseStore) -> None:
    await put_role(db, "r", "B")
    await put_user(db, "ann", "A", "r")
    await put_user(db, "ann", "C", "r")
    await tell(db, document("d", leaf("1-a", "A", grants=[("ann", "X")])), document("e", leaf("1-e", deleted=True)))
    await tell(db, document("d", leaf("2-a", "B", after=["1-a"], expiry=7.5), leaf("1-b", "C")))
    await db.remember(identity=Identity("uuid", "1"), purge_seq="3")
    await db.want_sync("function () {}", "config", 1.0)
    await db.apply([], upstream_since="77-x", now=1.0)
    await db.local_put("user:ann", "c", None, {"a": 1})


async def test_everything_is_there_when_the_store_is_opened_again(open_store: Opener) -> None:
    store = await open_store()
    db = await store.database("notes")
    await fill(db)
    before = await db.read(everything)
    await store.close()
    store = await open_store()
    db = await store.database("notes")
    assert await db.read(everything) == before
    assert await db.local_get("user:ann", "c") == ("0-1", {"a": 1})
    assert [name for name, _ in await db.principals("user")] == ["ann"]
    await store.close()


async def test_sequences_go_on_from_the_last_and_the_epoch_stays(open_store: Opener) -> None:
    """A16: positions that clients have stay good."""
    store = await open_store()
    db = await store.database("notes")
    last, epoch = await tell(db, document("d", leaf("1-a"))), (await db.state()).epoch
    await store.close()
    store = await open_store()
    db = await store.database("notes")
    assert (await db.state()).epoch == epoch
    assert await tell(db, document("d", leaf("2-a", after=["1-a"]))) == last + 1
    await store.close()


async def test_two_openings_of_one_database_are_one_database(open_store: Opener) -> None:
    store = await open_store()
    one, same = await store.database("notes"), await store.database("notes")
    await put_user(one, "ann", "A")
    assert await same.principal("user", "ann") == await one.principal("user", "ann")
    assert await tell(same, document("d", leaf("1-a"))) == 2
    await store.close()
