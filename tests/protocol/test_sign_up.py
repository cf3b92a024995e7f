"""Sign-up: where the config file allows it, anybody makes a user of the server for himself, and changes only that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from gateway import limits
from tests.protocol.site import DATABASES, site_on
from tests.protocol.test_created_databases import LET_IN, OPS, Server
from tests.running import client

pytestmark = pytest.mark.asyncio(loop_scope="session")
PASSWORD: Final = "bob-pw"
SETTINGS: dict[str, Any] = {**LET_IN, "public": {"allow_admins": True, "sign_up": True}}


@pytest_asyncio.fixture(loop_scope="session")
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    databases = {"notes": DATABASES["notes"], "other": {"users": {"ann": {"password": "own-pw"}}}}
    async with site_on("embedded", tmp_path, databases, **SETTINGS) as site:
        yield Server(site)


def path(name: str) -> str:
    return f"/_users/org.couchdb.user:{name}"


def user(name: str, password: str | None = PASSWORD, *roles: str, **more: Any) -> dict[str, Any]:
    given = {} if password is None else {"password": password}
    return {"name": name, "type": "user", "roles": list(roles), **given, **more}


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("reason", "")


async def test_anybody_signs_up_and_is_what_security_makes_of_him(server: Server) -> None:
    async with client(server.url) as anybody:
        made = await anybody.put(path("bob"), json=user("bob", color="red"))
        assert (made.status_code, made.json()["id"]) == (201, "org.couchdb.user:bob")
        assert (await anybody.post("/_users", json={"_id": "org.couchdb.user:eve", **user("eve")})).status_code == 201
    async with client(server.url, "bob", "bob-pw") as bob:
        assert (await bob.get("/notes")).status_code == 403, "in no database"
        assert (await bob.get("/_session")).json()["userCtx"] == {"name": "bob", "roles": []}
        await server.ask("PUT", "/notes/_security", json={"members": {"names": ["bob"], "roles": []}})
        assert (await bob.get("/notes")).status_code == 200


async def test_nobody_is_overwritten_and_no_roles_are_taken(server: Server) -> None:
    async with client(server.url) as anybody:
        made = (await anybody.put(path("bob"), json=user("bob"))).json()
        for doc in (user("bob", "other"), user("bob", "other", _rev=made["rev"])):
            assert told(await anybody.put(path("bob"), json=doc)) == (409, "Document update conflict.")
        assert told(await anybody.put(path("eve"), json=user("eve", "eve-pw", "staff"))) == (
            403,
            "Only _admin may set roles",
        )
        gone = {"_deleted": True, "_rev": made["rev"]}
        assert told(await anybody.put(path("bob"), json=gone)) == (403, "Only admins may delete other user docs.")
        for name in (OPS[0], "ann"):  # an administrator, and a user of a database
            assert (await anybody.put(path(name), json=user(name))).status_code == 409, name
        assert (await anybody.put(path("eve"), json=user("eve", None))).status_code == 400
        assert (await anybody.put(path("eve"), json=user("mallory"))).status_code == 403
        for method, where in (("GET", path("bob")), ("DELETE", path("bob")), ("GET", "/_users/_all_docs")):
            assert told(await anybody.request(method, where)) == (401, "You are not a server admin.")
    assert (await server.ask("GET", path("eve"))).status_code == 404
    async with client(server.url, "bob", "bob-pw") as bob:
        assert (await bob.get(path("bob"))).json()["_rev"] == made["rev"]


@pytest.mark.parametrize("by", ["basic", "cookie"])
async def test_each_reads_changes_and_deletes_only_his_own(server: Server, by: str) -> None:
    async with client(server.url) as bob:
        for name in ("bob", "eve"):
            assert (await bob.put(path(name), json=user(name))).status_code == 201

        async def log_in(password: str) -> None:
            if by == "basic":
                bob.auth = httpx.BasicAuth("bob", password)
            else:
                answer = await bob.post("/_session", json={"name": "bob", "password": password})
                assert answer.json() == {"ok": True, "name": "bob", "roles": []}

        await log_in("bob-pw")
        mine = (await bob.get(path("bob"))).json()
        assert not {"password", "derived_key", "salt"} & set(mine)
        assert told(await bob.get(path("eve"))) == (404, "missing")
        assert told(await bob.get(path("nobody"))) == (404, "missing")
        assert told(await bob.delete(path("eve"))) == (404, "missing")
        assert (await bob.put(path("eve"), json=user("eve"))).status_code == 409
        assert told(await bob.put(path("bob"), json={**mine, "roles": ["staff"]})) == (
            403,
            "Only _admin may edit roles",
        )
        assert (await bob.put(path("bob"), json={**mine, "_rev": "1-" + "0" * 32})).status_code == 409
        assert (await bob.get("/_users/_all_docs")).status_code == 401
        changed = await bob.put(path("bob"), json={**mine, "color": "red"})
        assert changed.status_code == 201
        assert (await bob.get(path("bob"))).json()["color"] == "red"
        new = {**mine, "_rev": changed.json()["rev"], "password": "new-pw"}
        assert (await bob.put(path("bob"), json=new)).status_code == 201
        assert (await bob.get(path("bob"))).status_code == 401, "the old login is over"
        await log_in("new-pw")
        if by == "cookie":
            assert (await bob.get("/_session")).json()["userCtx"] == {"name": "bob", "roles": []}
        rev = (await bob.get(path("bob"))).json()["_rev"]
        assert (await bob.delete(path("bob"), params={"rev": rev})).status_code == 200
        assert (await bob.get(path("bob"))).status_code == 401
    assert (await server.ask("GET", path("bob"))).status_code == 404


async def test_roles_that_an_administrator_gave_are_kept_and_not_changed(server: Server) -> None:
    await server.ask("PUT", path("bob"), json=user("bob", "bob-pw", "staff"))
    async with client(server.url, "bob", "bob-pw") as bob:
        mine = (await bob.get(path("bob"))).json()
        assert (await bob.put(path("bob"), json={**mine, "roles": []})).status_code == 403
        assert (await bob.put(path("bob"), json={**mine, "color": "red"})).status_code == 201


async def test_a_flood_of_sign_ups_is_refused(server: Server) -> None:
    async with client(server.url) as anybody:
        large = user("bob", text="x" * limits.SIGN_UP_BYTES)
        answer = await anybody.put(path("bob"), json=large)
        assert (answer.status_code, "SIGN_UP_BYTES" in answer.json()["reason"]) == (413, True)
        assert (await anybody.put(path("x" * 300), json=user("x" * 300))).status_code == 403
        for _ in range(limits.SIGN_UPS_OF_ADDRESS_COUNT - 1):
            assert (await anybody.put(path("bob"), json=user("bob", "x", "staff"))).status_code == 403
        answer = await anybody.put(path("bob"), json=user("bob"))
        assert (answer.status_code, "SIGN_UPS_OF_ADDRESS_COUNT" in answer.json()["reason"]) == (429, True)
    assert (await server.ask("PUT", path("bob"), json=user("bob"))).status_code == 201, "administrators go on"


async def test_without_the_switch_nobody_signs_up(tmp_path: Path) -> None:
    async with (
        site_on("embedded", tmp_path, {"notes": DATABASES["notes"]}, **LET_IN) as site,
        client(site.gateway.public) as anybody,
    ):
        for answer in (
            await anybody.put(path("bob"), json=user("bob")),
            await anybody.post("/_users", json={"_id": "org.couchdb.user:bob", **user("bob")}),
            await anybody.get(path("bob")),
        ):
            assert told(answer) == (401, "You are not a server admin.")
