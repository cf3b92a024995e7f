"""`_users` and `_security`, as a CouchDB administrator expects them: members of a database see all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.protocol.site import DATABASES, Lines, site_on
from tests.protocol.test_created_databases import LET_IN, OPS, Server
from tests.running import client

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    databases = {"notes": DATABASES["notes"], "other": {"users": {"ann": {"password": "own-pw"}}}}
    async with site_on("embedded", tmp_path, databases, **LET_IN) as site:
        yield Server(site)


def user(name: str, password: str | None = None, *roles: str, **more: Any) -> dict[str, Any]:
    given = {} if password is None else {"password": password}
    return {"_id": f"org.couchdb.user:{name}", "name": name, "type": "user", "roles": list(roles), **given, **more}


async def put(server: Server, doc: dict[str, Any]) -> httpx.Response:
    return await server.ask("PUT", f"/_users/{doc['_id']}", json=doc)


async def members(server: Server, database: str, *names: str, roles: tuple[str, ...] = ()) -> None:
    value = {"members": {"names": list(names), "roles": list(roles)}, "admins": {"names": [], "roles": []}}
    answer = await server.ask("PUT", f"/{database}/_security", json=value)
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    assert (await server.ask("GET", f"/{database}/_security")).json() == value


async def sees(server: Server, database: str, name: str, password: str) -> int | list[str]:
    """The documents of a database, or the status of being refused."""
    async with client(f"{server.url}/{database}", name, password) as http:
        answer = await http.get("/_all_docs")
        return [row["id"] for row in answer.json()["rows"]] if answer.status_code == 200 else answer.status_code


async def test_a_member_gains_access_to_all_channels_of_the_databases_that_name_it(server: Server) -> None:
    for doc in ({"_id": "a", "channels": ["x"]}, {"_id": "b"}):
        assert (await server.ask("POST", "/notes", json=doc)).status_code == 201
    assert (await put(server, user("bob", "bob-pw"))).status_code == 201
    assert await sees(server, "notes", "bob", "bob-pw") == 403
    await members(server, "notes", "bob")
    assert await sees(server, "notes", "bob", "bob-pw") == ["a", "b"]
    assert await sees(server, "notes", "bob", "wrong") == 401
    assert await sees(server, "other", "bob", "bob-pw") == 403
    await members(server, "notes", roles=("staff",))
    assert await sees(server, "notes", "bob", "bob-pw") == 403
    found = (await server.ask("GET", "/_users/org.couchdb.user:bob")).json()
    assert (await put(server, {**found, "roles": ["staff"]})).status_code == 201
    assert await sees(server, "notes", "bob", "bob-pw") == ["a", "b"], "the password is kept where none is given"
    await server.site.gateway.kill()
    await server.site.gateway.start()
    assert await sees(server, "notes", "bob", "bob-pw") == ["a", "b"]


async def test_a_members_feed_ends_with_the_membership_and_with_the_user(server: Server) -> None:
    rev = (await put(server, user("bob", "bob-pw"))).json()["rev"]
    for end in ("the membership", "the user"):
        await members(server, "notes", "bob")
        async with (
            client(f"{server.url}/notes", "bob", "bob-pw") as bob,
            bob.stream("GET", "/_changes", params={"feed": "continuous", "heartbeat": "1000"}) as feed,
        ):
            lines = Lines(feed)
            assert (await server.ask("POST", "/notes", json={})).status_code == 201
            await lines.row()
            if end == "the membership":
                await members(server, "notes")
            else:
                gone = await server.ask("DELETE", "/_users/org.couchdb.user:bob", params={"rev": rev})
                assert (gone.status_code, gone.json()["ok"]) == (200, True)
            while "error" not in (row := await lines.row()):
                pass
            assert row["error"] == "unauthorized"
        assert await sees(server, "notes", "bob", "bob-pw") == (403 if end == "the membership" else 401)


async def test_a_user_of_the_databases_own_keeps_its_own_password(server: Server) -> None:
    assert (await server.ask("POST", "/other", json={"_id": "a"})).status_code == 201
    await put(server, user("ann", "server-pw"))
    await members(server, "other", "ann")
    assert await sees(server, "other", "ann", "own-pw") == ["a"]
    assert await sees(server, "other", "ann", "server-pw") == 403


async def test_users_are_documents_with_revisions_and_no_trace_of_the_password(server: Server) -> None:
    first = await put(server, user("zoë", "secret-pw", "r", shoe_size=41))
    rev = first.json()["rev"]
    assert first.json() == {"ok": True, "id": "org.couchdb.user:zoë", "rev": rev}
    assert (await put(server, user("zoë", "x-pw"))).status_code == 409
    read = await server.ask("GET", "/_users/org.couchdb.user:zo%C3%AB")
    assert read.json() == {**user("zoë", None, "r", shoe_size=41), "_rev": rev, "password_scheme": "argon2id"}
    assert "secret" not in read.text
    changed = await put(server, user("zoë", None, "r", _rev=rev))
    assert changed.json()["rev"].startswith("2-")
    assert (await server.ask("DELETE", "/_users/org.couchdb.user:zoë", params={"rev": rev})).status_code == 409
    gone = await server.ask("DELETE", "/_users/org.couchdb.user:zoë", params={"rev": changed.json()["rev"]})
    assert gone.json()["rev"].startswith("3-")
    missing = await server.ask("GET", "/_users/org.couchdb.user:zoë")
    assert (missing.status_code, missing.json()["reason"]) == (404, "deleted")
    again = await put(server, user("zoë", "new-pw"))
    assert again.json()["rev"].startswith("4-")


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"type": "admin"}, 403, "doc.type must be user"),
        ({"name": ""}, 403, "doc.name is required"),
        ({"roles": None}, 403, "doc.roles must exist"),
        ({"roles": "x"}, 403, "doc.roles must be an array"),
        ({"roles": [1]}, 403, "doc.roles can only contain strings"),
        ({"name": "eve"}, 403, "Doc ID must be of the form org.couchdb.user:name"),
        ({"roles": ["_admin"]}, 403, "No system roles (starting with underscore) in users db."),
        ({"password": ""}, 400, "Empty passwords are not allowed"),
        ({"password": 5}, 400, "password must be a string"),
        ({"derived_key": "x", "salt": "y"}, 400, "a hash of a password cannot be taken over: give the password"),
        ({"_attachments": {}}, 400, "_attachments cannot be stored in _users here"),
    ],
)
async def test_what_couchdb_refuses_of_a_user_is_refused_in_its_words(
    server: Server, change: dict[str, Any], status: int, reason: str
) -> None:
    refused = await server.ask("PUT", "/_users/org.couchdb.user:bob", json={**user("bob", "bob-pw"), **change})
    assert (refused.status_code, refused.json()["reason"]) == (status, reason)
    assert (await server.ask("GET", "/_users/org.couchdb.user:bob")).status_code == 404


async def test_names_that_no_user_can_have_are_refused(server: Server) -> None:
    for name in ("_x", "a:b", "GUEST", "a,b", "x" * 300):
        refused = await put(server, user(name, "some-pw"))
        assert (refused.status_code, refused.json()["error"]) == (403, "forbidden"), name
    assert (await server.ask("PUT", "/_users/someone", json=user("bob", "bob-pw"))).status_code == 403


async def test_nobody_but_an_administrator_sees_or_makes_a_user(server: Server) -> None:
    await put(server, user("bob", "bob-pw"))
    await put(server, user("eve", "eve-pw"))
    await members(server, "notes", "bob", "eve")
    for login in ((), ("bob", "bob-pw"), (OPS[0], "wrong")):
        async with client(server.url, *login) as http:
            for method, path in (("PUT", "/_users/org.couchdb.user:new"), ("GET", "/_users/org.couchdb.user:bob")):
                refused = await http.request(method, path, json=user("new", "new-pw") if method == "PUT" else None)
                assert (refused.status_code, refused.json()["error"]) == (401, "unauthorized")
    async with client(f"{server.url}/notes", "bob", "bob-pw") as bob:
        told = (await bob.get("/_security")).json()
        assert told == {"members": {"names": ["bob"], "roles": []}, "admins": {"names": [], "roles": []}}
        assert (await bob.put("/_security", json={})).status_code == 403
        assert (await bob.get("/_revs_limit")).json() == 1000
        assert (await bob.put("/_revs_limit", json=1)).status_code == 403


async def test_a_user_of_no_database_logs_in_and_is_let_in_nowhere(server: Server) -> None:
    first = await put(server, user("bob", "bob-pw", "staff"))
    async with client(server.url) as bob:
        login = {"name": "bob", "password": "bob-pw"}
        assert (await bob.post("/_session", json={**login, "password": "wrong"})).status_code == 401
        answer = await bob.post("/_session", json=login)
        assert (answer.status_code, answer.json()) == (200, {"ok": True, "name": "bob", "roles": ["staff"]})
        said = (await bob.get("/_session")).json()
        assert said["userCtx"] == {"name": "bob", "roles": ["staff"]}
        assert said["info"]["authenticated"] == "cookie"
        for database in ("notes", "no_such_database"):
            refused = await bob.get(f"/{database}")
            assert (refused.status_code, refused.json()["reason"]) == (403, "You are not allowed to access this db.")
        body = user("bob", "another-pw", "staff", _rev=first.json()["rev"])
        assert (await put(server, body)).status_code == 201
        assert (await bob.get("/_session")).json()["userCtx"]["name"] is None, "another password ends the login"
        assert (await bob.get("/notes")).status_code == 401
    for name, password, status in (("bob", "bob-pw", 401), ("bob", "another-pw", 403), ("eve", "another-pw", 401)):
        for database in ("notes", "no_such_database"):
            assert await sees(server, database, name, password) == status
        async with client(server.url, name, password) as http:
            assert (await http.get("/_session")).status_code == (200 if status == 403 else 401)


async def test_the_cookie_of_a_user_of_no_database_is_the_guest_where_there_is_one(server: Server) -> None:
    name = await server.make()
    await put(server, user("bob", "bob-pw"))
    async with client(server.site.gateway.admin, *OPS) as ops:
        opened = await ops.put(f"/{name}/_user/GUEST", json={"disabled": False, "admin_channels": ["!"]})
        assert opened.status_code == 200, opened.text
    async with client(server.url) as bob:
        assert (await bob.post("/_session", json={"name": "bob", "password": "bob-pw"})).status_code == 200
        assert (await bob.get(f"/{name}/_session")).json()["userCtx"]["name"] is None
        assert (await bob.get(f"/{name}")).status_code == 200
        assert (await bob.delete("/_session")).status_code == 200
        assert (await bob.get("/_session")).json()["userCtx"]["name"] is None


async def test_who_may_see_all_users_is_told_and_cannot_be_changed(server: Server) -> None:
    told = await server.ask("GET", "/_users/_security")
    assert (told.status_code, told.json()) == (200, {"members": {"roles": ["_admin"]}, "admins": {"roles": ["_admin"]}})
    assert (await server.ask("PUT", "/_users/_security", json={})).status_code == 501
