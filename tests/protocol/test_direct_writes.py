"""What is written straight to CouchDB is routed as if it came through the gateway."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.protocol.site import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def direct(notes: Place) -> httpx.AsyncClient:
    """A client at the database itself, past the gateway."""
    if notes.site.server is None:
        pytest.skip("the embedded upstream cannot be reached past the gateway")
    return notes.site.server.client(notes.database)


async def test_a_document_appears_in_running_feeds_and_reads(notes: Place, direct: httpx.AsyncClient) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    doc = notes.name("doc")
    async with direct, ann.following(since=await ann.now()) as lines:
        written = await direct.put(f"/{doc}", json={"channels": notes.name("a"), "n": 1})
        assert written.status_code == 201
        row = await lines.row()
        assert (row["id"], row["changes"]) == (doc, [{"rev": written.json()["rev"]}])
        assert (await ann.get(f"/{doc}"))["n"] == 1
        assert await bob.status("GET", f"/{doc}") == 403
        moved = await direct.put(f"/{doc}", json={"_rev": written.json()["rev"], "channels": notes.name("b")})
        assert moved.status_code == 201
        assert [row["id"] for row in (await bob.changes(feed="longpoll"))["results"]] == [doc]
        assert await ann.status("GET", f"/{doc}") == 403


async def test_grants_deletions_and_conflicts_made_there_count(notes: Place, direct: httpx.AsyncClient) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    old = notes.name("old")
    await admin.put(old, channels=notes.name("b"))
    async with direct, ann.following(since=await ann.now()) as lines:
        granted = await direct.put(f"/{notes.name('grant')}", json={"grants": {ann.name: notes.name("b")}})
        assert granted.status_code == 201
        assert await lines.ids(1) == [old]
        rev = (await ann.get(f"/{old}"))["_rev"]
        branch: dict[str, Any] = {"_id": old, "_rev": "1-f", "channels": notes.name("b")}
        assert (await direct.post("/_bulk_docs", json={"docs": [branch], "new_edits": False})).status_code == 201
        await lines.row()
        assert {row["rev"] for row in (await ann.changes(style="all_docs"))["results"][0]["changes"]} == {rev, "1-f"}
        for leaf in (rev, "1-f"):
            assert (await direct.delete(f"/{old}", params={"rev": leaf})).status_code == 200
        while not (row := await lines.row()).get("deleted"):
            pass
        assert row["id"] == old
        assert await ann.held() == []


async def test_what_the_sync_function_refuses_is_in_no_channel(notes: Place, direct: httpx.AsyncClient) -> None:
    ann, star = await notes.user("ann", notes.name("a")), await notes.user("star", "*")
    doc = notes.name("doc")
    async with direct, star.following(since=await star.now()) as lines:
        body = {"refuse": "not like this", "channels": notes.name("a"), "grants": {ann.name: notes.name("b")}}
        assert (await direct.put(f"/{doc}", json=body)).status_code == 201
        assert await lines.ids(1) == [doc]
        assert await ann.status("GET", f"/{doc}") == 403
        assert (await ann.get("/_session"))["userCtx"]["channels"].keys() == {"!", notes.name("a")}


async def test_a_write_through_the_gateway_builds_on_it(notes: Place, direct: httpx.AsyncClient) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("a"))
    doc = notes.name("doc")
    async with direct:
        body = {"channels": notes.name("a"), "writers": [ann.name]}
        rev = (await direct.put(f"/{doc}", json=body)).json()["rev"]
    assert await bob.status("PUT", f"/{doc}", json={**body, "_rev": rev}) == 403, "the rule of the replaced revision"
    assert (await ann.put(doc, rev=rev, **body)).startswith("2-")


async def test_a_design_document_there_disturbs_nobody(notes: Place, direct: httpx.AsyncClient) -> None:
    ann = await notes.user("ann", "*")
    design = f"/_design/{notes.name('app')}"
    async with direct, ann.following(since=await ann.now()) as lines:
        assert (await direct.put(design, json={"views": {}})).status_code == 201
        await ann.put(notes.name("doc"))
        assert await lines.ids(1) == [notes.name("doc")]
        assert await ann.status("GET", design) in (403, 404)
        rev = (await direct.get(design)).json()["_rev"]
        assert (await direct.delete(design, params={"rev": rev})).status_code == 200
