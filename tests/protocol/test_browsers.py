"""Web pages of other origins, and gzip of answers, at a running gateway.

The pages are PouchDB with a `fetch` that keeps from its script what a browser would (tests/js/page.mjs).
"""

from __future__ import annotations

import gzip
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio
import yaml

from gateway import limits
from tests.protocol.pouch import ClientError, Driver
from tests.protocol.raw import exchange
from tests.running import GatewayProcess, client, running_gateway, write_config

pytestmark = pytest.mark.asyncio(loop_scope="module")

APP: Final = "https://app.example"
OTHER: Final = "https://other.example"
USERS: Final = {"ann": {"password": "ann", "admin_channels": ["a"]}}
DATABASES: Final = {
    "notes": {"users": USERS},
    "other": {"users": USERS, "cors": {"origins": [OTHER]}},
    "closed": {"users": USERS, "cors": "off"},
}
CORS: Final = {"origins": [APP], "credentials": True}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    listen = dict.fromkeys(("public", "admin", "metrics"), "127.0.0.1:0")
    config = write_config(tmp_path_factory.mktemp("browsers"), DATABASES, cors=CORS, listen=listen)
    async with running_gateway(config) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def driver() -> AsyncIterator[Driver]:
    running = Driver()
    await running.start()
    yield running
    await running.stop()


async def test_a_listed_page_syncs(gateway: GatewayProcess, driver: Driver) -> None:
    url = gateway.url("notes", "ann")
    desk, page = await driver.device("desk"), await driver.device("page")
    elsewhere, remote = await driver.remote(url), await driver.remote(url, page=APP)
    long = "a text that is worth compressing, " * 200
    attachment = {"a.txt": {"content_type": "text/plain", "data": "YXR0YWNoZWQ="}}
    await page.put("from-the-page", channels=["a"], text=long, _attachments=attachment)
    await desk.put("from-the-desk", channels=["a"], text=long)
    running = [await page.sync(remote), await desk.sync(elsewhere)]
    for device in (desk, page):
        await device.holds("from-the-desk", "from-the-page")
    await desk.change("from-the-page", text="changed")
    await page.has("from-the-page", text="changed")
    await page.remove("from-the-desk")
    await desk.lacks("from-the-desk")
    for one in running:
        await one.cancel()
    for device in (desk, page, elsewhere, remote):
        await device.close()


async def test_a_listed_page_uses_the_database_directly(gateway: GatewayProcess, driver: Driver) -> None:
    remote = await driver.remote(gateway.url("notes", "ann"), page=APP)
    rev = await remote.put("direct", channels=["a"])
    assert (await remote.call("get", "direct"))["_rev"] == rev
    for method, args, status in (("get", ["nothing"], 404), ("put", [{"_id": "direct"}], 409)):
        with pytest.raises(ClientError) as raised:
            await remote.call(method, *args)
        assert raised.value.status == status
    await remote.remove("direct")
    stranger = await driver.remote(gateway.url("notes", "ann", "wrong"), page=APP)
    with pytest.raises(ClientError) as raised:
        await stranger.call("allDocs")
    assert raised.value.status == 401


@pytest.mark.parametrize(
    ("database", "page", "what"),
    [
        ("notes", OTHER, "the origin"),
        ("notes", "https://app.example:8443", "the origin"),
        ("other", APP, "the origin"),
        ("other", OTHER, "credentials"),  # PouchDB always sends them
        ("closed", APP, "the origin"),
    ],
)
async def test_another_page_reads_and_writes_nothing(
    gateway: GatewayProcess, driver: Driver, database: str, page: str, what: str
) -> None:
    remote = await driver.remote(gateway.url(database, "ann"), page=page)
    for method, args in (("info", []), ("put", [{"_id": "planted", "channels": ["a"]}])):
        with pytest.raises(ClientError, match=f"blocked: .*{what}"):
            await remote.call(method, *args)
    async with client(gateway.public, "ann") as ann:
        assert (await ann.get(f"/{database}/planted")).status_code == 404


def said(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


async def test_a_preflight_does_not_tell_which_databases_exist(gateway: GatewayProcess) -> None:
    asked = {"Origin": APP, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}
    async with httpx.AsyncClient(base_url=gateway.public) as nobody:
        there, nowhere = [await nobody.options(f"/{name}/doc", headers=asked) for name in ("notes", "nowhere")]
        assert (there.status_code, said(there)) == (204, said(nowhere))
        assert said(there)["access-control-allow-credentials"] == "true"
        # Only a database with origins of its own shows that it has them.
        elsewhere = await nobody.options("/other/doc", headers={**asked, "Origin": OTHER})
        assert said(elsewhere)["access-control-allow-origin"] == OTHER
        assert said(await nobody.options("/nowhere/doc", headers={**asked, "Origin": OTHER})) == {}


async def test_the_other_ports_know_no_pages(gateway: GatewayProcess) -> None:
    for base in (gateway.admin, gateway.metrics):
        async with httpx.AsyncClient(base_url=base) as http:
            asked = await http.options("/_up", headers={"Origin": APP, "Access-Control-Request-Method": "GET"})
            got = await http.get("/_up", headers={"Origin": APP})
            assert (said(asked), said(got)) == ({}, {})
            assert "vary" not in got.headers
    async with client(gateway.admin) as admin:
        assert (await admin.get("/notes", headers={"Origin": APP})).status_code == 403


async def test_a_page_can_read_that_its_request_is_too_large(gateway: GatewayProcess) -> None:
    head = (
        f"PUT /notes/large HTTP/1.1\r\nHost: x\r\nOrigin: {APP}\r\nAuthorization: Basic YW5uOmFubg==\r\n"
        f"Content-Type: application/json\r\nContent-Length: {limits.BODY_BYTES + 1}\r\n\r\n"
    )
    answer = await exchange(gateway.public, head.encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert f"\r\nAccess-Control-Allow-Origin: {APP}\r\n".encode() in answer


async def test_answers_are_the_same_compressed_and_plain(gateway: GatewayProcess) -> None:
    async with client(gateway.public, "ann") as ann:
        docs = [{"_id": f"z-{n:03}", "channels": ["a"], "text": f"text {n} " * 200} for n in range(600)]
        assert (await ann.post("/notes/_bulk_docs", json={"docs": docs})).status_code == 201
        paths = ["/_all_docs?include_docs=true", "/_changes", "/_changes?include_docs=true", "/_changes?limit=20"]
        for path in ["/z-001?attachments=true", *paths]:
            headers, plain = await raw(ann, f"/notes{path}", "identity")
            packed_headers, packed = await raw(ann, f"/notes{path}", "gzip, deflate")
            assert packed_headers.get("etag") == headers.get("etag")
            assert "content-encoding" not in headers
            assert (packed_headers["content-encoding"], gzip.decompress(packed)) == ("gzip", plain), path
            assert len(packed) < len(plain) / 2
        bulk = {"docs": [{"id": f"z-{n:03}"} for n in range(50)]}
        body = gzip.compress(json.dumps(bulk).encode())
        sent = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        both_ways = await ann.post("/notes/_bulk_get", content=body, headers=sent)
        assert both_ways.headers["content-encoding"] == "gzip"
        assert len(both_ways.json()["results"]) == 50


async def raw(http: httpx.AsyncClient, path: str, encoding: str) -> tuple[httpx.Headers, bytes]:
    """The headers of an answer, and its content as it came."""
    async with http.stream("GET", path, headers={"Accept-Encoding": encoding}) as answer:
        return answer.headers, b"".join([piece async for piece in answer.aiter_raw()])


@asynccontextmanager
async def reloadable(directory: Path, **config: Any) -> AsyncIterator[GatewayProcess]:
    async with running_gateway(write_config(directory, {"notes": {"users": USERS}}, **config)) as running:
        yield running


async def test_a_reload_changes_who_is_allowed_at_once(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as running, client(running.public, "ann") as ann:

        async def allowed(origin: str, path: str = "/notes") -> bool:
            return bool(said(await ann.get(path, headers={"Origin": origin})))

        async def reload(**changed: Any) -> str:
            content = yaml.safe_load(running.config.read_text())
            running.config.write_text(yaml.safe_dump({**content, **changed}))
            before = len(running.printed)
            os.kill(running.pid, signal.SIGHUP)
            while not any("reloaded" in line for line in running.printed[before:]):
                await ann.get("/_up")
            return "".join(running.printed[before:])

        assert not await allowed(APP)
        assert "restart" not in await reload(cors=CORS)
        assert await allowed(APP)
        databases: dict[str, Any] = {"notes": {"users": USERS, "cors": "off"}}
        assert "restart" not in await reload(databases=databases)
        assert not await allowed(APP)
        assert await allowed(APP, "/")
        # One that is not served yet does not show, and one that is no longer in the file keeps what it had.
        assert "restart" in await reload(databases={"later": {"cors": {"origins": [OTHER]}}})
        assert not await allowed(OTHER, "/later")
        assert not await allowed(APP)
        # What would let every page in changes nothing.
        log = await reload(cors={"origins": ["*"], "credentials": True})
        assert "cors.credentials" in log
        assert await allowed(APP, "/")
        assert not await allowed(OTHER, "/")
