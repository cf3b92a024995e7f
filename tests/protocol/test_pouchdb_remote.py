"""PouchDB and nano reading and writing the gateway directly."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.protocol.pouch import ClientError, Driver
from tests.protocol.site import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_get_put_and_remove(notes: Place, driver: Driver) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob")
    remote, his = await driver.remote(ann.url), await driver.remote(bob.url)
    doc = notes.name("doc")
    rev = await remote.put(doc, channels=notes.name("a"), n=1)
    assert await remote.call("get", doc) == {"_id": doc, "_rev": rev, "channels": notes.name("a"), "n": 1}
    with pytest.raises(ClientError) as raised:
        await his.call("get", doc)
    assert (raised.value.status, raised.value.name) == (403, "forbidden")
    with pytest.raises(ClientError) as raised:
        await remote.put(doc, channels=notes.name("a"))
    assert (raised.value.status, raised.value.name) == (409, "conflict")
    await remote.remove(doc)
    with pytest.raises(ClientError) as raised:
        await remote.call("get", doc)
    assert (raised.value.status, raised.value.reason) == (404, "deleted")


async def test_get_with_open_revs_and_bulk_get(notes: Place, driver: Driver) -> None:
    ann = await notes.user("ann", notes.name("a"))
    remote = await driver.remote(ann.url)
    doc = notes.name("doc")
    await ann.replicate(doc, "2-b", "1-a", channels=notes.name("a"), n=1)
    await ann.replicate(doc, "2-c", "1-a", channels=notes.name("a"), n=2)
    found = await remote.call("get", doc, {"open_revs": "all", "revs": True})
    assert {one["ok"]["_rev"]: one["ok"]["_revisions"]["ids"] for one in found} == {
        "2-b": ["b", "a"],
        "2-c": ["c", "a"],
    }
    found = await remote.call("get", doc, {"open_revs": ["2-b", "3-x"]})
    assert [one.get("missing") or one["ok"]["_rev"] for one in found] == ["2-b", "3-x"]
    assert (await remote.call("get", doc, {"conflicts": True, "revs_info": True}))["_conflicts"] == ["2-b"]
    asked = {"docs": [{"id": doc, "rev": "2-b"}, {"id": "nothing", "rev": "1-x"}], "revs": True}
    results = (await remote.call("bulkGet", asked))["results"]
    assert results[0]["docs"][0]["ok"]["n"] == 1
    assert results[1]["docs"][0]["error"]["error"] == "not_found"


async def test_all_docs_with_keys_and_ranges(notes: Place, driver: Driver) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    remote = await driver.remote(ann.url)
    ids = notes.names("d1", "d2", "d3")
    await remote.call("bulkDocs", [{"_id": id, "channels": notes.name("a")} for id in ids])
    await admin.put(notes.name("hidden"), channels=notes.name("b"))
    found = await remote.call("allDocs", {"keys": [ids[2], notes.name("hidden"), ids[0]], "include_docs": True})
    assert [row.get("error") or row["doc"]["_id"] for row in found["rows"]] == [ids[2], "not_found", ids[0]]
    found = await remote.call("allDocs", {"startkey": ids[1]})
    assert (found["total_rows"], [row["id"] for row in found["rows"]]) == (3, ids[1:])
    found = await remote.call("allDocs", {"startkey": ids[2], "endkey": ids[1], "descending": True})
    assert [row["id"] for row in found["rows"]] == [ids[2], ids[1]]
    assert (await remote.call("info"))["doc_count"] == 3


async def test_live_changes_with_a_channel_filter_and_with_ids(notes: Place, driver: Driver) -> None:
    ann = await notes.user("ann", *notes.names("a", "b"))
    remote = await driver.remote(ann.url)
    everything = await remote.changes(live=True, since="now", include_docs=True)
    channel = await remote.changes(
        live=True, filter="sync_gateway/bychannel", query_params={"channels": notes.name("b")}
    )
    one = await remote.changes(live=True, doc_ids=[notes.name("in-b")])
    assert await ann.now()
    await ann.put(notes.name("in-a"), channels=notes.name("a"))
    await ann.put(notes.name("in-b"), channels=notes.name("b"), text="hi")
    assert (await channel.event("change"))["id"] == notes.name("in-b")
    assert (await one.event("change"))["id"] == notes.name("in-b")
    while not any(row["id"] == notes.name("in-b") for row in everything.seen("change")):
        await everything.event("change", len(everything.seen("change")) + 1)
    assert everything.seen("change")[-1]["doc"]["text"] == "hi"
    for feed in (everything, channel, one):
        await feed.cancel()


async def test_changes_in_pages_end_with_the_last_position(notes: Place, driver: Driver) -> None:
    ann = await notes.user("ann", notes.name("a"))
    ids = [notes.name(f"d{number}") for number in range(7)]
    for id in ids:
        await ann.put(id, channels=notes.name("a"))
    feed = await (await driver.remote(ann.url)).changes(batch_size=3)
    done = await feed.event("complete")
    assert [row["id"] for row in done["results"]] == ids
    assert done["last_seq"] == await ann.now()


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 2},
        {"limit": 2, "since": "now"},
        {"descending": True},
        {"descending": True, "limit": 1},
        {"include_docs": True, "conflicts": True},
        {"include_docs": True, "attachments": True},
        {"style": "all_docs", "seq_interval": 2, "batch_size": 2},
        {"style": "all_docs", "include_docs": True, "conflicts": True, "batch_size": 1},
        {"heartbeat": 2000, "timeout": 5000},
        {"heartbeat": False, "timeout": False},
        {"return_docs": False},
        {"query_params": {"active_only": "true"}},
    ],
    ids="-".join,
)
async def test_changes_with_each_of_pouchdbs_options(notes: Place, driver: Driver, options: dict[str, Any]) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    plain, split, attached = notes.names("plain", "split", "attached")
    await ann.put(plain, channels=notes.name("a"))
    await bob.put(notes.name("theirs"), channels=notes.name("b"))
    for rev in ("2-a", "2-b"):
        await ann.replicate(split, rev, "1-r", channels=notes.name("a"))
    data = base64.b64encode(b"text").decode()
    await ann.put(attached, channels=notes.name("a"), _attachments={"t": {"content_type": "a/b", "data": data}})
    expected = [plain, split, attached][:: -1 if options.get("descending") else 1][: options.get("limit")]
    feed = await (await driver.remote(ann.url)).changes(**options)
    done = await feed.event("complete")
    rows = {row["id"]: row for row in feed.seen("change")}
    assert list(rows) == ([] if options.get("since") else expected)
    assert done["last_seq"]
    if options.get("conflicts"):
        assert rows[split]["doc"]["_conflicts"] == ["2-a"]
    if options.get("attachments"):
        assert rows[attached]["doc"]["_attachments"]["t"]["data"] == data
    if options.get("style"):
        assert [change["rev"] for change in rows[split]["changes"]] == ["2-b", "2-a"]
        assert all(row["seq"] for row in rows.values())


async def test_nano_reads_writes_and_follows(notes: Place, driver: Driver) -> None:
    ann = await notes.user("ann", notes.name("a"))
    url = ann.url.removesuffix(f"/{notes.database}")
    doc = notes.name("doc")

    async def database(method: str, *args: object) -> object:
        return await driver.nano(url, method, *args, use=notes.database)

    written = await database("insert", {"channels": notes.name("a"), "n": 1}, doc)
    assert isinstance(written, dict)
    assert written["ok"] is True
    assert await database("get", doc) == {"_id": doc, "_rev": written["rev"], "channels": notes.name("a"), "n": 1}
    results = await database("bulk", {"docs": [{"_id": notes.name("d2"), "channels": notes.name("a")}]})
    assert isinstance(results, list)
    assert results[0]["ok"] is True
    listed = await database("list", {"include_docs": True})
    assert isinstance(listed, dict)
    assert [row["doc"]["_id"] for row in listed["rows"]] == notes.names("d2", "doc")
    fetched = await database("fetch", {"keys": [doc]})
    assert isinstance(fetched, dict)
    assert fetched["rows"][0]["doc"]["n"] == 1
    changes = await database("changes", {"limit": 1})
    assert isinstance(changes, dict)
    assert (changes["results"][0]["id"], changes["pending"]) == (doc, 1)
    removed = await database("destroy", doc, written["rev"])
    assert isinstance(removed, dict)
    assert removed["ok"] is True
    with pytest.raises(ClientError) as raised:
        await database("get", doc)
    assert (raised.value.status, raised.value.reason) == (404, "deleted")
    with pytest.raises(ClientError) as raised:
        await database("insert", {"refuse": "not like this"}, doc)
    assert (raised.value.status, raised.value.reason) == (403, "not like this")
    info = await database("info")
    assert isinstance(info, dict)
    assert info["doc_count"] == 1
