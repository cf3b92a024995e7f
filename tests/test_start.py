"""Starting, reloading and stopping: what a careless operator does, and a CouchDB that comes and goes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from gateway import limits
from tests.commands import couch_gateway
from tests.couch.scripted import Out, Request, ScriptedServer
from tests.running import GatewayProcess, client, running_gateway, write_config

PASSWORD: Final = "p@ss:word/secret"
NOTES: Final[dict[str, Any]] = {"notes": {"users": {"ann": {"password": "ann", "admin_channels": ["a"]}}}}


async def until(what: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Wait for a condition in another process."""
    async with asyncio.timeout(seconds):
        while not await what():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def refusal(config: Path) -> str:
    """Why `serve` does not start: one line, exit status 1, and nothing that was secret."""
    ended = await couch_gateway("serve", "--config", str(config))
    assert ended.status == 1, ended.errors
    assert "port: http" not in ended.errors
    assert PASSWORD not in ended.errors
    return ended.complaint


class CouchServer:
    """The embedded server on a port of its own that it keeps over restarts."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.embedded", "--directory", str(self._directory)),
            *("--port", str(self._port), "--username", "admin", "--password", PASSWORD),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert b"embedded CouchDB on" in await self._process.stdout.readline()

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.communicate()
            self._process = None

    def config(self, **more: str) -> dict[str, str]:
        return {"url": self.url, "username": "admin", "password": PASSWORD, **more}


@pytest.fixture
async def couch(tmp_path: Path) -> AsyncIterator[CouchServer]:
    server = CouchServer(tmp_path / "upstream")
    await server.start()
    yield server
    await server.kill()


# What cannot work is said in one line


async def test_an_upstream_that_cannot_be_reached_is_named_without_its_password(tmp_path: Path) -> None:
    nobody = CouchServer(tmp_path)
    complaint = await refusal(write_config(tmp_path, NOTES, couchdb=nobody.config()))
    assert nobody.url.removeprefix("http://") in complaint
    assert "cannot be reached" in complaint


async def test_an_upstream_that_refuses_the_credentials_is_named(couch: CouchServer, tmp_path: Path) -> None:
    for wrong in (couch.config(password=PASSWORD[::-1]), {"url": couch.url}):
        complaint = await refusal(write_config(tmp_path, NOTES, couchdb=wrong))
        assert couch.url.removeprefix("http://") in complaint
        assert "refuses" in complaint
        assert PASSWORD[::-1] not in complaint


@contextlib.asynccontextmanager
async def server_that(answer: Callable[[str, str], tuple[int, Any]]) -> AsyncIterator[str]:
    """A little HTTP server that answers (method, path) with (status, JSON); its URL."""

    async def serve(request: Request, out: Out) -> None:
        status, value = answer(request.method, request.target)
        text = value.decode() if isinstance(value, bytes) else json.dumps(value)
        await out.text(status, text, "application/json")

    async with ScriptedServer(serve) as server:
        yield server.url


_WELCOME: Final = {"couchdb": "Welcome", "version": "3.5.0"}
_STRANGE: Final[dict[str, tuple[Callable[[str, str], tuple[int, Any]], str]]] = {
    "no right to create": (
        lambda method, path: (200, _WELCOME) if path == "/" else (404 if method == "GET" else 401, {"error": "no"}),
        "no right to create the database notes",
    ),
    "not set up": (
        lambda method, path: (200, _WELCOME) if path == "/" else (404 if method == "GET" else 500, {"error": "x"}),
        "_cluster_setup",
    ),
    "something else": (lambda *_: (200, {"hello": "world"}), "there is no CouchDB at"),
}


@pytest.mark.parametrize("kind", _STRANGE)
async def test_an_upstream_that_cannot_be_used_is_named_with_what_it_answered(kind: str, tmp_path: Path) -> None:
    answer, expected = _STRANGE[kind]
    async with server_that(answer) as url:
        couchdb = {"url": url, "username": "admin", "password": PASSWORD}
        complaint = await refusal(write_config(tmp_path, NOTES, couchdb=couchdb))
    assert expected in complaint
    assert url.removeprefix("http://") in complaint


async def test_a_metadata_file_that_is_none_is_named_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "metadata.db"
    config = write_config(tmp_path, NOTES, metadata="sqlite:./metadata.db")
    file.write_bytes(b"precious notes, " * 1_000)
    assert str(file) in await refusal(config)
    assert file.read_bytes() == b"precious notes, " * 1_000


async def test_a_damaged_metadata_file_is_named(tmp_path: Path) -> None:
    config = write_config(tmp_path, NOTES)
    async with running_gateway(config):
        pass
    path = tmp_path / "data/metadata.db"
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * (len(content) - 100))  # the header is in order
    complaint = await refusal(config)
    assert "metadata store" in complaint
    assert "malformed" in complaint


async def test_what_is_stored_is_for_nobody_else_on_the_machine(tmp_path: Path) -> None:
    async with running_gateway(write_config(tmp_path, NOTES)):
        stored = list((tmp_path / "data").rglob("*"))
        assert any(path.name == "metadata.db" for path in stored)
        assert any(path.suffix == ".sqlite" for path in stored)
        assert [path.name for path in stored if path.stat().st_mode & 0o077] == []


async def test_a_database_of_another_application_is_left_alone(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "metadata.db")) as other:
        other.execute("CREATE TABLE accounts (name TEXT)")
        other.commit()
    complaint = await refusal(write_config(tmp_path, NOTES, metadata="sqlite:./metadata.db"))
    assert "another application" in complaint


@pytest.mark.parametrize("what", ["metadata", "couchdb"])
async def test_a_place_that_cannot_be_used_is_named(what: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    places: dict[str, Any] = {"metadata": "sqlite:./file/metadata.db"}
    if what == "couchdb":
        places = {"couchdb": {"url": "embedded:./file/couch"}}
    assert str(tmp_path / "file") in await refusal(write_config(tmp_path, NOTES, **places))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("what", ["metadata", "couchdb"])
async def test_a_directory_that_is_not_writable_is_named(what: str, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    places: dict[str, Any] = {"metadata": "sqlite:./closed/metadata.db"}
    if what == "couchdb":
        places = {"couchdb": {"url": "embedded:./closed/couch"}}
    assert str(closed) in await refusal(write_config(tmp_path, NOTES, **places))


@pytest.mark.parametrize("listener", ["public", "admin"])
async def test_a_port_in_use_is_named(listener: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listen = {"public": "127.0.0.1:0", "admin": "127.0.0.1:0", "metrics": "off", listener: f"127.0.0.1:{port}"}
        config = write_config(tmp_path, NOTES, listen=listen)
        ended = await couch_gateway("serve", "--config", str(config))
    assert ended.status == 1
    assert f"the {listener} port cannot listen on 127.0.0.1:{port}" in ended.complaint


# Two gateways on one thing


async def test_a_second_gateway_on_the_same_metadata_file_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    first = write_config(tmp_path, NOTES)
    (tmp_path / "second").mkdir()
    second = write_config(tmp_path / "second", NOTES, metadata="sqlite:../data/metadata.db")
    async with running_gateway(first) as gateway, client(gateway.public, "ann") as ann:
        complaint = await refusal(second)
        assert str(tmp_path / "data/metadata.db") in complaint
        assert "another gateway uses it" in complaint
        assert (await ann.put("/notes/after", json={"channels": ["a"]})).status_code == 201


async def test_a_second_gateway_on_the_same_embedded_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = write_config(tmp_path / "second", NOTES, couchdb={"url": "embedded:../data/couch"})
    async with running_gateway(write_config(tmp_path, NOTES)) as gateway, client(gateway.public, "ann") as ann:
        complaint = await refusal(second)
        assert str(tmp_path / "data/couch") in complaint
        assert "another process uses it" in complaint
        assert (await ann.put("/notes/after", json={"channels": ["a"]})).status_code == 201


async def test_a_killed_gateway_leaves_nothing_that_keeps_the_next_from_starting(tmp_path: Path) -> None:
    gateway = GatewayProcess(write_config(tmp_path, NOTES))
    await gateway.start()
    async with client(gateway.public, "ann") as ann:
        assert (await ann.put("/notes/kept", json={"channels": ["a"]})).status_code == 201
    await gateway.kill()
    await gateway.start()
    async with client(gateway.public, "ann") as ann:
        assert (await ann.get("/notes/kept")).status_code == 200
    assert await gateway.stop() == 0


# Reload


def change(config: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = yaml.safe_load(config.read_text())
    edit(content)
    config.write_text(yaml.safe_dump(content))


async def reload(gateway: GatewayProcess, said: str) -> str:
    """SIGHUP, and what was logged up to the line with `said`."""
    start = len(gateway.printed)
    os.kill(gateway.pid, signal.SIGHUP)

    async def told() -> bool:
        return any(said in line for line in gateway.printed[start:])

    await until(told)
    return "".join(gateway.printed[start:])


async def test_users_of_the_config_file_change_at_a_reload(tmp_path: Path) -> None:
    config = write_config(tmp_path, NOTES)
    change(config, lambda file: file["databases"]["notes"]["users"].update(old={"password": "old"}))
    async with running_gateway(config) as gateway, httpx.AsyncClient(base_url=gateway.public, timeout=60) as public:

        async def status(name: str, password: str) -> int:
            return (await public.get("/notes/_all_docs", auth=(name, password))).status_code

        assert (await status("ann", "ann"), await status("old", "old"), await status("new", "new")) == (200, 200, 401)
        async with _feed(public, "old") as of_the_old, _feed(public, "ann") as of_ann:
            users = {"ann": {"password": "changed", "admin_channels": ["b"]}, "new": {"password": "new"}}
            change(config, lambda file: file["databases"]["notes"].update(users=users))
            log = await reload(gateway, "was reloaded")
            assert "restart" not in log
            # Whoever is gone, or must log in anew, is told so; an open connection is no way to stay.
            for lines in (of_the_old, of_ann):
                last = [line async for line in lines if line][-1]
                assert json.loads(last)["error"] == "unauthorized"
        assert (await status("ann", "ann"), await status("old", "old")) == (401, 401)
        assert (await status("ann", "changed"), await status("new", "new")) == (200, 200)
        session = (await public.get("/notes/_session", auth=("ann", "changed"))).json()
        assert set(session["userCtx"]["channels"]) == {"!", "b"}


@contextlib.asynccontextmanager
async def _feed(public: httpx.AsyncClient, name: str) -> AsyncIterator[AsyncIterator[str]]:
    """A running continuous feed; the lines still to come once it is caught up."""
    query = {"feed": "continuous", "heartbeat": "1000"}
    async with public.stream("GET", "/notes/_changes", params=query, auth=(name, name)) as response:
        assert response.status_code == 200
        lines = response.aiter_lines()
        assert await anext(lines) == ""  # a heartbeat: it waits
        yield lines


async def test_a_broken_config_changes_nothing_at_a_reload(tmp_path: Path) -> None:
    config = write_config(tmp_path, NOTES)
    async with running_gateway(config) as gateway, client(gateway.public, "ann") as ann:
        change(config, lambda file: file["databases"]["notes"].update(users={}, surprise=1, roles=[1]))
        log = await reload(gateway, "databases.notes.surprise")
        assert "databases.notes.roles" in log
        assert "was not reloaded" in log
        assert (await ann.get("/notes/_all_docs")).status_code == 200
        config.unlink()
        assert "no such file" in await reload(gateway, "no such file")
        assert (await ann.get("/notes/_all_docs")).status_code == 200
        # And the next good one is taken.
        write_config(tmp_path, {"notes": {"users": {"bob": {"password": "bob"}}}})
        await reload(gateway, "was reloaded")
        assert (await ann.get("/notes/_all_docs")).status_code == 401


async def test_what_only_a_restart_brings_in_is_said_until_it_is_done(tmp_path: Path) -> None:
    config = write_config(tmp_path, NOTES)
    async with running_gateway(config) as gateway:
        change(config, lambda file: file["databases"].update(more={}))
        for _ in range(2):
            assert "only after a restart" in await reload(gateway, "was reloaded")
        change(config, lambda file: file["databases"].pop("more"))
        assert "restart" not in await reload(gateway, "was reloaded")


# Stop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_feeds_in_good_order_and_the_process_with_status_0(
    number: signal.Signals, tmp_path: Path
) -> None:
    gateway = GatewayProcess(write_config(tmp_path, NOTES))
    await gateway.start()
    async with httpx.AsyncClient(base_url=gateway.public, timeout=60) as public, _feed(public, "ann") as lines:
        os.kill(gateway.pid, number)
        assert "last_seq" in json.loads([line async for line in lines if line][-1])
    assert await gateway.ended() == 0
    assert "Traceback" not in "".join(gateway.printed)


async def test_what_does_not_end_within_the_configured_time_is_broken_off(tmp_path: Path) -> None:
    gateway = GatewayProcess(write_config(tmp_path, NOTES, shutdown={"drain_s": 3}))
    await gateway.start()
    started = time.monotonic()
    address = gateway.public.removeprefix("http://").split(":")
    async with (
        httpx.AsyncClient(base_url=gateway.public, timeout=60) as public,
        client(gateway.admin) as admin,
        _feed(public, "ann") as lines,
    ):
        # A write whose body does not come.
        reader, writer = await asyncio.open_connection(address[0], int(address[1]))
        login = base64.b64encode(b"ann:ann").decode()
        head = f"PUT /notes/late HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {login}\r\nContent-Length: 9\r\n\r\n{{"
        writer.write(head.encode())

        async def under_way() -> bool:
            return int((await admin.get("/_status")).json()["requests"]) >= 3

        await until(under_way)
        gateway.terminate()
        assert "last_seq" in json.loads([line async for line in lines if line][-1])
        refused = await public.get("/notes", auth=("ann", "ann"))
        assert (refused.status_code, refused.json()["error"]) == (503, "service_unavailable")
        assert await reader.read() == b""
        writer.close()
    assert await gateway.ended() == 0
    assert time.monotonic() - started < limits.DRAIN_SECONDS
    assert any("did not end within 3 s" in line for line in gateway.printed)
    assert "Traceback" not in "".join(gateway.printed)


# An upstream that dies


async def test_while_the_upstream_is_away_feeds_go_on_and_it_is_taken_up_again(
    couch: CouchServer, tmp_path: Path
) -> None:
    async with (
        running_gateway(write_config(tmp_path, NOTES, couchdb=couch.config())) as gateway,
        client(gateway.public, "ann") as ann,
        client(gateway.admin) as admin,
    ):
        for name in ("one", "two"):
            assert (await ann.put(f"/notes/{name}", json={"channels": ["a"]})).status_code == 201
        await admin.put("/notes/_design/x", json={})
        assert (
            await ann.put("/notes/two/a.txt?rev=" + (await ann.get("/notes/two")).json()["_rev"])
        ).status_code == 201
        assert (await ann.get("/_up")).json()["upstream"] == "reachable"

        await couch.kill()

        async def up_says(state: str) -> bool:
            return bool((await ann.get("/_up")).json()["upstream"] == state)

        await until(lambda: up_says("unreachable"))
        assert (await ann.get("/_up")).status_code == 200
        # What is routed is served: the feed, the list, and bodies that were read or written a moment ago.
        rows = (await ann.get("/notes/_changes")).json()["results"]
        assert [row["id"] for row in rows] == ["one", "two"]
        assert (await ann.get("/notes/_all_docs")).json()["total_rows"] == 2
        assert (await ann.get("/notes/one")).status_code == 200
        # What only the upstream has is not.
        for answer in (
            await ann.put("/notes/three", json={"channels": ["a"]}),
            await ann.get("/notes/two/a.txt"),
            await ann.get("/notes/_changes?include_docs=true"),
            await admin.get("/notes/_design/x"),
            await admin.get("/notes/one"),
        ):
            assert answer.status_code == 503, answer.text
            assert answer.json()["code"] in ("CG6001", "CG6003")
            assert PASSWORD not in answer.text
            assert couch.url.removeprefix("http://") not in answer.text, "where it is, is for the operator"
        waiting = asyncio.create_task(ann.get("/notes/_changes?feed=longpoll&since=now&timeout=60000"))

        await couch.start()
        await until(lambda: up_says("reachable"), 60)

        async def written() -> bool:
            return (await ann.put("/notes/four", json={"channels": ["a"]})).status_code == 201

        await until(written)
        assert [row["id"] for row in (await waiting).json()["results"]] == ["four"]
        assert "Traceback" not in "".join(gateway.printed)
        assert PASSWORD not in "".join(gateway.printed)


async def test_a_gateway_starts_with_the_documents_it_does_not_know_yet(couch: CouchServer, tmp_path: Path) -> None:
    async with httpx.AsyncClient(base_url=couch.url, auth=("admin", PASSWORD)) as direct:
        await direct.put("/notes")
        await direct.put("/notes/early", json={"channels": ["a"]})
    async with (
        running_gateway(write_config(tmp_path, NOTES, couchdb=couch.config())) as gateway,
        client(gateway.public, "ann") as ann,
    ):

        async def seen() -> bool:
            return (await ann.get("/notes/early")).status_code == 200

        await until(seen)
