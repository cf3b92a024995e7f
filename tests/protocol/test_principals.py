"""`/{db}/_user/…` and `/{db}/_role/…` on the admin port: Sync Gateway's JSON, statuses and merge rules."""

from __future__ import annotations

from typing import Any

import pytest

from tests.protocol.site import Person, Place, basic
from tests.protocol.test_changes import order
from tests.running import client

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def shown(admin: Person, name: str, kind: str = "_user") -> dict[str, Any]:
    return dict(await admin.get(f"/{kind}/{name}"))


async def test_a_user_is_shown_with_what_it_has_and_never_its_password(notes: Place) -> None:
    admin, ann = await notes.admin(), notes.name("ann")
    role = await notes.role("crew", notes.name("r"))
    body = {"password": "letmein", "email": "ann@x.org", "admin_channels": notes.names("b", "a"), "admin_roles": [role]}
    answer = await admin.http.put(f"/_user/{ann}", json={"name": ann, **body})
    assert answer.status_code == 201
    assert await shown(admin, ann) == {
        "name": ann,
        "email": "ann@x.org",
        "disabled": False,
        "admin_channels": notes.names("a", "b"),
        "admin_roles": [role],
        "roles": [role],
        "all_channels": ["!", *notes.names("a", "b", "r")],
    }
    assert (await admin.http.head(f"/_user/{ann}")).status_code == 200
    assert await shown(admin, role, "_role") == {
        "name": role,
        "admin_channels": [notes.name("r")],
        "all_channels": ["!", notes.name("r")],
    }


async def test_what_is_not_named_stays_and_a_list_replaces_the_whole(notes: Place) -> None:
    admin, ann = await notes.admin(), await notes.user("ann", *notes.names("a", "b"))
    await notes.change_user(ann, email="ann@x.org")
    await notes.change_user(ann, email=None, admin_channels=None)
    found = await shown(admin, ann.name)
    assert (found["email"], found["admin_channels"]) == ("ann@x.org", notes.names("a", "b"))
    await notes.change_user(ann, admin_channels=notes.names("b", "c"))
    assert (await shown(admin, ann.name))["admin_channels"] == notes.names("b", "c")
    await notes.change_user(ann, admin_channels=[])
    found = await shown(admin, ann.name)
    assert "admin_channels" not in found
    assert found["all_channels"] == ["!"]
    assert await ann.status("GET", "") == 200, "the password was not named"


async def test_a_surviving_channel_is_not_sent_again(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    await ann.put(notes.name("in-a"), channels=notes.name("a"))
    await bob.put(notes.name("in-b"), channels=notes.name("b"))
    at = await ann.now()
    await notes.change_user(ann, admin_channels=notes.names("a", "b"))
    assert await ann.listed(since=at) == [notes.name("in-b")]


async def test_a_change_that_changes_nothing_takes_no_sequence(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    at = await ann.now()
    await notes.change_user(ann, admin_channels=[notes.name("a")], disabled=False)
    assert await ann.now() == at
    await notes.change_user(ann, admin_channels=[notes.name("b")])
    assert order(await ann.now()) == (order(at)[0] + 1, order(at)[1])


async def test_post_creates_and_refuses_what_is_there(notes: Place) -> None:
    admin, ann = await notes.admin(), notes.name("ann")
    body = {"name": ann, "password": "letmein"}
    for path in ("/_user/", "/_user"):
        answer = await admin.http.post(path, json={**body, "name": f"{ann}{len(path)}"})
        assert answer.status_code == 201
    answer = await admin.http.post("/_user/", json={**body, "name": f"{ann}{len('/_user')}"})
    assert answer.status_code == 409
    answer = await admin.http.post("/_user/", json={"password": "letmein"})
    assert (answer.status_code, answer.json()["reason"]) == (400, "Missing name property")
    assert (await admin.http.post("/_role/", json={"name": notes.name("crew")})).status_code == 201
    assert (await admin.http.post("/_role/", json={"name": notes.name("crew")})).status_code == 409


async def test_creating_is_201_and_changing_200(notes: Place) -> None:
    admin = await notes.admin()
    for kind, body in (("_user", {"password": "letmein"}), ("_role", {})):
        statuses = [await admin.status("PUT", f"/{kind}/{notes.name('x')}", json=body) for _ in range(2)]
        assert statuses == [201, 200]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"password": ""},
        {"password": "ab"},
        {"password": 1},
        {"password": "letmein", "name": "other"},
        {"password": "letmein", "admin_channels": "a"},
        {"password": "letmein", "admin_channels": ["a,b"]},
        {"password": "letmein", "admin_channels": [1]},
        {"password": "letmein", "admin_roles": ["a:b"]},
        {"password": "letmein", "disabled": "yes"},
        {"password": "letmein", "email": "nobody"},
        {"password": "letmein", "all_channels": ["a"]},
        {"password": "letmein", "roles": ["a"]},
        {"password": "letmein", "colour": "red"},
        [],
    ],
)
async def test_a_user_that_is_not_in_order_is_400_and_not_created(notes: Place, body: object) -> None:
    admin = await notes.admin()
    answer = await admin.http.put(f"/_user/{notes.name('ann')}", json=body)
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error", "reason", "code"}
    assert await admin.status("GET", f"/_user/{notes.name('ann')}") == 404


@pytest.mark.parametrize("name", ["a,b", "a%2Fb", "a:b", "a%60b", "%20", "x" * 240])
async def test_a_bad_name_is_400(notes: Place, name: str) -> None:
    admin = await notes.admin()
    assert await admin.status("PUT", f"/_user/{name}", json={"password": "letmein"}) == 400
    assert await admin.status("PUT", f"/_role/{name}", json={}) == 400


async def test_a_name_may_have_spaces_signs_and_other_alphabets(notes: Place) -> None:
    admin, name = await notes.admin(), notes.name("zoë 50% @x|y")
    async with client(notes.url, name, "letmein") as zoe:
        path = "/_user/" + name.replace("%", "%25")
        assert await admin.status("PUT", path, json={"password": "letmein"}) == 201
        assert (await zoe.get("")).status_code == 200
        assert (await admin.http.get(path)).json()["name"] == name


async def test_lists_name_everybody_but_the_guest(notes: Place) -> None:
    admin, ann = await notes.admin(), await notes.user("ann")
    bob = await notes.user("bob")
    await notes.change_user(ann, email="ann@x.org")
    await notes.change_user(bob, disabled=True)
    names = await admin.get("/_user/")
    assert names == sorted(names)
    assert {ann.name, bob.name} <= set(names)
    assert "GUEST" not in names
    assert await admin.get("/_user") == names
    full = {one["name"]: one for one in await admin.get("/_user/", name_only="false")}
    assert full[ann.name] == {"name": ann.name, "email": "ann@x.org"}
    assert full[bob.name] == {"name": bob.name, "disabled": True}
    assert len(await admin.get("/_user/", name_only="false", limit=1)) == 1
    assert await admin.status("GET", "/_user/", params={"limit": 1}) == 400
    assert await notes.role("crew") in await admin.get("/_role/")


async def test_a_deleted_user_is_gone_and_a_new_one_of_that_name_starts_anew(notes: Place) -> None:
    admin, ann = await notes.admin(), await notes.user("ann", notes.name("a"))
    await ann.put(notes.name("doc"), channels=notes.name("a"))
    assert await admin.status("DELETE", f"/_user/{ann.name}") == 200
    assert await admin.status("GET", f"/_user/{ann.name}") == 404
    assert await admin.status("DELETE", f"/_user/{ann.name}") == 404
    assert await ann.status("GET", "") == 401
    ann = await notes.user("ann", notes.name("b"))
    assert (await shown(admin, ann.name))["admin_channels"] == [notes.name("b")]
    assert await ann.held() == []


async def test_a_deleted_role_takes_its_channels_along(notes: Place) -> None:
    admin = await notes.admin()
    role = await notes.role("crew", notes.name("a"))
    ann = await notes.user("ann", roles=[role])
    await admin.put(notes.name("doc"), channels=notes.name("a"))
    assert await ann.held() == [notes.name("doc")]
    assert await admin.status("DELETE", f"/_role/{role}") == 200
    assert await admin.status("GET", f"/_role/{role}") == 404
    assert await ann.held() == []
    at = await ann.now()
    await notes.role("crew", notes.name("a"))
    assert await ann.held() == [notes.name("doc")]
    assert await ann.listed(since=at) == [notes.name("doc")]


async def test_a_role_that_does_not_exist_yet_counts_when_it_appears(notes: Place) -> None:
    admin, ann = await notes.admin(), await notes.user("ann", roles=[notes.name("crew")])
    await admin.put(notes.name("doc"), channels=notes.name("a"))
    assert await ann.held() == []
    await notes.role("crew", notes.name("a"))
    assert await ann.held() == [notes.name("doc")]


async def test_documents_grant_channels_and_roles_and_take_them_back(notes: Place) -> None:
    admin, ann = await notes.admin(), await notes.user("ann")
    role = await notes.role("crew", notes.name("r"))
    rev = await admin.put(notes.name("g"), grants={ann.name: notes.names("a", "b")}, roles={ann.name: f"role:{role}"})
    found = await shown(admin, ann.name)
    assert (found["all_channels"], found["roles"]) == (["!", *notes.names("a", "b", "r")], [role])
    assert "admin_channels" not in found
    rev = await admin.put(notes.name("g"), rev=rev, grants={ann.name: notes.name("b")})
    assert (await shown(admin, ann.name))["all_channels"] == ["!", notes.name("b")]
    await admin.delete(notes.name("g"), rev)
    assert (await shown(admin, ann.name))["all_channels"] == ["!"]


async def test_access_from_two_sources_ends_with_the_last(notes: Place) -> None:
    admin, ann = await notes.admin(), await notes.user("ann", notes.name("a"))
    revs = [await admin.put(notes.name(f"g{n}"), grants={ann.name: notes.name("a")}) for n in range(2)]
    await admin.put(notes.name("doc"), channels=notes.name("a"))
    at = await ann.now()
    await notes.change_user(ann, admin_channels=[])
    await admin.delete(notes.name("g0"), revs[0])
    assert await ann.held() == [notes.name("doc")]
    assert await ann.listed(since=at) == [], "nothing was lost in between, so nothing comes again"
    await admin.delete(notes.name("g1"), revs[1])
    assert await ann.held() == []


async def test_a_new_password_ends_the_old_one_at_once(notes: Place) -> None:
    ann = await notes.user("ann")
    assert await ann.status("GET", "") == 200
    await notes.change_user(ann, password="another")
    assert await ann.status("GET", "") == 401
    async with client(notes.url) as device:
        assert (await device.get("", headers=basic(ann.name, "another"))).status_code == 200


async def test_a_disabled_user_is_refused_everywhere_until_enabled(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    await notes.change_user(ann, disabled=True)
    for method, path in (("GET", ""), ("GET", "/_changes"), ("PUT", "/doc"), ("GET", "/_local/x")):
        assert await ann.status(method, path, json={}) == 401
    await notes.change_user(ann, disabled=False)
    assert await ann.status("GET", "") == 200


async def test_the_guest_can_be_changed_and_not_deleted(notes: Place) -> None:
    admin = await notes.admin()
    assert (await shown(admin, "GUEST"))["disabled"] is True
    assert await admin.status("DELETE", "/_user/GUEST") == 405
    assert await admin.status("PUT", "/_user/GUEST", json={"password": "letmein"}) == 400


async def test_the_guest_reads_its_channels_while_it_is_enabled(square: Place) -> None:
    admin, ann, guest = await square.admin(), await square.user("ann", square.name("a")), await square.guest()
    await ann.put(square.name("hidden"), channels=square.name("a"))
    for name, channels in (("public", "!"), ("inside", "lobby")):
        await ann.put(square.name(name), channels=channels)
    assert square.mine(await guest.held()) == square.names("inside", "public")
    assert sorted(square.mine(await guest.listed())) == square.names("inside", "public")
    assert await guest.status("GET", f"/{square.name('hidden')}") == 403
    assert await guest.status("PUT", f"/{square.name('new')}", json={"writers": ["GUEST"]}) == 201
    refused = await guest.http.put(f"/{square.name('needy')}", json={"needs": square.name("a")})
    assert refused.status_code == 403
    try:
        assert await admin.status("PUT", "/_user/GUEST", json={"disabled": True}) == 200
        assert await guest.status("GET", "") == 401
        assert await ann.status("GET", "") == 200
    finally:
        assert await admin.status("PUT", "/_user/GUEST", json={"disabled": False}) == 200
    assert await guest.status("GET", "") == 200


async def test_the_public_port_knows_neither_users_nor_roles(notes: Place) -> None:
    ann = await notes.user("ann", "*")
    for path in ("/_user/", f"/_user/{ann.name}", "/_role/", "/_role/x"):
        for method in ("GET", "PUT", "DELETE"):
            assert await ann.status(method, path, json={}) in (400, 404, 405)
    assert await (await notes.admin()).status("GET", "/_role/x") == 404


async def test_a_session_says_who_is_logged_in_and_with_which_channels(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    context = (await ann.get("/_session"))["userCtx"]
    assert context["name"] == ann.name
    assert set(context["channels"]) == {"!", notes.name("a")}
    async with client(notes.url) as anybody:
        answer = (await anybody.get("/_session")).json()
        assert (answer["ok"], answer["userCtx"]["name"]) == (True, None)


async def test_local_documents_are_each_users_own(notes: Place) -> None:
    ann, bob = await notes.user("ann"), await notes.user("bob")
    at = await ann.now()
    answer = await ann.http.put("/_local/checkpoint", json={"n": 1})
    assert (answer.status_code, answer.json()) == (201, {"ok": True, "id": "_local/checkpoint", "rev": "0-1"})
    assert await ann.get("/_local/checkpoint") == {"_id": "_local/checkpoint", "_rev": "0-1", "n": 1}
    assert await bob.status("GET", "/_local/checkpoint") == 404
    assert await bob.status("PUT", "/_local/checkpoint", json={"n": 2}) == 201
    answer = await ann.http.put("/_local/checkpoint", json={"_rev": "0-1", "n": 3})
    assert answer.json()["rev"] == "0-2"
    assert (await bob.get("/_local/checkpoint"))["n"] == 2
    assert await ann.status("DELETE", "/_local/checkpoint", params={"rev": "0-2"}) == 200
    assert await ann.status("GET", "/_local/checkpoint") == 404
    assert await bob.status("GET", "/_local/checkpoint") == 200
    assert await ann.now() == at, "they are in no feed"
    assert await ann.held() == []
