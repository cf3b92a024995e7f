"""PouchDB replicating both ways, live, with two users on one database."""

from __future__ import annotations

import pytest

from tests.protocol.pouch import ClientError, Driver, binary
from tests.protocol.proxy import proxy_to
from tests.protocol.site import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")

SMALL = {"batch_size": 2}  # so that replications are made of many pages, and stop within backfills


async def test_two_users_each_hold_exactly_their_own_and_the_public_documents(square: Place, driver: Driver) -> None:
    ann, bob = await square.user("ann", square.name("a")), await square.user("bob", square.name("b"))
    admin = await square.admin()
    public = square.name("public")
    await admin.put(public, channels="!")
    devices = []
    for user in (ann, bob):
        device, remote = await driver.device(user.name), await driver.remote(user.url)
        await device.sync(remote, **SMALL)
        devices.append(device)
    mine, theirs = square.names("a0", "a1", "a2"), square.names("b0", "b1")
    for device, ids, channel in ((devices[0], mine, "a"), (devices[1], theirs, "b")):
        await device.call("bulkDocs", [{"_id": id, "channels": square.name(channel)} for id in ids])
    others = [id for id in await (await square.guest()).held() if id != public]  # public ones of other tests
    for user, ids in ((ann, mine), (bob, theirs)):
        another = await driver.device(user.name)
        await another.sync(await driver.remote(user.url), **SMALL)
        await another.holds(*ids, public, *others)
        assert sorted(square.mine(await user.held())) == sorted([*ids, public])
    await ann.put(square.name("a3"), channels=square.name("a"))
    await bob.put(square.name("b2"), channels=square.name("b"))
    await devices[0].holds(*mine, square.name("a3"), public, *others)
    await devices[1].holds(*theirs, square.name("b2"), public, *others)


async def test_edits_flow_between_users_who_share_a_channel(notes: Place, driver: Driver) -> None:
    ann, bob = await notes.user("ann", notes.name("team")), await notes.user("bob", notes.name("team"))
    hers, his = await driver.device("ann"), await driver.device("bob")
    await hers.sync(await driver.remote(ann.url))
    await his.sync(await driver.remote(bob.url))
    doc = notes.name("doc")
    await hers.put(doc, channels=notes.name("team"), text="hers")
    await his.has(doc, text="hers")
    await his.change(doc, text="his")
    await hers.has(doc, text="his")
    await hers.remove(doc)
    await his.lacks(doc)
    (row,) = (await bob.changes(since=0, style="all_docs"))["results"] or [{}]
    assert row == {}, "a client that starts now has nothing to delete"


async def test_a_document_grants_old_documents_to_a_running_sync(notes: Place, driver: Driver) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    old = [notes.name(f"old{number}") for number in range(7)]
    for doc in old:
        await admin.put(doc, channels=notes.name("b"))
    device = await driver.device("ann")
    await device.sync(await driver.remote(ann.url), **SMALL)
    await ann.put(notes.name("mine"), channels=notes.name("a"))
    await device.holds(notes.name("mine"))
    await admin.put(notes.name("grant"), grants={ann.name: notes.name("b")})
    await device.holds(notes.name("mine"), *old)
    moved = notes.name("moved")
    rev = await admin.put(moved, channels=notes.name("elsewhere"))
    await admin.put(moved, rev=rev, channels=notes.name("b"))
    await device.holds(notes.name("mine"), *old, moved)


async def test_a_role_given_by_a_document_brings_its_documents(notes: Place, driver: Driver) -> None:
    ann, admin = await notes.user("ann"), await notes.admin()
    old = notes.names("o1", "o2", "o3")
    for doc in old:
        await admin.put(doc, channels=notes.name("b"))
    device = await driver.device("ann")
    await device.sync(await driver.remote(ann.url), **SMALL)
    await admin.put(notes.name("membership"), roles={ann.name: f"role:{notes.name('crew')}"})
    await admin.put(notes.name("power"), grants={f"role:{notes.name('crew')}": notes.name("b")})
    await notes.role("crew")  # only now there is such a role
    await device.holds(*old)


async def test_a_user_who_was_granted_before_being_created_gets_it_all(notes: Place, driver: Driver) -> None:
    admin = await notes.admin()
    await admin.put(notes.name("grant"), grants={notes.name("zoe"): notes.name("b")})
    await admin.put(notes.name("old"), channels=notes.name("b"))
    zoe = await notes.user("zoe")
    device = await driver.device("zoe")
    await device.sync(await driver.remote(zoe.url))
    await device.holds(notes.name("old"))
    await admin.put(notes.name("new"), channels=notes.name("b"))
    await device.holds(*notes.names("new", "old"))


async def test_a_refused_write_is_denied_and_the_others_of_its_batch_are_stored(notes: Place, driver: Driver) -> None:
    ann = await notes.user("ann", notes.name("a"))
    device = await driver.device("ann")
    good, bad = notes.names("g1", "g2", "g3"), notes.name("bad")
    docs = [{"_id": id, "channels": notes.name("a")} for id in good]
    await device.call("bulkDocs", [docs[0], {"_id": bad, "refuse": "not like this"}, *docs[1:]])
    running = await device.sync(await driver.remote(ann.url))
    denied = await running.event("denied")
    assert (denied["direction"], denied["id"]) == ("push", bad)
    assert (denied["name"], denied["reason"]) == ("forbidden", "not like this")
    await (await driver.remote(ann.url)).call("info")
    other = await driver.device("ann")
    await other.sync(await driver.remote(ann.url))
    await other.holds(*good)
    await device.put(notes.name("later"), channels=notes.name("a"))
    await other.holds(*good, notes.name("later"))
    assert len(running.seen("denied")) == 1


async def test_deletions_replicate(notes: Place, driver: Driver) -> None:
    ann = await notes.user("ann", notes.name("a"))
    remote = await driver.remote(ann.url)
    hers, other = await driver.device("one"), await driver.device("two")
    kept, gone = notes.names("kept", "gone")
    for doc in (kept, gone):
        await hers.put(doc, channels=notes.name("a"))
    await hers.pushed(remote)
    await other.pulled(remote)
    tombstone = await hers.remove(gone)
    await hers.pushed(remote)
    result = await other.pulled(remote)
    assert result["docs_read"] == 1
    await other.holds(kept)
    assert (await other.call("get", gone, {"rev": tombstone}))["_deleted"] is True


async def test_conflicts_made_offline_have_the_same_winner_everywhere(notes: Place, driver: Driver) -> None:
    ann = await notes.user("ann", notes.name("a"))
    remote = await driver.remote(ann.url)
    one, two = await driver.device("one"), await driver.device("two")
    doc = notes.name("doc")
    await one.put(doc, channels=notes.name("a"), n=0)
    await one.pushed(remote)
    await two.pulled(remote)
    revs = {await one.change(doc, n=1), await two.change(doc, n=2)}
    for device in (one, two):
        await device.pushed(remote)
    for device in (one, two):
        await device.pulled(remote)
    seen = [await device.call("get", doc, {"conflicts": True}) for device in (one, two, remote)]
    assert seen[0] == seen[1] == seen[2]
    assert {seen[0]["_rev"], *seen[0]["_conflicts"]} == revs
    await one.call("remove", doc, seen[0]["_conflicts"][0])
    await one.pushed(remote)
    await two.pulled(remote)
    assert await two.call("get", doc, {"conflicts": True}) == await remote.call("get", doc, {"conflicts": True})
    assert "_conflicts" not in await two.call("get", doc, {"conflicts": True})


async def test_attachments_replicate_both_ways(notes: Place, driver: Driver) -> None:
    ann = await notes.user("ann", notes.name("a"))
    remote = await driver.remote(ann.url)
    one, two = await driver.device("one"), await driver.device("two")
    doc, image, text = notes.name("doc"), bytes(range(256)) * 200, "grüße".encode()
    rev = await one.put(doc, channels=notes.name("a"))
    rev = (await one.call("putAttachment", doc, "image", rev, image, "image/png"))["rev"]
    await one.call("putAttachment", doc, "notes/text", rev, text, "text/plain")
    await one.pushed(remote)
    await two.pulled(remote)
    assert binary(await two.call("getAttachment", doc, "image")) == image
    assert binary(await two.call("getAttachment", doc, "notes/text")) == text
    assert binary(await remote.call("getAttachment", doc, "notes/text")) == text
    kept = await two.change(doc, n=2)  # its attachments go on as stubs
    await two.call("putAttachment", doc, "image", kept, image[::-1], "image/png")
    await two.pushed(remote)
    await one.pulled(remote)
    assert binary(await one.call("getAttachment", doc, "image")) == image[::-1]
    assert binary(await one.call("getAttachment", doc, "notes/text")) == text


async def test_a_pull_in_small_pages_stops_within_a_backfill_and_goes_on_from_there(
    notes: Place, driver: Driver
) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    old = [notes.name(f"old{number}") for number in range(9)]
    await admin.bulk(*({"_id": doc, "channels": notes.name("b")} for doc in old))
    await ann.put(notes.name("mine"), channels=notes.name("a"))
    async with proxy_to(notes.site.gateway.public) as proxy:
        remote = await driver.remote(ann.url.replace(notes.site.gateway.public.removeprefix("http://"), proxy.url[7:]))
        device = await driver.device("ann")
        before = (await device.pulled(remote))["last_seq"]
        await admin.put(notes.name("grant"), grants={ann.name: notes.name("b")})
        running = await device.pull(remote, batch_size=2, batches_limit=1)
        stopped = (await running.event("change"))["last_seq"]
        assert ":" in stopped
        await running.event("change", 2)  # so the checkpoint of the first page is written
        await running.cancel()
        await running.event("complete")
        proxy.forget()
        result = await device.pulled(remote, batch_size=2)
        assert await device.ids() == sorted([notes.name("mine"), *old])
        assert await ann.listed(since=result["last_seq"]) == []
        asked = [request.query["since"] for request in proxy.seen if request.path.endswith("/_changes")]
        assert all(":" in since for since in asked), "it goes on within the backfill"
        assert asked[0] not in ("0", before)
        proxy.forget()
        await device.pulled(remote, batch_size=2)
        assert [one.query["since"] for one in proxy.seen if one.path.endswith("/_changes")] == [result["last_seq"]]
    for since, count in ((stopped, len(old) - 2), (before, len(old))):
        device = await driver.device("by hand")
        done = await device.pulled(await driver.remote(ann.url), since=since, checkpoint="target")
        assert done["docs_read"] == count


async def test_a_second_replication_has_nothing_to_do(notes: Place, driver: Driver) -> None:
    ann = await notes.user("ann", notes.name("a"))
    device, remote = await driver.device("ann"), await driver.remote(ann.url)
    await device.put(notes.name("doc"), channels=notes.name("a"))
    assert (await device.pushed(remote))["docs_written"] == 1
    assert (await device.pushed(remote))["docs_read"] == 0
    assert (await device.pulled(remote))["docs_written"] == 0
    assert (await device.pulled(remote))["docs_read"] == 0


async def test_a_wrong_password_is_an_error_and_not_a_hang(notes: Place, driver: Driver) -> None:
    ann = await notes.user("ann", notes.name("a"))
    wrong = await driver.remote(ann.url.replace("-pw@", "-wrong@"))
    device = await driver.device("ann")
    error = await (await device.sync(wrong)).event("error")
    assert (error["status"], error["name"]) == (401, "unauthorized")
    with pytest.raises(ClientError) as raised:
        await wrong.call("allDocs")
    assert raised.value.status == 401


async def test_a_live_sync_stops_when_its_user_is_disabled(notes: Place, driver: Driver) -> None:
    ann = await notes.user("ann", notes.name("a"))
    device = await driver.device("ann")
    running = await device.sync(await driver.remote(ann.url))
    await ann.put(notes.name("doc"), channels=notes.name("a"))
    await device.holds(notes.name("doc"))
    await notes.change_user(ann, disabled=True)
    await device.put(notes.name("late"), channels=notes.name("a"))
    error = await running.event("error")
    assert (error["status"], error["name"]) == (401, "unauthorized")


async def test_a_channel_filter_pulls_only_that_channel(notes: Place, driver: Driver) -> None:
    ann = await notes.user("ann", *notes.names("a", "b"))
    for name in ("a", "b"):
        await ann.put(notes.name(f"in-{name}"), channels=notes.name(name))
    device = await driver.device("ann")
    query = {"channels": notes.name("b")}
    await device.pulled(await driver.remote(ann.url), filter="sync_gateway/bychannel", query_params=query)
    assert await device.ids() == [notes.name("in-b")]


async def test_doc_ids_pull_only_those(notes: Place, driver: Driver) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    for name in ("d1", "d2", "d3"):
        await ann.put(notes.name(name), channels=notes.name("a"))
    await admin.put(notes.name("hidden"), channels=notes.name("b"))
    device = await driver.device("ann")
    await device.pulled(await driver.remote(ann.url), doc_ids=notes.names("d1", "d3", "hidden", "nothing"))
    assert await device.ids() == notes.names("d1", "d3")
