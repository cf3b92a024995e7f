"""Why can she see this? Explain on the admin port of a running gateway, beside what users get."""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from tests.protocol.site import DATABASES, Person, Place, site_on

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def explained(admin: Person, user: str, doc: str, **more: str) -> dict[str, Any]:
    return dict(await admin.get("/_access", user=user, doc=doc, **more))


async def test_the_explanation_is_what_the_users_get(notes: Place) -> None:
    admin = await notes.admin()
    crew = await notes.role("crew", notes.name("a"))
    people = [
        await notes.user("ann", notes.name("a")),
        await notes.user("bob", roles=[crew]),
        await notes.user("eve", notes.name("b")),
        await notes.user("tom", "*"),
    ]
    await admin.put(notes.name("in-a"), channels=[notes.name("a")])
    rev = await admin.put(notes.name("moved"), channels=[notes.name("a")])
    await admin.put(notes.name("moved"), rev, channels=[notes.name("b")])
    await admin.put(notes.name("nowhere"))
    await admin.put(notes.name("granting"), channels=[notes.name("b")], grants={people[2].name: [notes.name("c")]})
    await admin.put(notes.name("in-c"), channels=[notes.name("c")])
    gone = await admin.put(notes.name("gone"), channels=[notes.name("a")])
    await admin.delete(notes.name("gone"), gone)
    docs = notes.names("in-a", "moved", "nowhere", "granting", "in-c")
    for person in people:
        readable = []
        for doc in docs:
            found = await explained(admin, person.name, doc)
            status = await person.status("GET", f"/{doc}")
            assert status == (200 if found["can_read"] else 403), found["sentence"]
            readable += [doc] if found["can_read"] else []
            readers = await admin.get("/_access", doc=doc, startkey=json.dumps(person.name), limit=1)
            assert ([one["user"] for one in readers["readers"]] == [person.name]) is found["can_read"]
        told = await admin.get("/_access", user=person.name, limit=1000)
        assert set(readable) <= {one["id"] for one in told["documents"]}
        assert sorted(one["id"] for one in told["documents"]) == await person.held()
    assert "the deletion of" in (await explained(admin, people[0].name, notes.name("gone")))["sentence"]
    assert (await explained(admin, people[2].name, notes.name("gone")))["can_read"] is False


async def test_where_access_comes_from_is_told_to_the_granting_document(notes: Place) -> None:
    admin, ann = await notes.admin(), await notes.user("ann")
    grant, doc, channel = notes.name("grant"), notes.name("doc"), notes.name("c")
    rev = await admin.put(doc, channels=[channel])
    assert (await explained(admin, ann.name, doc))["verdict"] == "no-common-channel"
    granting = await admin.put(grant, grants={ann.name: [channel]})
    found = await explained(admin, ann.name, doc)
    assert found["sentence"].startswith(f'"{ann.name}" can read "{doc}" (revision {rev}): it is in channel "{channel}"')
    assert found["sentence"].endswith(f'from document "{grant}" (revision {granting}).')
    (way,) = found["paths"][0]["ways"]
    assert way["from"] == [{"source": "document", "since": way["since"], "doc": grant, "rev": granting}]
    await admin.delete(grant, granting)
    found = await explained(admin, ann.name, doc)
    assert found["verdict"] == "access-lost"
    assert found["sentence"].endswith(f'could read it through channel "{channel}" until sequence {way["since"] + 1}.')


async def test_channels_are_listed_with_counts_and_their_holders(notes: Place) -> None:
    admin, tag = await notes.admin(), notes.tag
    await notes.role("crew", f"{tag}-a")
    ann = await notes.user("ann", f"{tag}-a", f"{tag}-b")
    bob = await notes.user("bob", roles=[notes.name("crew")])
    for at in range(3):
        await admin.put(notes.name(f"doc{at}"), channels=[f"{tag}-a", *([f"{tag}-b"] if at else [])])
    first = await admin.get("/_channels", prefix=tag, limit=1)
    assert first == {"channels": [{"channel": f"{tag}-a", "documents": 3, "users": 2}], "next": f"{tag}-b"}
    assert await admin.get("/_channels", prefix=tag, startkey=json.dumps(first["next"])) == {
        "channels": [{"channel": f"{tag}-b", "documents": 2, "users": 1}],
        "next": None,
    }
    holders: list[dict[str, Any]] = []
    start: str | None = ""
    while start is not None:
        page = await admin.get(f"/_channels/{tag}-a", limit=1, startkey=json.dumps(start))
        assert (page["documents"], page["users"]) == (3, 2)
        holders += page["holders"]
        start = page["next"]
    assert [one.get("role", one.get("user")) for one in holders] == [notes.name("crew"), ann.name, bob.name]
    assert holders[0]["from"] == [{"source": "admin", "since": holders[0]["since"]}]
    assert [way.get("role") for way in holders[2]["ways"]] == [notes.name("crew")]


async def test_the_config_file_and_the_guest_are_told(tmp_path: Path) -> None:
    notes = {
        **DATABASES["notes"],
        "guest": {"disabled": False, "admin_channels": ["lobby"]},
        "users": {"ann": {"password": "ann", "admin_channels": ["staff"], "admin_roles": ["crew"]}},
        "roles": {"crew": {"admin_channels": ["decks"]}},
    }
    async with site_on("embedded", tmp_path, {"notes": notes}) as running, AsyncExitStack() as stack:
        admin = await Place(running, "notes", stack).admin()
        for channel in ("staff", "decks", "lobby"):
            await admin.put(f"in-{channel}", channels=channel)
        assert (await explained(admin, "ann", "in-staff"))["sentence"].endswith("from the config file.")
        assert (await explained(admin, "ann", "in-decks"))["sentence"].endswith(
            'through role "crew" (a member from the config file; the role has it from the config file).'
        )
        assert (await explained(admin, "GUEST", "in-lobby"))["sentence"].startswith("The guest can read")
        assert (await explained(admin, "GUEST", "in-staff"))["can_read"] is False
        await admin.put("public", channels="!")
        for user in ("ann", "GUEST"):
            assert (await explained(admin, user, "public"))["sentence"].endswith('channel "!", which everybody has.')
        readers = await admin.get("/_access", doc="in-lobby")
        assert [one["user"] for one in readers["readers"]] == ["GUEST"]


async def test_the_example_of_the_documentation_is_what_is_answered(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/protocol.md").read_text(encoding="utf-8")
    example = re.search(
        r"curl 'http://127\.0\.0\.1:4985/notes/_access\?([^']*)'\n```\n\n```json\n(.*?)\n```", page, re.DOTALL
    )
    assert example is not None
    notes = {**DATABASES["notes"], "users": {"ann": {"password": "ann"}}}
    async with site_on("embedded", tmp_path, {"notes": notes}) as running, AsyncExitStack() as stack:
        admin = await Place(running, "notes", stack).admin()
        rev = await admin.put("minutes", channels="board")
        await admin.put("appointment", grants={"ann": "board"})
        await admin.put("minutes", rev, channels="board", text="We met.")
        assert await admin.get("/_access", **dict(parse_qsl(example[1]))) == json.loads(example[2])
