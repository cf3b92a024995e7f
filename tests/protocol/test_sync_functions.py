"""The functions of sync_functions/ on a real gateway: who gains, who is refused, what arrives on whose device."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.protocol.site import Person, Site, site_on
from tests.running import client

pytestmark = pytest.mark.asyncio(loop_scope="session")

FUNCTIONS: Final = Path(__file__).parents[2] / "sync_functions"
PEOPLE: Final = ("ann", "bob", "eve")
OFFICE: Final[dict[str, dict[str, Any]]] = {
    "private_and_shared": {"admin_channels": ["*"]},
    "team_membership": {"admin_roles": ["hr"], "admin_channels": ["*"]},
    "retail_chain": {"admin_roles": ["head_office"], "admin_channels": ["*"]},
    "chat_rooms": {"admin_roles": ["moderator"]},
}
ROLES: Final[dict[str, dict[str, Any]]] = {
    "private_and_shared": {"editor": {}},
    "team_membership": {"hr": {}, "team-red": {"admin_channels": ["team:red"]}, "lead-red": {}},
    "retail_chain": {"head_office": {}, "region-north": {}},
    "chat_rooms": {"moderator": {"admin_channels": ["*", "moderate"]}},
}


def _database(function: str) -> dict[str, Any]:
    users: dict[str, Any] = {name: {"password": f"{name}-pw"} for name in PEOPLE}
    users["olga"] = {"password": "olga-pw", **OFFICE.get(function, {})}
    if function == "by_document_channels":
        users["ann"]["admin_channels"] = ["news"]
    if function == "retail_chain":
        users["ann"]["admin_channels"] = ["shop:north-1"]
    return {"sync": str(FUNCTIONS / f"{function}.js"), "users": users, "roles": ROLES.get(function, {})}


NAMES: Final = sorted(file.stem for file in FUNCTIONS.glob("*.js"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site_of_functions(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    databases = {name: _database(name) for name in NAMES}
    async with site_on("embedded", tmp_path_factory.mktemp("functions"), databases) as running:
        yield running


@dataclass(slots=True)
class World:
    """ann, bob and eve, whom nobody gave anything, and olga, who has what an office has."""

    ann: Person
    bob: Person
    eve: Person
    olga: Person


@pytest_asyncio.fixture(loop_scope="session")
async def world(request: pytest.FixtureRequest, site_of_functions: Site) -> AsyncIterator[World]:
    """The people of the database that the test is about."""
    base = f"{site_of_functions.gateway.public}/{request.param}"
    async with AsyncExitStack() as stack:
        people = [
            Person(name, await stack.enter_async_context(client(base, name, f"{name}-pw")), base)
            for name in (*PEOPLE, "olga")
        ]
        yield World(*people)


def about(function: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("world", [function], indirect=True, ids=[function])


async def refused(person: Person, id: str, rev: str | None = None, **body: Any) -> None:
    """The write is refused by the function."""
    answer = await person.http.put(f"/{id}", json=body, params={"rev": rev} if rev else None)
    assert (answer.status_code, answer.json()["code"]) == (403, "CG5000"), answer.text


async def holds(person: Person, *ids: str) -> None:
    """Just these are what the person's device has after following the feed from the beginning, and can be read."""
    rows = await person.read(limit=2)
    alive = {row["id"]: row["changes"][0]["rev"] for row in rows if not row.get("deleted")}
    assert sorted(alive) == sorted(ids)
    assert sorted(await person.held()) == sorted(ids)
    for id, rev in alive.items():
        assert (await person.get(f"/{id}"))["_rev"] == rev


async def unreadable(person: Person, id: str) -> None:
    assert await person.status("GET", f"/{id}") in (403, 404)


@about("by_document_channels")
async def test_documents_are_in_the_channels_they_name(world: World) -> None:
    await world.bob.put("n", channels=["news"])
    await world.bob.put("s", channels="sport")
    await world.bob.put("p", channels=["!"])
    await holds(world.ann, "n", "p")
    await holds(world.eve, "p")
    await unreadable(world.eve, "n")


@about("private_and_shared")
async def test_everybody_has_the_own_and_the_common_documents_and_analysts_all(world: World) -> None:
    mine = await world.ann.put("mine", owner="ann")
    await world.bob.put("his", owner="bob")
    await refused(world.eve, "common", shared=True)
    await refused(world.bob, "mine", mine, owner="bob")
    await holds(world.ann, "mine")
    await holds(world.bob, "his")
    await holds(world.olga, "his", "mine")
    await refused(world.olga, "mine", mine, owner="ann", text="changed")
    gone = await world.ann.delete("mine", mine)
    await world.bob.put("mine", gone, owner="bob")
    await holds(world.ann)
    await holds(world.bob, "his", "mine")


@about("owner_readers_writers")
async def test_only_the_owner_says_who_else_reads_and_writes(world: World) -> None:
    rev = await world.ann.put("d", owner="ann", readers=["bob"])
    await holds(world.bob, "d")
    await holds(world.eve)
    await refused(world.bob, "d", rev, owner="ann", readers=["bob"], text="changed")
    await refused(world.eve, "d", rev, owner="eve")
    async with world.eve.following() as feed:
        rev = await world.ann.put("d", rev, owner="ann", readers=["bob"], writers=["eve"])
        assert await feed.ids(1) == ["d"]
    rev = await world.eve.put("d", rev, owner="ann", readers=["bob"], writers=["eve"], text="written")
    await refused(world.eve, "d", rev, owner="ann", readers=[], writers=["eve"])
    rev = await world.ann.put("d", rev, owner="ann", writers=["eve"])
    await holds(world.bob)
    await unreadable(world.bob, "d")
    # A history of his own is judged by what is there now.
    await refused(world.bob, "d?new_edits=false", None, _rev="9-" + "f" * 32, owner="bob")


@about("team_membership")
async def test_members_come_and_go_by_documents(world: World) -> None:
    lead: dict[str, Any] = {"type": "member", "team": "red", "user": "ann", "lead": True}
    await refused(world.ann, "member:red:ann", **lead)
    await world.olga.put("member:red:ann", **lead)
    await world.ann.put("t1", type="task", team="red")
    await refused(world.bob, "member:red:bob", type="member", team="red", user="bob")
    async with world.bob.following() as feed:
        rev = await world.ann.put("member:red:bob", type="member", team="red", user="bob")
        assert sorted(await feed.ids(3)) == ["member:red:ann", "member:red:bob", "t1"]
    await world.bob.put("t2", type="task", team="red")
    await refused(world.eve, "t3", type="task", team="red")
    await holds(world.eve)
    await world.ann.delete("member:red:bob", rev)
    await holds(world.bob)
    await unreadable(world.bob, "t1")
    await holds(world.ann, "member:red:ann", "t1", "t2")


@about("todo_lists")
async def test_lists_are_shared_by_invitation(world: World) -> None:
    await world.ann.put("list:ann:home", type="list", owner="ann")
    item = await world.ann.put("i1", type="item", list="ann:home", text="milk")
    invitation: dict[str, Any] = {"type": "invite", "list": "ann:home", "user": "bob"}
    await refused(world.bob, "invite:ann:home:bob", **invitation)
    await refused(world.bob, "i2", type="item", list="ann:home")
    await world.ann.put("invite:ann:home:bob", **invitation)
    await holds(world.bob, "i1", "invite:ann:home:bob", "list:ann:home")
    await world.bob.put("i1", item, type="item", list="ann:home", done=True)
    await refused(world.bob, "invite:ann:home:eve", type="invite", list="ann:home", user="eve")
    rev = (await world.bob.get("/invite:ann:home:bob"))["_rev"]
    gone = await world.bob.delete("invite:ann:home:bob", rev)
    await holds(world.bob)
    await refused(world.bob, "invite:ann:home:bob", gone, **invitation)
    await holds(world.eve)


@about("retail_chain")
async def test_a_region_gives_its_shops_to_its_manager(world: World) -> None:
    await world.ann.put("o1", type="order", shop="north-1")
    await world.olga.put("tea", type="product", name="tea")
    await holds(world.bob, "tea")
    region: dict[str, Any] = {"type": "region", "name": "north", "manager": "bob", "shops": ["north-1"]}
    await refused(world.bob, "region", **region)
    rev = await world.olga.put("region", **region)
    await holds(world.bob, "o1", "region", "tea")
    await world.olga.put("region", rev, **{**region, "manager": "eve"})
    await holds(world.bob, "tea")
    await holds(world.eve, "o1", "region", "tea")
    await refused(world.bob, "o2", type="order", shop="north-1")


@about("chat_rooms")
async def test_a_room_is_its_members(world: World) -> None:
    room: dict[str, Any] = {"type": "room", "owner": "ann"}
    rev = await world.ann.put("room:tea", **room, members=["bob"])
    hello = await world.bob.put("m1", type="message", room="tea", **{"from": "bob"}, text="hello")
    await refused(world.eve, "m2", type="message", room="tea", **{"from": "eve"})
    await refused(world.eve, "room:tea", rev, **room, members=["bob", "eve"])
    await refused(world.ann, "m1", hello, type="message", room="tea", **{"from": "ann"})
    await holds(world.bob, "m1", "room:tea")
    await holds(world.eve)
    rev = await world.ann.put("room:tea", rev, **room, members=["eve"])
    await holds(world.bob)
    await holds(world.eve, "m1", "room:tea")
    await refused(world.eve, "m1", hello, _deleted=True)
    await world.olga.delete("m1", hello)
    await world.ann.put("m3", type="message", room="tea", **{"from": "ann"})
    gone = await world.ann.delete("room:tea", rev)
    await refused(world.bob, "room:tea", gone, type="room", owner="bob", members=[])
    forged = await world.bob.http.put("/room:tea", params={"rev": gone}, json={"_deleted": True, "owner": "bob"})
    again = forged.json().get("rev", gone)
    await refused(world.bob, "room:tea", again, type="room", owner="bob", members=[])
    await unreadable(world.bob, "m3")
