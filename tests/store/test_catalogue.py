"""Databases that were made by request, and the end of a database: at once for everybody, its rows in pieces."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway import limits
from gateway.errors import UnknownDatabase
from gateway.model.routing import Routing
from gateway.store.protocol import DatabaseStore, MetadataStore, PrincipalChange
from gateway.store.resync_protocol import Computed, NewRouting, ResyncJob
from gateway.store.sqlite import SqliteStore
from tests.store.conftest import Opener
from tests.store.telling import document, leaf, put_role, put_user, tell


async def fill(db: DatabaseStore) -> None:
    """Something in every table."""
    await put_role(db, "r", "B")
    await put_user(db, "ann", "A", "r")
    for at in range(7):
        await tell(db, document(f"d{at}", leaf("1-a", "A", grants=[("ann", "X")]), leaf("1-b", "B")))
    await db.set_security({"members": {"names": ["bob"]}})
    await db.want_sync("function () {}", "config", 1.0)
    await db.note_own([(f"d{at}", "digest") for at in range(7)], 1.0)
    await db.note_not_imported({f"f{at}": {"1-f": "a rule"} for at in range(7)}, 1.0)
    await db.resync.begin(ResyncJob(None, "digest", "function () {}", True, "running", 0, False, 1.0))
    found = await db.resync.batch(0, 100)
    said = [NewRouting("1-b", Routing(frozenset("C"), frozenset({("bob", "Y")})), None, moved=True)]
    changed = [Computed(one.document, one.seq, said, True, "no", "error", frozenset("C")) for one in found]
    await db.resync.put(changed, found[-1].seq)
    await db.resync.settle(1.0)
    for at in range(7):
        await db.local_put("user:ann", f"c{at}", None, {"a": at})


async def swept(store: MetadataStore) -> int:
    pieces = 0
    while await store.sweep():
        pieces += 1
    return pieces


async def test_how_far_the_making_of_a_database_came_is_kept(open_store: Opener) -> None:
    store = await open_store()
    assert await store.created() == {}
    await store.note_created("b", "creating")
    await store.note_created("a", "serving")
    await store.note_created("b", "deleting")
    await store.note_created("c", "creating")
    await store.note_created("c", None)
    await store.close()
    store = await open_store()
    assert await store.created() == {"a": "serving", "b": "deleting"}
    await store.close()


async def test_a_store_keeps_its_identity_and_no_two_have_the_same(open_store: Opener, tmp_path: Path) -> None:
    store = await open_store()
    identity = await store.uuid()
    assert await store.uuid() == identity
    await store.close()
    store = await open_store()
    assert await store.uuid() == identity
    await store.close()
    other = SqliteStore(tmp_path / "other.db")
    assert await other.uuid() != identity
    await other.close()


async def test_a_database_of_the_same_name_has_nothing_of_the_dropped_one(store: MetadataStore) -> None:
    old = await store.database("notes")
    await fill(old)
    await store.note_created("notes", "deleting")
    epoch = (await old.state()).epoch
    await store.drop("notes")
    assert await store.created() == {}
    new = await store.database("notes")
    state = await new.state()
    assert (state.last_seq, state.doc_count, state.epoch != epoch) == (0, 0, True)
    assert await new.principal("user", "ann") is None
    assert await new.local_get("user:ann", "c0") is None
    assert await new.recorded_ids("", 10) == []
    await fill(new)
    await swept(store)
    assert len(await new.recorded_ids("", 10)) == 7
    assert await new.local_get("user:ann", "c6") is not None


async def test_nothing_is_written_to_a_database_after_it_was_dropped(store: MetadataStore) -> None:
    old = await store.database("notes")
    await fill(old)
    await store.drop("notes")
    await swept(store)
    await store.database("other")  # which may be given the number of the old one
    for call in (
        lambda: old.local_put("user:ann", "late", None, {}),
        lambda: old.put_principal("user", "late", PrincipalChange()),
        lambda: old.apply([], upstream_since="7", now=1.0),
        old.state,
    ):
        with pytest.raises(UnknownDatabase):
            await call()


async def test_sweeping_leaves_no_row_and_touches_no_other_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SWEEP_ROWS_COUNT", 3)
    path = tmp_path / "metadata.db"
    store = SqliteStore(path)
    await fill(await store.database("kept"))
    before = rows(path)
    elsewhere = {"session", "session_login", "server_user", "server_fact", "created_database"}
    assert {table for table, count in before.items() if not count} <= elsewhere, "the others have something to sweep"
    await fill(await store.database("notes"))
    assert rows(path)["leaf"] == 2 * before["leaf"]
    await store.drop("notes")
    await store.close()
    store = SqliteStore(path)  # as after a crash: it goes on where it was
    assert await swept(store) > 5, "in pieces"
    assert rows(path) == before
    assert len(await (await store.database("kept")).recorded_ids("", 10)) == 7
    assert not await store.sweep()
    await store.close()


def rows(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for (table,) in found}


async def test_every_table_belongs_to_a_database_or_to_the_server(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    await SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        columns = {
            table: {row[1] for row in connection.execute(f"PRAGMA table_info({table})")} for table in sorted(tables)
        }
    server = {table for table, its in columns.items() if not its & {"database", "document", "principal"}}
    assert server == {"database", "created_database", "server_fact", "server_user", "session"}, (
        "what is left behind by a dropped database"
    )
