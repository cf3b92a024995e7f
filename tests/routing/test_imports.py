"""Rules of import: what becomes of documents that are written straight to the upstream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway import limits
from gateway.callers import Caller
from gateway.couch.upstream import Identity
from gateway.errors import Conflict, NotFound
from gateway.queries import UploadedAttachment
from gateway.settings.values import ImportRules
from tests.routing.scripted import ScriptedDatabase
from tests.routing.world import World, until

NOTHING = ImportRules(enabled=False)
MOBILE = ImportRules(filter_source="function (doc) { return doc.type === 'mobile'; }")


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Not opened yet: a test says which rules it has."""
    monkeypatch.setattr(limits, "UPSTREAM_RETRY_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(limits, "UPSTREAM_RETRY_LAST_SECONDS", 0.02)
    opened = World(tmp_path)
    yield opened
    await opened.close()


async def opened(world: World, rules: ImportRules) -> Caller:
    """A user with the channel `a`; there is one with all channels, too."""
    world.imports = rules
    await world.open()
    await world.caught_up()
    await world.user("all", ["*"])
    return await world.user("ann", ["a"])


async def reopened(world: World, rules: ImportRules) -> None:
    world.imports = rules
    await world.restart()
    await world.caught_up()
    await world.routed()


async def explained(world: World, user: str, doc: str, rev: str | None = None) -> dict[str, Any]:
    return await world.database.explaining.explain(user, doc, rev)


async def test_with_import_false_only_what_came_through_the_gateway_is_there(world: World) -> None:
    ann = await opened(world, NOTHING)
    await world.write(ann, "own", channels=["a"])
    await world.direct("foreign", channels=["a"], grant="ann", to="b")
    await world.routed()
    for caller in (ann, Caller("all")):
        assert await world.ids(caller) == ["own"]
        assert list(await world.listed(caller)) == ["own"]
        with pytest.raises(NotFound):
            await world.get(caller, "foreign")
    assert await world.channels_of("ann") == {"a"}
    assert world.database.status()["not_imported_count"] == 1


async def test_a_filter_takes_in_what_it_says(world: World) -> None:
    ann = await opened(world, MOBILE)
    await world.direct("in", type="mobile", channels=["a"])
    await world.direct("out", type="desktop", channels=["a"])
    await world.write(ann, "own", type="desktop", channels=["a"])
    await world.routed()
    assert sorted(await world.ids(ann)) == ["in", "own"]


async def test_explain_says_that_a_document_was_not_imported_and_why(world: World) -> None:
    await opened(world, MOBILE)
    rev = await world.direct("out", channels=["a"])
    await world.routed()
    found = await explained(world, "all", "out")
    assert (found["can_read"], found["verdict"]) == (False, "not-imported")
    assert found["sentence"] == (
        f'"all" cannot read "out": revision {rev} was written straight to CouchDB and not imported'
        ' ("the import filter does not take it").'
    )
    (one,) = found["not_imported"]
    assert (one["rev"], one["reason"]) == (rev, "the import filter does not take it")
    assert (await explained(world, "all", "out", rev))["verdict"] == "not-imported"
    assert (await explained(world, "all", "none"))["verdict"] == "unknown-document"


async def test_a_filter_that_fails_takes_nothing_in_and_explain_tells(world: World) -> None:
    ann = await opened(world, ImportRules(filter_source="function (doc) { return doc.a.b.c; };"))
    await world.direct("bad", channels=["a"])
    await world.direct("good", channels=["a"], a={"b": {"c": 1}})
    await world.routed()
    assert await world.ids(ann) == ["good"]
    (one,) = (await explained(world, "ann", "bad"))["not_imported"]
    assert one["reason"].startswith("the import filter failed: error: TypeError: ")
    assert "at line 1 column 26" in one["reason"]  # where the filter says `doc.a.b`, and one


async def test_a_direct_edit_that_is_not_taken_in_takes_the_document_away(world: World) -> None:
    ann = await opened(world, MOBILE)
    rev = await world.write(ann, "d", channels=["a"])
    since = (await world.changes(ann))[-1]["seq"]
    rev = await world.direct("d", rev, channels=["a"], secret=True)
    await world.routed()
    (row,) = await world.changes(ann, since, revocations=True)
    assert (row["id"], row["changes"]) == ("d", [])
    with pytest.raises(NotFound):
        await world.get(ann, "d")
    assert (await explained(world, "ann", "d"))["verdict"] == "not-imported"

    await world.direct("d", rev, type="mobile", channels=["a"])
    await world.routed()
    assert await world.ids(ann) == ["d"]
    found = await explained(world, "ann", "d")
    assert found["can_read"]
    assert "not_imported" not in found


async def test_a_direct_deletion_of_a_document_that_is_there_is_always_followed(world: World) -> None:
    ann = await opened(world, NOTHING)
    rev = await world.write(ann, "d", channels=["a"])
    since = (await world.changes(ann))[-1]["seq"]
    gone = await world.direct("d", rev, _deleted=True)
    await world.routed()
    (row,) = await world.changes(ann, since)
    assert (row["id"], row.get("deleted"), row["changes"]) == ("d", True, [{"rev": gone}])


async def test_a_branch_that_is_not_taken_in_does_not_win(world: World) -> None:
    ann = await opened(world, NOTHING)
    await world.graft(ann, "d", "2-a", "1-a", channels=["a"])
    await world.direct_graft("d", "3-z", "2-z", "1-a", channels=["a"], secret=True)
    await world.routed()
    assert await world.listed(ann) == {"d": "2-a"}
    assert (await world.get(ann, "d"))["_rev"] == "2-a"
    assert list(await world.leaves("d")) == ["2-a"]
    found = await explained(world, "ann", "d")
    assert found["can_read"]
    assert [one["rev"] for one in found["not_imported"]] == ["3-z"]
    assert (await explained(world, "ann", "d", "3-z"))["verdict"] == "not-imported"


async def test_a_new_document_over_one_that_is_not_taken_in_is_a_conflict(world: World) -> None:
    ann = await opened(world, NOTHING)
    await world.direct("d", secret=True)
    await world.routed()
    with pytest.raises(Conflict):
        await world.write(ann, "d", channels=["a"])
    assert await world.ids(ann) == []


async def test_the_gateways_own_writes_are_known_after_a_crash(world: World) -> None:
    ann = await opened(world, NOTHING)
    world.upstream.feed_open.clear()
    docs = [{"_id": f"d{number}", "channels": ["a"]} for number in range(3)]
    writing = asyncio.create_task(world.database.bulk_docs(ann, docs, new_edits=True))
    await until(lambda: world.upstream.stored_count == 3)
    await world.direct("foreign", channels=["a"])
    await reopened(world, NOTHING)
    await asyncio.gather(writing, return_exceptions=True)
    assert sorted(await world.ids(ann)) == ["d0", "d1", "d2"]


async def test_an_attachment_that_was_uploaded_before_a_crash_is_known(world: World) -> None:
    ann = await opened(world, NOTHING)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"some "
        yield b"text"

    rev = await world.write(ann, "d", channels=["a"])
    world.upstream.feed_open.clear()
    uploaded = UploadedAttachment("image/x", None, None, pieces())
    uploading = asyncio.create_task(world.database.put_attachment(ann, "d", "photo", rev, uploaded))
    await until(lambda: _moved(world, "d", rev))
    await reopened(world, NOTHING)
    await asyncio.gather(uploading, return_exceptions=True)
    assert "photo" in (await world.get(ann, "d"))["_attachments"]


async def _moved(world: World, doc: str, rev: str) -> bool:
    (leaves,) = await world.upstream.inner.leaves([doc])
    return bool(leaves[0]["_rev"] != rev)


async def test_own_writes_are_remembered_only_for_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = await opened(world, NOTHING)
    await world.write(ann, "d", channels=["a"])
    kept = await world.store.forget_own(0)
    assert kept == 0
    monkeypatch.setattr(limits, "OWN_WRITES_SECONDS", -1.0)
    await world.database.router._housekeeping()
    assert await world.store.forget_own(1e12) == 0
    assert await world.ids(ann) == ["d"]


async def test_rules_that_take_in_more_look_again_at_what_was_left_out(world: World) -> None:
    ann = await opened(world, NOTHING)
    await world.direct("phone", type="mobile", channels=["a"])
    await world.direct("desk", type="desktop", channels=["a"])
    await world.routed()
    assert await world.ids(ann) == []
    await reopened(world, MOBILE)
    assert await world.ids(ann) == ["phone"]
    assert (await explained(world, "ann", "desk"))["verdict"] == "not-imported"
    await reopened(world, ImportRules())
    assert sorted(await world.ids(ann)) == ["desk", "phone"]
    assert "not_imported" not in await explained(world, "ann", "desk")


async def test_rules_that_take_in_less_leave_what_was_taken_in(world: World) -> None:
    ann = await opened(world, ImportRules())
    rev = await world.direct("d", channels=["a"])
    await world.routed()
    await reopened(world, NOTHING)
    assert await world.listed(ann) == {"d": rev}
    await world.direct("e", channels=["a"])
    await world.routed()
    assert await world.listed(ann) == {"d": rev}


async def test_a_restored_backup_shows_the_older_revisions_that_were_there(world: World) -> None:
    ann = await opened(world, NOTHING)
    rev = await world.write(ann, "d", channels=["a"])
    newer = await world.write(ann, "d", rev, channels=["a"], v=2)
    old = [{"_id": "d", "_rev": rev, "_revisions": {"start": 1, "ids": [rev[2:]]}, "channels": ["a"]}]

    def restored(upstream: ScriptedDatabase) -> None:
        upstream.pretended = Identity("another", "1")
        upstream.lagging["d"] = [old] * 50  # the state of the backup

    await world.restart(restored)
    await until(lambda: _recorded(world, "d", rev))
    assert newer not in await world.leaves("d")
    assert await world.ids(ann) == ["d"]


async def _recorded(world: World, doc: str, rev: str) -> bool:
    return rev in await world.leaves(doc)


async def test_what_was_not_taken_in_of_a_purged_document_is_forgotten(world: World) -> None:
    await opened(world, NOTHING)
    rev = await world.direct("d", channels=["a"])
    await world.routed()
    await world.database.purge({"d": [rev]})
    await until(lambda: _forgotten(world, "d"))


async def _forgotten(world: World, doc: str) -> bool:
    return bool((await explained(world, "all", doc))["verdict"] == "unknown-document")


async def test_a_document_that_expires_is_deleted_for_who_holds_it_although_nothing_is_imported(world: World) -> None:
    world.sync = "function (doc) { channel(doc.channels); if (doc.until) { expiry(doc.until); } }"
    ann = await opened(world, NOTHING)
    rev = await world.write(ann, "d", channels=["a"], until=int(time.time()) + 2)
    since = (await world.changes(ann))[-1]["seq"]
    await until(lambda: _without(world, "d", rev))
    (row,) = await world.changes(ann, since)
    assert (row["id"], row.get("deleted")) == ("d", True)


async def _without(world: World, doc: str, rev: str) -> bool:
    return rev not in {one for one, leaf in (await world.leaves(doc)).items() if leaf.superseded_at is None}
