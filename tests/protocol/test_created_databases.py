"""To a server admin the gateway is a CouchDB: databases made, used and deleted by request, through the public port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from tests.protocol.conftest import KINDS
from tests.protocol.pouch import ClientError, Driver
from tests.protocol.proxy import Proxy, proxy_to
from tests.protocol.site import Lines, Site, site_on
from tests.protocol.upstreams import embedded_server
from tests.running import GatewayProcess, client, write_config

pytestmark = pytest.mark.asyncio(loop_scope="session")

OPS: Final = ("ops", "ops-password")
LET_IN: Final[Mapping[str, Any]] = {
    "admins": {OPS[0]: {"password": OPS[1]}},
    "public": {"allow_admins": True},
    "default_database": {"sync": "function (doc) { channel(doc.room); }"},
}
EXISTS: Final = "The database could not be created, the file already exists."


class Server:
    """A gateway as a server admin sees it, at the public port."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.made: list[str] = []

    def name(self, prefix: str = "made_") -> str:
        """A name that no other database of the upstream has."""
        self.made.append(f"{prefix}{uuid.uuid4().hex[:12]}")
        return self.made[-1]

    @property
    def url(self) -> str:
        return self.site.gateway.public

    def ops(self) -> contextlib.AbstractAsyncContextManager[httpx.AsyncClient]:
        return client(self.url, *OPS)

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        async with self.ops() as http:
            return await http.request(method, path, **more)

    async def make(self, prefix: str = "made_") -> str:
        name = self.name(prefix)
        made = await self.ask("PUT", f"/{name}")
        assert made.status_code == 201, made.text
        return name

    async def user(self, database: str, user: str, *channels: str) -> tuple[str, str]:
        """A new user of a database; the login."""
        async with client(self.site.gateway.admin, *OPS) as http:
            body = {"password": f"{user}-pw", "admin_channels": list(channels)}
            answer = await http.put(f"/{database}/_user/{user}", json=body)
        assert answer.status_code in (200, 201), answer.text
        return user, f"{user}-pw"

    async def remove(self) -> None:
        """Leave nothing behind on a CouchDB that outlives the test."""
        for name in self.made:
            await self.ask("DELETE", f"/{name}")


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=KINDS)
async def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """A gateway that lets admins in at the public port; tests that do not stop it share it."""
    async with site_on(request.param, tmp_path_factory.mktemp("made"), {"notes": {}}, **LET_IN) as site:
        running = Server(site)
        yield running
        await running.remove()


@asynccontextmanager
async def own_server(kind: str, directory: Path, **more: Any) -> AsyncIterator[Server]:
    async with site_on(kind, directory, {"notes": {}}, **{**LET_IN, **more}) as site:
        running = Server(site)
        yield running
        await running.remove()


# With a client that was written for CouchDB


async def test_nano_makes_fills_lists_copies_and_destroys_a_database(server: Server, driver: Driver) -> None:
    url = server.url.replace("://", f"://{OPS[0]}:{OPS[1]}@")
    name = server.name()

    async def database(method: str, *args: Any) -> Any:
        return await driver.nano(url, method, *args, use=name)

    async def on_server(method: str, *args: Any) -> Any:
        return await driver.nano(url, method, *args)

    async def copy(doc: str, destination: str) -> Any:  # which nano has no way to send
        return (await server.ask("COPY", f"/{name}/{doc}", headers={"Destination": destination})).json()

    assert await on_server("db.create", name) == {"ok": True}
    with pytest.raises(ClientError) as raised:
        await on_server("db.create", name)
    assert (raised.value.status, raised.value.reason) == (412, EXISTS)
    assert name in await on_server("db.list")
    assert (await on_server("db.get", name))["db_name"] == name
    assert len((await on_server("uuids", 3))["uuids"]) == 3

    written = await database("insert", {"n": 1}, "a")
    assert (written["ok"], written["id"]) == (True, "a")
    made = await database("insert", {"n": 2})
    assert len(made["id"]) == 32
    bulk = await database("bulk", {"docs": [{"_id": f"b{at}"} for at in range(3)]})
    assert all(one["ok"] for one in bulk)
    copied = await copy("a", "copy%20of%20a")
    assert (copied["ok"], copied["id"]) == (True, "copy of a")
    await database("attachment.insert", "copy of a", "x.txt", "text", "text/plain", {"rev": copied["rev"]})
    copied_over = await copy("copy of a", f"a?rev={written['rev']}")
    assert copied_over["rev"].startswith("2-")
    assert (await database("get", "a"))["_attachments"]["x.txt"]["length"] == 4
    listed = await database("list")
    assert listed["total_rows"] == 6
    assert [row["id"] for row in listed["rows"]] == sorted(["a", made["id"], "b0", "b1", "b2", "copy of a"])
    assert (await database("head", "a"))["etag"] == f'"{copied_over["rev"]}"'
    assert (await database("destroy", "a", copied_over["rev"]))["ok"] is True
    assert (await database("info"))["doc_count"] == 5

    assert await on_server("db.destroy", name) == {"ok": True}
    assert name not in await on_server("db.list")
    with pytest.raises(ClientError) as raised:
        await database("get", "a")
    assert (raised.value.status, raised.value.reason) == (404, "Database does not exist.")
    with pytest.raises(ClientError) as raised:
        await on_server("db.destroy", name)
    assert raised.value.status == 404


async def test_pouchdb_makes_its_remote_database_as_a_server_admin(server: Server, driver: Driver) -> None:
    name = server.name()
    url = server.url.replace("://", f"://{OPS[0]}:{OPS[1]}@")
    here = await driver.device("here")
    await here.put("a", n=1)
    there = await driver.remote(f"{url}/{name}", skip_setup=False)
    await (await driver.begin("push", db=here.key, **{"with": there.key})).event("complete")
    assert await there.ids() == ["a"]
    await there.call("destroy")
    assert (await server.ask("GET", f"/{name}")).status_code == 404


# What it is to others


async def test_a_made_database_has_the_default_sync_function_and_users_of_its_own(server: Server) -> None:
    name = await server.make()
    ann = await server.user(name, "ann", "red")
    async with client(f"{server.url}/{name}", *ann) as http:
        assert (await http.put("/mine", json={"room": "red"})).status_code == 201
        assert (await server.ask("PUT", f"/{name}/other", json={"room": "blue"})).status_code == 201
        assert [row["id"] for row in (await http.get("/_all_docs")).json()["rows"]] == ["mine"]
        assert (await http.get("/other")).status_code == 403
        assert (await http.put("")).status_code == 412
        assert (await http.delete("")).status_code == 403
    async with client(f"{server.url}/notes", *ann) as http:
        assert (await http.get("")).status_code == 401, "a user of one database is nobody in another"


async def test_nobody_but_an_administrator_makes_a_database(server: Server) -> None:
    name = await server.make()
    ann = await server.user(name, "ann")
    absent = server.name()
    for login in (ann, None, ("ops", "wrong")):
        async with client(server.url, *(login or ())) as http:
            for method in ("PUT", "DELETE", "GET"):
                answer = await http.request(method, f"/{absent}")
                assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
    assert (await server.ask("GET", f"/{absent}")).status_code == 404


async def test_a_database_of_the_config_file_is_not_deleted_by_request(server: Server) -> None:
    refused = await server.ask("DELETE", "/notes")
    assert (refused.status_code, refused.json()["error"]) == (403, "forbidden")
    assert "config file" in refused.json()["reason"]
    assert (await server.ask("PUT", "/notes")).json()["reason"] == EXISTS
    assert (await server.ask("GET", "/notes")).status_code == 200


async def test_a_database_of_the_upstream_that_is_not_served_is_neither_shown_nor_adopted(server: Server) -> None:
    if server.site.server is None:
        pytest.skip("nobody but the gateway reaches this upstream")
    async with server.site.server.client() as upstream:
        name = f"foreign_{uuid.uuid4().hex[:12]}"
        assert (await upstream.put(f"/{name}")).status_code in (201, 202)
        assert (await upstream.put(f"/{name}/secret", json={})).status_code in (201, 202)
        try:
            refused = await server.ask("PUT", f"/{name}")
            assert (refused.status_code, refused.json()["error"], refused.json()["reason"]) == (
                412,
                "file_exists",
                EXISTS,
            )
            assert name not in (await server.ask("GET", "/_all_dbs")).json()
            for method, path in (("DELETE", ""), ("GET", ""), ("GET", "/secret"), ("GET", "/_all_docs")):
                assert (await server.ask(method, f"/{name}{path}")).status_code == 404
            info = await server.ask("POST", "/_dbs_info", json={"keys": [name, "notes"]})
            assert [("info" in one, one["key"]) for one in info.json()] == [(False, name), (True, "notes")]
            assert (await upstream.get(f"/{name}/secret")).status_code == 200
        finally:
            await upstream.delete(f"/{name}")


async def test_the_lists_of_databases_have_the_made_ones_in_order(server: Server) -> None:
    names = sorted([await server.make("listed_"), await server.make("listed_")])
    listed = (await server.ask("GET", f'/_all_dbs?startkey="{names[0]}"&endkey="{names[1]}"')).json()
    assert listed == names
    infos = (await server.ask("GET", f'/_dbs_info?startkey="{names[0]}"&endkey="{names[1]}"')).json()
    assert [(one["key"], one["info"]["db_name"], one["info"]["doc_count"]) for one in infos] == [
        (name, name, 0) for name in names
    ]
    assert (await server.ask("PUT", f"/{server.name()}?q=1&n=1")).status_code in (201, 202)


async def test_the_rest_of_the_server_is_couchdbs_or_said_not_to_be_there(server: Server) -> None:
    tasks = await server.ask("GET", "/_active_tasks")
    assert (tasks.status_code, tasks.json()) == (200, [])
    members = await server.ask("GET", "/_membership")
    assert sorted(members.json()) == ["all_nodes", "cluster_nodes"]
    if server.site.kind.startswith("embedded"):
        for method, path in (("GET", "/_node/_local/_stats"), ("GET", "/_scheduler/jobs"), ("PUT", "/_replicator")):
            absent = await server.ask(method, path)
            assert (absent.status_code, absent.json()["error"]) == (501, "not_implemented")
            assert path.split("/")[1] in absent.json()["reason"]
    welcome = (await server.ask("GET", "/")).json()
    assert len(bytes.fromhex(welcome["uuid"])) == 16
    if server.site.server is not None:
        async with server.site.server.client() as upstream:
            assert (await upstream.get("/")).json()["uuid"] != welcome["uuid"], "the gateway is a server of its own"


async def test_couchdbs_refusals_that_depend_on_what_is_there(server: Server) -> None:
    name = await server.make()
    again = await server.ask("PUT", f"/{name}?partitioned=true")
    assert (again.status_code, again.json()["reason"]) == (412, EXISTS)
    for method in ("POST", "GET"):
        gone = await server.ask(method, f"/{name}/_temp_view", json={"map": "function (doc) { emit(doc._id); }"})
        assert (gone.status_code, gone.json()["error"]) == (410, "gone")
        assert gone.json()["reason"] == "Temporary views are not supported in CouchDB"
    # A name that no database can have is not there for server admins, and not for others to know.
    for path in ("/_nothing", "/_nothing/_all_docs"):
        assert (await server.ask("GET", path)).status_code == 404
        async with client(server.url) as nobody:
            refused = await nobody.get(path)
        assert (refused.status_code, refused.json()["reason"]) == (401, "You are not a server admin.")


# The end of a database


async def test_a_database_made_again_has_nothing_of_the_old_one(server: Server) -> None:
    name = await server.make()
    ann = await server.user(name, "ann", "red")
    async with client(f"{server.url}/{name}", *ann) as http:
        assert (await http.put("/a", json={"room": "red", "n": 1})).status_code == 201
        assert (await http.put("/_local/checkpoint", json={"at": 1})).status_code == 201
        since = (await http.get("/_changes")).json()["last_seq"]
        assert (await server.ask("DELETE", f"/{name}")).status_code == 200
        assert (await http.get("/a")).status_code == 401
        assert (await server.ask("PUT", f"/{name}")).status_code == 201
        assert (await http.get("")).status_code == 401, "its users ended with it"
        await server.user(name, "ann", "red")
        assert (await http.get("/_local/checkpoint")).status_code == 404
        assert (await http.get("/a")).status_code == 404
        assert (await http.put("/b", json={"room": "red"})).status_code == 201
        changes = (await http.get("/_changes", params={"since": since})).json()
        assert [row["id"] for row in changes["results"]] == ["b"], "a position of the old one counts as 0"


async def test_a_session_of_a_deleted_database_is_none_of_the_one_made_after_it(server: Server) -> None:
    for restarts in (False, True):
        name = await server.make()
        user, password = await server.user(name, "ann", "red")
        async with client(server.url) as nobody:
            answer = await nobody.post("/_session", json={"name": user, "password": password})
        cookie = {"Cookie": f"AuthSession={answer.cookies['AuthSession']}"}
        async with client(f"{server.url}/{name}") as http:
            http.headers.update(cookie)
            assert (await http.get("")).status_code == 200
            assert (await server.ask("DELETE", f"/{name}")).status_code == 200
            assert (await server.ask("PUT", f"/{name}")).status_code == 201
            await server.user(name, "ann", "red")  # who has the same sequences as the first
            if not restarts:
                assert (await http.get("")).status_code == 401
        if restarts:
            await server.site.gateway.kill()
            await server.site.gateway.start()
            async with client(f"{server.url}/{name}") as http:
                http.headers.update(cookie)
                assert (await http.get("")).status_code == 401


async def test_running_feeds_end_with_their_database(server: Server) -> None:
    name = await server.make()
    ann = await server.user(name, "ann", "red")
    following = {"feed": "continuous", "heartbeat": "1000"}
    async with (
        client(f"{server.url}/{name}", *ann) as http,
        client(f"{server.url}/{name}", *OPS) as ops,
        http.stream("GET", "/_changes", params=following) as mine,
        ops.stream("GET", "/_changes", params=following) as all_of_it,
    ):
        await http.put("/a", json={"room": "red"})
        lines = [Lines(mine), Lines(all_of_it)]
        for one in lines:
            assert (await one.row())["id"] == "a"
        assert (await server.ask("DELETE", f"/{name}")).status_code == 200
        assert (await lines[0].row())["reason"] == "Database does not exist."
        assert (await lines[1].row()).keys() == {"last_seq", "pending"}, "as CouchDB ends it"
        for one in lines:
            with pytest.raises(StopAsyncIteration):
                await one.line()


@pytest.mark.parametrize("feed", ["longpoll", "continuous", "eventsource"])
async def test_an_administrators_feed_ends_whole_with_its_database(server: Server, feed: str) -> None:
    name = await server.make()
    async with server.ops() as http:
        written = await http.put(f"/{name}/d", json={})
        assert written.status_code == 201
        since = (await http.get(f"/{name}/_changes")).json()["last_seq"]
        asked = {"feed": feed, "heartbeat": "200", "since": since}
        async with http.stream("GET", f"/{name}/_changes", params=asked) as running:
            pieces = running.aiter_bytes()
            begun = await anext(pieces)  # a heartbeat, or what a longpoll begins with
            assert (await http.delete(f"/{name}")).status_code == 200
            rest = begun + b"".join([piece async for piece in pieces])
        if feed == "longpoll":
            assert json.loads(rest)["results"] == []
        assert b"error" not in rest


async def test_writes_under_way_while_the_database_goes_are_stored_or_refused(server: Server) -> None:
    name = await server.make()
    async with server.ops() as http:

        async def write(at: int) -> int:
            answer = await http.put(f"/{name}/d{at}", json={"room": "red"})
            assert set(answer.json()) in ({"ok", "id", "rev"}, {"error", "reason", "code"})
            return answer.status_code

        writing = [asyncio.create_task(write(at)) for at in range(40)]
        await asyncio.wait(writing, return_when=asyncio.FIRST_COMPLETED)
        assert (await http.delete(f"/{name}")).status_code == 200
        statuses = set(await asyncio.gather(*writing))
        assert statuses <= {201, 404, 503}, statuses
        assert (await http.get(f"/{name}")).status_code == 404
        assert (await http.put(f"/{name}")).status_code == 201
        assert (await http.get(f"/{name}/_all_docs")).json()["rows"] == []


# Restarts and crashes


async def test_made_databases_are_there_after_a_restart_and_deleted_ones_are_not(kind: str, tmp_path: Path) -> None:
    async with own_server(kind, tmp_path) as server:
        kept, gone = await server.make(), await server.make()
        ann = await server.user(kept, "ann", "red")
        identity = (await server.ask("GET", "/")).json()["uuid"]
        async with client(f"{server.url}/{kept}", *ann) as http:
            await http.put("/a", json={"room": "red"})
            since = (await http.get("/_changes")).json()["last_seq"]
        assert (await server.ask("DELETE", f"/{gone}")).status_code == 200
        await server.site.gateway.kill()
        await server.site.gateway.start()
        async with client(f"{server.url}/{kept}", *ann) as http:
            assert (await http.get("/a")).json()["room"] == "red"
            assert (await http.put("/b", json={"room": "red"})).status_code == 201
            later = (await http.get("/_changes", params={"since": since})).json()
            assert [row["id"] for row in later["results"]] == ["b"]
        assert (await server.ask("GET", f"/{gone}")).status_code == 404
        assert (await server.ask("GET", "/")).json()["uuid"] == identity
        assert (await server.ask("GET", "/_all_dbs")).json() == sorted(["_users", kept, "notes"])


@asynccontextmanager
async def server_behind(directory: Path) -> AsyncIterator[tuple[Server, Proxy, httpx.AsyncClient]]:
    """A gateway, the proxy between it and its upstream, and a client past both."""
    async with (
        embedded_server(directory / "upstream") as upstream,
        proxy_to(upstream.url) as proxy,
        upstream.client() as direct,
    ):
        config = write_config(directory, {"notes": {}}, couchdb={**upstream.config, "url": proxy.url}, **LET_IN)
        server = Server(Site("proxied", GatewayProcess(config), upstream))
        await server.site.gateway.start()
        try:
            yield server, proxy, direct
        finally:
            await server.site.gateway.stop()


async def there(direct: httpx.AsyncClient, name: str) -> bool:
    return (await direct.get(f"/{name}")).status_code == 200


async def until_there(direct: httpx.AsyncClient, name: str, expected: bool) -> None:
    async with asyncio.timeout(30):
        while await there(direct, name) is not expected:  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.01)


async def crash(server: Server, proxy: Proxy, asking: asyncio.Task[httpx.Response]) -> None:
    """Kill the gateway in the middle of a request, and start it again."""
    await server.site.gateway.kill()
    with pytest.raises(httpx.TransportError):
        await asking
    proxy.release()
    await server.site.gateway.start()


async def test_a_database_whose_making_was_cut_off_after_the_upstream_made_it_is_served(tmp_path: Path) -> None:
    async with server_behind(tmp_path) as (server, proxy, direct):
        proxy.hold("/orders", "PUT")
        asking = asyncio.create_task(server.ask("PUT", "/orders"))
        await until_there(direct, "orders", True)
        await crash(server, proxy, asking)
        assert (await server.ask("PUT", "/orders")).json()["reason"] == EXISTS
        assert (await server.ask("PUT", "/orders/a", json={})).status_code == 201
        assert (await server.ask("DELETE", "/orders")).status_code == 200
        assert not await there(direct, "orders")


@pytest.mark.parametrize("crashes", [True, False])
async def test_a_database_whose_making_did_not_reach_the_upstream_can_be_made(tmp_path: Path, crashes: bool) -> None:
    async with server_behind(tmp_path) as (server, proxy, direct):
        proxy.break_off("PUT", "/orders")
        answer = await server.ask("PUT", "/orders")
        assert (answer.status_code, answer.json()["error"]) == (503, "service_unavailable")
        assert (await server.ask("GET", "/orders")).status_code == 404
        proxy.mend()
        if crashes:
            await server.site.gateway.kill()
            await server.site.gateway.start()
            assert (await server.ask("GET", "/orders")).status_code == 404
        assert (await server.ask("PUT", "/orders")).status_code == 201
        assert (await server.ask("PUT", "/orders/a", json={})).status_code == 201
        assert await there(direct, "orders")


async def test_a_deletion_cut_off_by_a_crash_is_finished_by_the_next_start(tmp_path: Path) -> None:
    async with server_behind(tmp_path) as (server, proxy, direct):
        name = await server.make()
        ann = await server.user(name, "ann", "red")
        assert (await server.ask("PUT", f"/{name}/a", json={"room": "red"})).status_code == 201
        proxy.hold(f"/{name}", "DELETE")
        asking = asyncio.create_task(server.ask("DELETE", f"/{name}"))
        await until_there(direct, name, False)
        await crash(server, proxy, asking)
        assert (await server.ask("GET", f"/{name}")).status_code == 404
        assert (await server.ask("PUT", f"/{name}")).status_code == 201
        async with client(f"{server.url}/{name}", *ann) as http:
            assert (await http.get("")).status_code == 401
        assert (await server.ask("GET", f"/{name}/_all_docs")).json()["rows"] == []


@pytest.mark.parametrize("repair", ["a start", "DELETE", "PUT"])
async def test_a_deletion_that_did_not_reach_the_upstream_is_repaired(tmp_path: Path, repair: str) -> None:
    async with server_behind(tmp_path) as (server, proxy, direct):
        name = await server.make()
        assert (await server.ask("PUT", f"/{name}/a", json={"room": "red"})).status_code == 201
        proxy.break_off("DELETE", f"/{name}")
        answer = await server.ask("DELETE", f"/{name}")
        assert (answer.status_code, answer.json()["error"]) == (503, "service_unavailable")
        assert (await server.ask("GET", f"/{name}")).status_code == 404, "gone here at once"
        assert await there(direct, name)
        proxy.mend()
        if repair == "a start":
            await server.site.gateway.kill()
            await server.site.gateway.start()
        else:
            assert (await server.ask(repair, f"/{name}")).status_code == (200 if repair == "DELETE" else 201)
        assert await there(direct, name) is (repair == "PUT")
        if repair == "PUT":
            assert (await server.ask("GET", f"/{name}/_all_docs")).json()["rows"] == []
        else:
            assert (await server.ask("DELETE", f"/{name}")).status_code == 404


async def test_a_made_database_that_the_config_file_takes_over_is_that_of_the_file(tmp_path: Path) -> None:
    async with own_server("embedded", tmp_path) as server:
        name = await server.make()
        assert (await server.ask("PUT", f"/{name}/a", json={"room": "red"})).status_code == 201
        await server.site.gateway.stop()
        write_config(tmp_path, {"notes": {}, name: {"guest": {"disabled": False}}}, **LET_IN)
        await server.site.gateway.start()
        assert (await server.ask("GET", f"/{name}/a")).status_code == 200
        assert (await server.ask("DELETE", f"/{name}")).status_code == 403
        async with client(server.url) as nobody:
            assert (await nobody.get(f"/{name}")).status_code == 200
