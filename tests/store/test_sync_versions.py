"""The versions of a database's sync function in the store."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway import limits
from gateway.errors import NotFound
from gateway.store import connections
from gateway.store.connections import migrations
from gateway.store.protocol import DatabaseStore, MetadataStore, SyncVersion
from gateway.store.sqlite import SqliteDatabase, SqliteStore
from gateway.store.versions import set_in_force
from tests.store.conftest import Opener
from tests.store.telling import document, leaf, tell

ONE, TWO, THREE = (f"function () {{ channel('{name}') }}" for name in ("one", "two", "three"))


async def numbers(db: DatabaseStore) -> list[int]:
    return [version.number for version in await db.sync_versions()]


async def decided(db: DatabaseStore) -> tuple[int, int | None]:
    """(in force, wanted)"""
    state = await db.state()
    return state.sync_version, state.sync_wanted


async def bring_in_force(db: DatabaseStore, number: int) -> None:
    assert isinstance(db, SqliteDatabase)
    await db._transaction(lambda tx, sql: set_in_force(tx, number))


async def test_the_first_version_is_in_force_at_once(db: DatabaseStore) -> None:
    assert await decided(db) == (0, None)
    version = await db.want_sync(ONE, "config", 7.5)
    assert version == SyncVersion(1, hashlib.sha256(ONE.encode()).hexdigest(), ONE, 7.5, "config")
    assert await decided(db) == (1, None)
    assert await db.sync_versions() == [version] == [await db.sync_version(1)]


async def test_another_one_is_in_force_at_once_while_nothing_was_routed(db: DatabaseStore) -> None:
    await db.want_sync(ONE, "config", 1.0)
    await db.want_sync(TWO, "api", 2.0)
    assert await decided(db) == (2, None)
    assert [(one.number, one.origin) for one in await db.sync_versions()] == [(1, "config"), (2, "api")]


@pytest.mark.parametrize("kind", ["alive", "deleted", "purged"])
async def test_once_a_document_was_routed_another_one_is_only_wanted(db: DatabaseStore, kind: str) -> None:
    await db.want_sync(ONE, "config", 1.0)
    await tell(db, document("d", leaf("1-a", deleted=kind == "deleted")))
    if kind == "purged":
        await tell(db, document("d", purged=True))
    assert (await db.want_sync(TWO, "api", 2.0)).number == 2
    assert await decided(db) == (1, 2)
    assert (await db.want_sync(THREE, "api", 3.0)).number == 3
    assert await decided(db) == (1, 3)


async def test_nothing_is_wanted_any_more_when_the_source_in_force_is_wanted_again(db: DatabaseStore) -> None:
    await db.want_sync(ONE, "config", 1.0)
    await tell(db, document("d", leaf("1-a")))
    await db.want_sync(TWO, "api", 2.0)
    assert await db.want_sync(ONE, "api", 3.0) == SyncVersion(
        1, hashlib.sha256(ONE.encode()).hexdigest(), ONE, 1.0, "config"
    )
    assert await decided(db) == (1, None)
    assert await numbers(db) == [1, 2]


async def test_a_source_that_is_known_keeps_its_number(db: DatabaseStore) -> None:
    await tell(db, document("d", leaf("1-a")))
    for source in (ONE, TWO, ONE, THREE, TWO):
        await db.want_sync(source, "api", 1.0)
    assert await decided(db) == (1, 2)
    assert await numbers(db) == [1, 2, 3]


async def test_what_is_brought_in_force_is_not_wanted_any_more(db: DatabaseStore) -> None:
    await tell(db, document("d", leaf("1-a")))
    for source in (ONE, TWO, THREE):
        await db.want_sync(source, "api", 1.0)
    await bring_in_force(db, 3)
    assert await decided(db) == (3, None)
    await db.want_sync(ONE, "api", 1.0)
    await bring_in_force(db, 2)
    assert await decided(db) == (2, 1), "another one is wanted since"
    for number in (0, 4):
        with pytest.raises(NotFound, match=f"there is no version {number} "):
            await bring_in_force(db, number)
        with pytest.raises(NotFound):
            await db.sync_version(number)
    assert await decided(db) == (2, 1)


async def test_a_function_takes_no_sequence(db: DatabaseStore) -> None:
    last = await tell(db, document("d", leaf("1-a")))
    await db.want_sync(ONE, "config", 1.0)
    await db.want_sync(TWO, "api", 1.0)
    await bring_in_force(db, 2)
    assert (await db.state()).last_seq == last


async def test_the_files_function_is_wanted_only_when_the_file_changed(db: DatabaseStore) -> None:
    first = await db.follow_sync_file(ONE, 1.0)
    assert first is not None
    assert (first.number, first.origin) == (1, "config")
    await tell(db, document("d", leaf("1-a")))
    await db.want_sync(TWO, "api", 2.0)
    assert await db.follow_sync_file(ONE, 3.0) is None, "a restart with the same file undoes nothing"
    assert await decided(db) == (1, 2)
    third = await db.follow_sync_file(THREE, 4.0)
    assert third is not None
    assert await decided(db) == (1, 3)
    await bring_in_force(db, 2)
    assert await db.follow_sync_file(THREE, 5.0) is None
    assert await decided(db) == (2, 3)
    again = await db.follow_sync_file(ONE, 6.0)
    assert again is not None
    assert (again.number, await decided(db)) == (1, (2, 1))


async def test_the_oldest_versions_go_but_for_those_in_force_and_wanted(
    db: DatabaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SYNC_VERSIONS_COUNT", 4)
    await tell(db, document("d", leaf("1-a")))
    for at in range(1, 5):
        await db.want_sync(f"function () {{ /* {at} */ }}", "api", float(at))
    assert await numbers(db) == [1, 2, 3, 4]
    await db.want_sync("function () { /* 5 */ }", "api", 5.0)
    assert await numbers(db) == [1, 3, 4, 5], "the first is in force"
    await db.want_sync("function () { /* 3 */ }", "api", 6.0)
    await db.want_sync("function () { /* 6 */ }", "api", 7.0)
    assert await numbers(db) == [1, 4, 5, 6]
    assert (await db.want_sync("function () { /* 2 */ }", "api", 8.0)).number == 7, "no number is given twice"


async def test_large_sources_go_before_there_are_too_many(db: DatabaseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SYNC_VERSIONS_BYTES", 1_000)
    await tell(db, document("d", leaf("1-a")))
    await db.want_sync("é" * 200, "api", 1.0)
    for at in range(5):
        await db.want_sync(f"{at}\0" + "é" * 100, "api", 1.0)
    assert await numbers(db) == [1, 5, 6], "400 bytes in force, and two of 202"
    assert (await db.sync_version(6)).source == "4\0" + "é" * 100


async def test_each_database_counts_for_itself_and_a_dropped_one_leaves_nothing(store: MetadataStore) -> None:
    notes, other = await store.database("notes"), await store.database("other")
    await notes.want_sync(ONE, "config", 1.0)
    await other.want_sync(TWO, "config", 1.0)
    await notes.want_sync(TWO, "config", 1.0)
    assert (await numbers(notes), await numbers(other)) == ([1, 2], [1])
    await store.drop("notes")
    while await store.sweep():
        pass
    again = await store.database("notes")
    assert await numbers(again) == []
    assert await decided(again) == (0, None)
    assert await numbers(other) == [1]


async def test_versions_are_there_when_the_store_is_opened_again(open_store: Opener) -> None:
    store = await open_store()
    db = await store.database("notes")
    await tell(db, document("d", leaf("1-a")))
    await db.follow_sync_file(ONE, 1.0)
    await db.want_sync(TWO, "api", 2.0)
    kept = await db.sync_versions()
    await store.close()
    store = await open_store()
    db = await store.database("notes")
    assert await db.sync_versions() == kept
    assert await decided(db) == (1, 2)
    assert await db.follow_sync_file(ONE, 3.0) is None
    await store.close()


async def test_functions_of_an_older_store_become_its_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metadata.db"
    known = migrations()
    monkeypatch.setattr(connections, "migrations", lambda: known[:4])
    connections.connect(path).close()
    with closing(connections.connect(path)) as old:
        connections.migrate(old)
        digests = [hashlib.sha256(source.encode()).hexdigest() for source in (ONE, TWO, THREE)]
        old.execute("INSERT INTO database (name, epoch, sync_digest) VALUES ('notes', 'e', ?)", (digests[1],))
        old.execute("INSERT INTO database (name, epoch) VALUES ('new', 'e')")
        names = [(database, name) for database in (1, 2) for name in ("!", "*")]
        old.executemany("INSERT INTO channel (database, name) VALUES (?, ?)", names)
        rows = zip(digests, (ONE, TWO, THREE), (5.0, 3.5, 9.0), strict=True)
        old.executemany("INSERT INTO sync_function VALUES (1, ?, ?, 1, ?)", rows)
    monkeypatch.setattr(connections, "migrations", lambda: known)
    store = SqliteStore(path)
    notes, new = await store.database("notes"), await store.database("new")
    assert [(one.number, one.source, one.made_at) for one in await notes.sync_versions()] == [
        (1, TWO, 3.5),
        (2, ONE, 5.0),
        (3, THREE, 9.0),
    ]
    assert await decided(notes) == (1, None)
    assert await notes.follow_sync_file(TWO, 10.0) is None, "the file is as it was"
    assert await decided(new) == (0, None)
    assert await numbers(new) == []
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sync_function'").fetchall()
