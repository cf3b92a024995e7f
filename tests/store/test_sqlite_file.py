"""The file of the SQLite store: how it is made, what is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.errors import StoreUnavailable
from gateway.model.apply import Found
from gateway.model.leaves import LeafRouting
from gateway.model.routing import Routing
from gateway.store import connections
from gateway.store.connections import StoreError, connect, migrate, migrations
from gateway.store.protocol import FoundDocument
from gateway.store.sqlite import SqliteStore


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


async def test_an_empty_file_is_brought_to_the_newest_schema(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "metadata.db"
    await SqliteStore(path).close()
    assert version(path) == migrations()[-1][0]
    assert {"database", "leaf", "channel_entry", "doc_span", "access", "life"} <= tables(path)
    await SqliteStore(path).close()


def test_migrations_are_numbered_from_one_without_gaps() -> None:
    assert [number for number, _ in migrations()] == list(range(1, len(migrations()) + 1))


async def test_a_store_of_an_older_version_is_migrated_and_keeps_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metadata.db"
    store = SqliteStore(path)
    await (await store.database("notes")).local_put("o", "c", None, {"a": 1})
    await store.close()
    known = migrations()
    newer = [(known[-1][0] + 1, "CREATE TABLE added (a);"), (known[-1][0] + 2, "CREATE TABLE more (a);")]
    monkeypatch.setattr(connections, "migrations", lambda: [*known, *newer])
    store = SqliteStore(path)
    assert await (await store.database("notes")).local_get("o", "c") == ("0-1", {"a": 1})
    await store.close()
    assert version(path) == newer[-1][0]
    assert {"added", "more"} <= tables(path)


_OF_VERSION_4 = """
INSERT INTO database (id, name, last_seq, epoch) VALUES (1, 'notes', 2, 'e');
INSERT INTO channel (id, database, name) VALUES (1, 1, '!'), (2, 1, '*'), (3, 1, 'A');
INSERT INTO principal (id, database, kind, name, properties) VALUES (1, 1, 'user', 'ann', '{}');
INSERT INTO life (principal, from_seq) VALUES (1, 1);
INSERT INTO document (id, database, doc, seq, winner, deleted, leaves) VALUES (1, 1, 'g', 2, '1-a', 0, 1);
INSERT INTO leaf (document, rev, deleted, seq, channels, grants, roles, expiry, inherited, ancestors)
    VALUES (1, '1-a', 0, 2, '[]', '[[1, 3]]', '[]', 50.0, '[]', '[]');
INSERT INTO grants (principal, kind, target, source, from_seq) VALUES (1, 'channel', 3, 'doc:1', 2);
INSERT INTO access (principal, kind, target, from_seq) VALUES (1, 'channel', 3, 2);
"""


async def test_grants_and_documents_of_a_store_that_knew_no_ends_can_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metadata.db"
    known = migrations()
    with monkeypatch.context() as patch, closing(connect(path)) as connection:
        patch.setattr(connections, "migrations", lambda: [one for one in known if one[0] < 5])
        migrate(connection)
        connection.executescript(_OF_VERSION_4)
    store = SqliteStore(path)
    notes = await store.database("notes")
    assert [(one.expiry, one.id, one.rev) for one in await notes.expiring(None, 10)] == [(50.0, "g", "1-a")]
    recorded = (await notes.recorded(["g"]))["g"].leaves["1-a"].routing
    assert recorded == LeafRouting(grants=frozenset({(1, 3)}), expiry=50.0)
    limited = Routing(grants=frozenset({("ann", "A")}), grant_ends=frozenset({("ann", "A", 90.0)}))
    await notes.apply(
        [FoundDocument("g", [(Found("2-a", False, ("1-a",), None), limited, None)])], upstream_since=None, now=1.0
    )
    assert await notes.end_grants(90.0, 10) == 1
    ann = await notes.principal("user", "ann")
    assert ann is not None
    assert "A" not in ann.channels
    await store.close()


async def test_a_full_disk_is_an_answer_and_loses_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "metadata.db")
    notes = await store.database("notes")
    await notes.local_put("o", "c", None, {"a": 1})
    pages = await store._connections.write(lambda sql: int(sql.execute("PRAGMA page_count").fetchone()[0]))
    await store._connections.write(lambda sql: sql.execute(f"PRAGMA max_page_count = {pages}"))
    with pytest.raises(StoreUnavailable, match="database or disk is full"):
        await notes.local_put("o", "large", None, {"a": "x" * 500_000})
    assert await notes.local_get("o", "c") == ("0-1", {"a": 1})
    await store._connections.write(lambda sql: sql.execute("PRAGMA max_page_count = 1000000"))
    assert await notes.local_put("o", "large", None, {"a": "x" * 500_000}) == "0-1"
    await store.close()


async def test_a_wrong_statement_is_a_fault_of_ours_and_no_full_disk(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "metadata.db")
    await store.database("notes")
    with pytest.raises(sqlite3.IntegrityError):
        await store._connections.write(lambda sql: sql.execute("INSERT INTO database (name) VALUES (NULL)"))
    await store.close()


async def test_users_of_a_store_that_knew_no_sessions_can_have_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metadata.db"
    known = migrations()
    monkeypatch.setattr(connections, "migrations", lambda: known[:1])
    with closing(connect(path)) as connection:
        migrate(connection)
        connection.executescript(
            "INSERT INTO database (name, epoch) VALUES ('notes', 'e');"
            "INSERT INTO channel (database, name) VALUES (1, '!'), (1, '*');"
            "INSERT INTO principal (database, kind, name, properties, seq) VALUES (1, 'user', 'ann', '{}', 7);"
        )
    monkeypatch.undo()
    store = SqliteStore(path)
    found = await (await store.database("notes")).principal("user", "ann")
    assert found is not None
    assert found.login_seq == 7
    await store.close()


async def test_a_migration_that_fails_leaves_the_version_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metadata.db"
    known = migrations()
    last = known[-1][0]
    broken = [(last + 1, "CREATE TABLE good (a);"), (last + 2, "CREATE TABLE half (a); SELECT absent FROM nowhere;")]
    with monkeypatch.context() as patch:
        patch.setattr(connections, "migrations", lambda: [*known, *broken])
        with pytest.raises(StoreError, match="nowhere"):
            SqliteStore(path)
    assert version(path) == last + 1
    assert "good" in tables(path)
    assert "half" not in tables(path)


async def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    await SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1000")
    with pytest.raises(StoreError, match=r"metadata\.db.*newer version.*1000"):
        SqliteStore(path)
    assert version(path) == 1000


def test_a_database_of_another_application_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    with pytest.raises(StoreError, match=r"other\.db.*another application"):
        SqliteStore(path)
    assert tables(path) == {"theirs"}


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("this is a text, and long enough to be looked at as the header of a database file" * 20)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"text\.db.*not a database"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=tmp_path.name):
        SqliteStore(tmp_path)


def test_a_file_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"metadata\.db"):
        SqliteStore(tmp_path / "file" / "metadata.db")


def test_a_commit_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "metadata.db")) as connection:
        migrate(connection)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_reading_connection_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    with closing(connect(path)) as writing, closing(connect(path, readonly=True)) as reading:
        migrate(writing)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reading.execute("INSERT INTO database (name, epoch) VALUES ('x', 'y')")
