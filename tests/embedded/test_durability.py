from __future__ import annotations

import asyncio
import sqlite3
import sys
from pathlib import Path

import pytest

from gateway.couch.upstream import RevisionRef
from gateway.embedded import EmbeddedServer
from gateway.errors import UpstreamUnreachable


async def acknowledged_until_killed(directory: Path, count: int) -> dict[str, str]:
    """Run the writing process, kill -9 it after `count` acknowledged rounds; id → rev of all it acknowledged."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.embedded.writing_process", str(directory), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    lines = [await asyncio.wait_for(process.stdout.readline(), 30) for _ in range(count)]
    process.kill()
    lines += (await process.stdout.read()).splitlines(keepends=True)
    await process.wait()
    revs: dict[str, str] = {}
    for line in lines:
        if line.endswith(b"\n"):
            number, *some = line.decode().split()
            revs |= {f"{number}-{part}": rev for part, rev in enumerate(some)}
    return revs


async def test_every_acknowledged_write_is_there_after_kill_9(tmp_path: Path) -> None:
    known: dict[str, str] = {}
    for turn in (1, 2):
        directory = tmp_path / str(turn)
        known = await acknowledged_until_killed(directory, 60 * turn)
        assert len(known) >= 180
        server = EmbeddedServer(directory)
        database = await server.open("db", create=False)
        found = await database.read([RevisionRef(id, rev) for id, rev in known.items()])
        assert [doc["_rev"] if doc else None for doc in found] == list(known.values())
        info = await database.info()
        rows = await database.reading(
            lambda connection: connection.execute("SELECT count(*), max(seq) FROM doc WHERE deleted = 0").fetchone()
        )
        assert (info.doc_count, info.update_seq.partition("-")[0]) == (rows[0], str(rows[1]))
        (result,) = await database.write([{"_id": "after"}], new_edits=True)
        assert result.rev is not None
        await server.close()
        with sqlite3.connect(next(directory.glob("db.*.sqlite"))) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


async def test_documents_settings_and_identity_survive_a_restart(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    database = await server.open("a/b", create=True)
    identity = await database.identity()
    (result,) = await database.write([{"_id": "a", "n": 1}], new_edits=True)
    await database.write([{"_id": "_local/x", "n": 2}], new_edits=True)
    await database.set_setting("security", {"members": {"names": ["me"]}})
    update_seq = (await database.info()).update_seq
    await server.close()

    again = EmbeddedServer(tmp_path)
    database = await again.open("a/b", create=False)
    assert await database.identity() == identity
    assert await database.setting("security") == {"members": {"names": ["me"]}}
    assert (await database.local("_local/x"))["n"] == 2
    assert (await database.info()).update_seq == update_seq
    assert result.rev is not None
    assert (await database.read([RevisionRef("a", result.rev)]))[0] is not None
    await again.close()


async def test_a_directory_is_used_by_one_server_at_a_time(tmp_path: Path) -> None:
    first = EmbeddedServer(tmp_path)
    await first.check()
    second = EmbeddedServer(tmp_path)
    with pytest.raises(UpstreamUnreachable, match="another process"):
        await second.check()
    await first.close()
    await second.check()
    await second.close()


async def test_a_closed_server_refuses_instead_of_hanging(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    database = await server.open("db", create=True)
    await server.close()
    await server.close()
    with pytest.raises(UpstreamUnreachable):
        await database.write([{"_id": "a"}], new_edits=True)
    with pytest.raises(UpstreamUnreachable):
        await server.open("db", create=True)


async def test_writes_that_wait_when_the_server_closes_are_stored_or_refused(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    database = await server.open("db", create=True)
    writes = [asyncio.ensure_future(database.write([{"_id": f"d{n}"}], new_edits=True)) for n in range(50)]
    await asyncio.sleep(0)
    await server.close()
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    stored = {outcome[0].id for outcome in outcomes if isinstance(outcome, list)}
    assert all(isinstance(outcome, (list, UpstreamUnreachable)) for outcome in outcomes)

    again = EmbeddedServer(tmp_path)
    database = await again.open("db", create=False)
    leaves = await database.leaves([f"d{n}" for n in range(50)])
    assert {leaf[0]["_id"] for leaf in leaves if leaf} >= stored
    await again.close()


async def test_a_failing_write_undoes_only_its_own_part_of_a_shared_commit(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    database = await server.open("db", create=True)

    def broken(transaction: object) -> None:
        raise sqlite3.OperationalError("disk trouble")

    outcomes = await asyncio.gather(
        database.write([{"_id": "a"}], new_edits=True),
        database.writing(broken),
        database.write([{"_id": "b"}], new_edits=True),
        return_exceptions=True,
    )
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, True, False]
    assert [bool(leaves) for leaves in await database.leaves(["a", "b"])] == [True, True]
    await server.close()
