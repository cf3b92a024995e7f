"""Access and documents that end by themselves, over HTTP: feeds, reads, attachments, restarts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.protocol.site import PATIENCE_SECONDS, Person, Place, site_on

pytestmark = pytest.mark.asyncio(loop_scope="session")

SYNC: Final = """
function (doc, oldDoc) {
  channel(doc.channels);
  for (var name in doc.grants || {}) {
    if ("until" in doc) { access(name, doc.grants[name], {expires: doc.until}); }
    else { access(name, doc.grants[name]); }
  }
  if (doc.member) { role(doc.member, "role:" + doc.role, {expires: doc.until}); }
  if (doc.expires) { expiry(doc.expires); }
}
"""
# A loaded machine is slow to answer and to ask; the gateway itself is due within a second.
LATE_SECONDS: Final = 10.0


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with (
        site_on("embedded", tmp_path_factory.mktemp("expiries"), {"notes": {"sync": SYNC}}) as running,
        AsyncExitStack() as stack,
    ):
        yield Place(running, "notes", stack)


@pytest_asyncio.fixture(loop_scope="session")
async def place(shared: Place) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        yield Place(shared.site, "notes", stack)


async def gone(person: Person, doc_id: str, status: int) -> None:
    """Wait until a document is not read any more."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (found := await person.status("GET", f"/{doc_id}")) == 200:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.02)
    assert found == status


async def explained(admin: Person, user: str, doc: str) -> Any:
    return await admin.get("/_access", user=user, doc=doc)


async def test_a_running_feed_tells_of_the_end_and_nothing_is_read_after_it(place: Place) -> None:
    admin, ann = await place.admin(), await place.user("ann")
    channel, doc, later = place.names("a", "doc", "later")
    await admin.put(doc, channels=channel)
    until = int(time.time()) + 3
    await admin.put(place.name("grant"), grants={ann.name: channel}, until=until)
    async with ann.following(revocations="true") as lines:
        row = await lines.row()
        assert (row["id"], "deleted" in row) == (doc, False)
        row = await lines.row()
        told_at = time.time()
        assert (row["id"], row["revoked"], row["changes"]) == (doc, True, [])
        assert until <= told_at < until + LATE_SECONDS
        assert await ann.status("GET", f"/{doc}") == 403
        assert await ann.held() == []
        await admin.put(later, channels=channel)
        own = await ann.changes()
        assert [one["id"] for one in own["results"]] == []
    found = await explained(admin, ann.name, doc)
    assert (found["can_read"], found["verdict"]) == (False, "access-lost")


async def test_longer_access_interrupts_nothing(place: Place) -> None:
    admin, ann = await place.admin(), await place.user("ann")
    channel, doc, grant = place.names("a", "doc", "grant")
    await admin.put(doc, channels=channel)
    rev = await admin.put(grant, grants={ann.name: channel}, until=3)
    assert await ann.listed() == [doc]
    at = await ann.now()
    rev = await admin.put(grant, rev, grants={ann.name: channel}, until="2100-01-31T12:00:00Z")
    await admin.put(place.name("other"), grants={ann.name: place.name("b")}, until=3)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while place.name("b") in (await admin.get(f"/_user/{ann.name}"))["all_channels"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await ann.changes(since=at, revocations="true"))["results"] == []
    assert await ann.held() == [doc]


async def test_a_role_for_a_time(place: Place) -> None:
    admin, ann = await place.admin(), await place.user("ann")
    channel, doc = place.names("a", "doc")
    role = await place.role("crew", channel)
    await admin.put(doc, channels=channel)
    await admin.put(place.name("member"), member=ann.name, role=role, until=3)
    assert await ann.held() == [doc]
    await gone(ann, doc, 403)


async def test_a_time_that_is_none_is_refused_with_the_reason(place: Place) -> None:
    admin = await place.admin()
    answer = await admin.http.put(f"/{place.name('g')}", json={"grants": {"ann": "a"}, "until": "tomorrow"})
    assert (answer.status_code, answer.json()["code"]) == (400, "CG5008")
    assert answer.json()["reason"] == 'access() got no time for `expires`: "tomorrow"'
    refused = await admin.bulk(
        {"_id": place.name("g"), "grants": {"ann": "a"}, "until": None}, {"_id": place.name("d")}
    )
    assert [one.get("error", "stored") for one in refused] == ["bad_request", "stored"]


async def test_explain_says_until_when(place: Place) -> None:
    admin, ann = await place.admin(), await place.user("ann")
    channel, doc, grant = place.names("a", "doc", "grant")
    await admin.put(doc, channels=channel, expires="2101-01-31T12:00:00Z")
    rev = await admin.put(grant, grants={ann.name: channel}, until="2100-01-31T12:00:00Z")
    found = await explained(admin, ann.name, doc)
    assert found["sentence"].endswith(f'from document "{grant}" (revision {rev}) until 2100-01-31T12:00:00Z.')
    assert found["document"]["expires"] == "2101-01-31T12:00:00Z"
    (way,) = found["paths"][0]["ways"]
    assert (way["expires"], way["from"][0]["expires"]) == ("2100-01-31T12:00:00Z", "2100-01-31T12:00:00Z")
    (holder,) = (await admin.get(f"/_channels/{channel}"))["holders"]
    assert holder["ways"][0]["from"][0]["expires"] == "2100-01-31T12:00:00Z"
    await place.change_user(ann, admin_channels=[channel])
    (way,) = (await explained(admin, ann.name, doc))["paths"][0]["ways"]
    assert "expires" not in way, "the administrator's grant does not end"


async def test_the_trial_of_a_function_tells_of_ends(place: Place) -> None:
    admin = await place.admin()
    body = {"doc": {"grants": {"ann": "a"}, "member": "bob", "role": "crew", "until": "2100-01-31T12:00:00Z"}}
    told = (await admin.http.post("/_sync_function/try", json=body)).json()
    end = datetime(2100, 1, 31, 12, tzinfo=UTC).timestamp()
    assert told["access"] == {"ann": ["a"]}
    assert told["expires"] == {"access": {"ann": {"a": end}}, "roles": {"bob": {"crew": end}}}


async def test_a_document_with_an_attachment_and_a_conflict_expires(place: Place) -> None:
    admin, ann = await place.admin(), await place.user("ann", place.name("a"))
    doc = place.name("doc")
    file = {"content_type": "text/plain", "data": "aGVsbG8="}
    soon = int(time.time()) + 3
    one = {"channels": place.name("a"), "expires": soon, "_attachments": {"file": file}}
    await admin.replicate(doc, "1-a", **one)
    await admin.replicate(doc, "1-b", channels=place.name("a"), expires=soon)
    assert (await ann.http.get(f"/{doc}/file", params={"rev": "1-a"})).content == b"hello"
    at = await ann.now()
    await gone(ann, doc, 404)
    assert await ann.status("GET", f"/{doc}/file") == 404
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len((await ann.changes(since=at, style="all_docs"))["results"][0]["changes"]) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    (row,) = (await ann.changes(since=at, style="all_docs"))["results"]
    assert (row["id"], row["deleted"]) == (doc, True)
    assert all(change["rev"].startswith("2-") for change in row["changes"])
    leaves = await ann.http.get(f"/{doc}", params={"open_revs": "all"}, headers={"accept": "application/json"})
    assert all(leaf["ok"]["_deleted"] for leaf in leaves.json())


async def test_what_ended_while_the_gateway_was_killed_is_over_at_the_first_request(kind: str, tmp_path: Path) -> None:
    async with site_on(kind, tmp_path, {"notes": {"sync": SYNC}}) as running, AsyncExitStack() as stack:
        place = Place(running, "notes", stack)
        admin, ann = await place.admin(), await place.user("ann", place.name("own"))
        channel, doc, temporary = place.names("a", "doc", "temporary")
        await admin.put(doc, channels=channel)
        until = int(time.time()) + 3
        await admin.put(place.name("grant"), grants={ann.name: channel}, until=until)
        await admin.put(temporary, channels=place.name("own"), expires=until)
        assert await ann.held() == sorted([doc, temporary])
        at = await ann.now()
        await running.gateway.kill()
        await asyncio.sleep(max(until - time.time(), 0) + 0.1)  # what is tested is that time goes on without it
        await running.gateway.start()
        place.forget_people()
        ann = await place.login(ann.name)
        assert await ann.status("GET", f"/{doc}") == 403
        await gone(ann, temporary, 404)
        rows = (await ann.changes(since=at, revocations="true"))["results"]
        assert {row["id"]: (row.get("revoked"), row.get("deleted")) for row in rows} == {
            doc: (True, None),
            temporary: (None, True),
        }
