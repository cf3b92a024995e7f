"""`/{db}/_config/sync`: the sync function is seen, changed, and taken back; the config file beside it."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio
import yaml

from gateway import limits
from gateway.syncfn.default import DEFAULT_SYNC_FUNCTION
from tests.protocol.site import Person, Place, Site
from tests.routing.world import until
from tests.running import GatewayProcess, client, running_gateway, write_config

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATH: Final = "/_config/sync"
ROOM: Final = "function (doc) { channel(doc.room); }"
OWNED: Final = "function (doc, oldDoc) {\n  requireUser(doc.owner);\n  channel('of.' + doc.owner);\n}\n"
JAVASCRIPT: Final = {"Content-Type": "application/javascript"}


@pytest_asyncio.fixture(loop_scope="session")
async def fresh(site: Site) -> AsyncIterator[Place]:
    """A database of the test's own, with the default function."""
    async with AsyncExitStack() as stack:
        place = Place(site, "", stack)
        place.database = f"fresh-{place.tag}"
        async with client(site.gateway.admin) as server:
            assert (await server.put(f"/{place.database}")).status_code == 201
            yield place
            assert (await server.delete(f"/{place.database}")).status_code == 200


async def put(admin: Person, source: str, **more: Any) -> dict[str, Any]:
    answer = await admin.http.put(PATH, content=source, headers=JAVASCRIPT, **more)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def source(admin: Person, **params: Any) -> str:
    answer = await admin.http.get(PATH, params=params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/javascript; charset=utf-8"
    return answer.text


async def overview(admin: Person) -> dict[str, Any]:
    told: dict[str, Any] = await admin.get(PATH, versions="true")
    return told


async def test_an_empty_database_takes_a_function_at_once(fresh: Place) -> None:
    admin, ann = await fresh.admin(), await fresh.user("ann", "a")
    assert await source(admin) == DEFAULT_SYNC_FUNCTION
    told = await put(admin, ROOM)
    assert told == {"ok": True, "version": 2, "in_force": 2, "wanted": None, "routing_outdated": False}
    assert await source(admin) == ROOM
    await admin.put("there", room="a")
    await admin.put("not", channels=["a"])
    assert await ann.held() == ["there"]


async def test_another_function_is_only_wanted_once_documents_are_routed(fresh: Place) -> None:
    admin, ann = await fresh.admin(), await fresh.user("ann", "a", "of.ann")
    await admin.put("first", channels=["a"])
    told = await put(admin, OWNED)
    assert told == {"ok": True, "version": 2, "in_force": 1, "wanted": 2, "routing_outdated": True}
    for status in (await admin.get("/_status"), (await _server_status(fresh))["databases"][fresh.database]):
        assert (status["sync_version"], status["sync_wanted"], status["routing_outdated"]) == (1, 2, True)
    await ann.put("second", channels=["a"], owner="bob")
    assert await ann.held() == ["first", "second"], "the function in force decides and routes"
    assert await source(admin) == DEFAULT_SYNC_FUNCTION
    assert await source(admin, version=2) == OWNED
    answer = await admin.http.get(PATH, params={"version": 2})
    told_by = ("x-sync-version", "x-sync-in-force", "x-sync-wanted")
    assert [answer.headers[name] for name in told_by] == ["2", "1", "2"]
    head = await admin.http.head(PATH)
    assert (head.status_code, head.content) == (200, b"")
    printed = [line for line in fresh.site.gateway.printed if fresh.database in line and "outdated" in line]
    assert len(printed) == 1


async def _server_status(place: Place) -> dict[str, Any]:
    async with client(place.site.gateway.admin) as server:
        return dict((await server.get("/_status")).json())


async def test_versions_are_told_and_going_back_to_one_is_one_call(fresh: Place) -> None:
    admin = await fresh.admin()
    await admin.put("d", channels=["a"])
    await put(admin, ROOM)
    await put(admin, OWNED)
    told = await overview(admin)
    assert [(one["number"], one["origin"]) for one in told["versions"]] == [(1, "config"), (2, "api"), (3, "api")]
    assert all(len(one["digest"]) == 64 and one["made_at"] > 1.7e9 for one in told["versions"])
    state = {name: told[name] for name in ("in_force", "wanted", "config_file", "routing_outdated", "resync")}
    assert state == {"in_force": 1, "wanted": 3, "config_file": 1, "routing_outdated": True, "resync": "manual"}
    asked = await admin.http.get(PATH, headers={"Accept": "application/json"})
    assert asked.json() == told
    back = await admin.http.put(PATH, params={"version": 2})
    assert back.json() == {"ok": True, "version": 2, "in_force": 1, "wanted": 2, "routing_outdated": True}
    default = await admin.http.delete(PATH)
    assert default.json() == {"ok": True, "version": 1, "in_force": 1, "wanted": None, "routing_outdated": False}
    assert len((await overview(admin))["versions"]) == 3


async def test_a_function_is_taken_as_text_or_as_a_json_string(fresh: Place) -> None:
    admin = await fresh.admin()
    for content, headers, wanted in (
        (ROOM.encode(), {}, ROOM),
        (b"\xef\xbb\xbf" + OWNED.encode(), JAVASCRIPT, OWNED),
        ("// é\n" + ROOM, {"Content-Type": "text/plain"}, "// é\n" + ROOM),
    ):
        answer = await admin.http.put(PATH, content=content, headers=headers)
        assert answer.status_code == 200, answer.text
        assert await source(admin) == wanted
    assert (await admin.http.put(PATH, json=OWNED)).status_code == 200
    assert await source(admin) == OWNED


async def test_what_is_no_function_is_refused_with_its_place_and_changes_nothing(fresh: Place) -> None:
    admin = await fresh.admin()
    await admin.put("d", channels=["a"])
    await put(admin, ROOM)
    before, status = await overview(admin), await admin.get("/_status")
    printed = len(fresh.site.gateway.printed)
    large = "function (doc) {} //" + "x" * limits.SYNC_FUNCTION_SOURCE_BYTES
    string: dict[str, Any] = {"headers": {"Content-Type": "application/json"}}
    cases: list[tuple[int, str, str, dict[str, Any]]] = [
        (400, "", "is empty", {}),
        (400, "", "is empty", {"content": " \n"}),
        (400, "", "at line 2 column 11", {"content": "function (doc) {\n  channel(;\n}"}),
        (400, "", "not a sync function", {"content": "7"}),
        (400, "", "interrupted", {"content": "(function () { for (;;); })()"}),
        (400, "", "UTF-8", {"content": b"function (doc) {} // \xff"}),
        (400, "", "null character", {"content": "function (doc) { \0 }"}),
        (413, "", "SYNC_FUNCTION_SOURCE_BYTES", {"content": large}),
        (400, "", "as JSON the sync function is a string", {"json": {"sync": ROOM}}),
        (400, "", "", {"content": ROOM, **string}),
        (400, "", "surrogate", {"content": '"function () {} // \\ud800"', **string}),
        (400, "?version=2", "with a version there is no source", {"content": ROOM}),
        (400, "?version=0", "Invalid value for `version`", {}),
        (400, "?version=two", "Invalid value for `version`", {}),
        (404, "?version=9", "there is no version 9", {}),
        (404, f"?version={10**14}", "there is no version", {}),
    ]
    for expected, query, reason, more in cases:
        answer = await admin.http.put(PATH + query, **more)
        assert answer.status_code == expected, f"{query} {str(more)[:80]}: {answer.status_code} {answer.text}"
        assert reason in answer.json()["reason"], answer.text
    for query, expected in (("version=x", 400), ("version=9", 404), ("versions=perhaps", 400)):
        assert await admin.status("GET", f"{PATH}?{query}") == expected
    assert await admin.status("DELETE", f"{PATH}?version=1") == 400  # which would be the default function
    assert await admin.status("POST", PATH) == 405
    assert await overview(admin) == before
    assert await admin.get("/_status") == status
    assert "Traceback" not in "".join(fresh.site.gateway.printed[printed:])


async def test_a_change_for_another_state_is_refused(fresh: Place) -> None:
    admin = await fresh.admin()
    await admin.put("d", channels=["a"])
    tag = (await admin.http.get(PATH)).headers["etag"]
    first = await admin.http.put(PATH, content=ROOM, headers={"If-Match": tag})
    assert first.status_code == 200
    for method, more in (("PUT", {"content": OWNED}), ("PUT", {"params": {"version": 1}}), ("DELETE", {})):
        answer = await admin.http.request(method, PATH, headers={"If-Match": tag}, **more)
        assert (answer.status_code, answer.json()["error"]) == (412, "precondition_failed")
    assert first.headers["etag"] == (await admin.http.get(PATH)).headers["etag"] != tag
    assert (await admin.http.delete(PATH, headers={"If-Match": first.headers["etag"]})).status_code == 200


async def test_nobody_but_administrators_sees_or_changes_the_function(fresh: Place) -> None:
    ann = await fresh.user("ann", "*")
    async with client(fresh.url) as nobody:
        for http in (ann.http, nobody):
            for method in ("GET", "PUT", "DELETE", "HEAD", "POST"):
                answer = await http.request(method, PATH, params={"version": 1})
                assert answer.status_code in (400, 401, 404), f"{method}: {answer.status_code}"
                assert "channel" not in answer.text
    assert (await overview(await fresh.admin()))["in_force"] == 1


# The config file


def change(config: Path, **settings: Any) -> None:
    content = yaml.safe_load(config.read_text())
    content["databases"]["notes"].update(settings)
    config.write_text(yaml.safe_dump(content))


async def reload(gateway: GatewayProcess) -> str:
    """SIGHUP; what was logged."""
    start = len(gateway.printed)
    os.kill(gateway.pid, signal.SIGHUP)
    await until(lambda: any("was reloaded" in line for line in gateway.printed[start:]))
    return "".join(gateway.printed[start:])


async def test_a_changed_file_makes_its_function_wanted_at_a_reload_and_at_a_start(tmp_path: Path) -> None:
    async def told() -> tuple[int, int | None, int, str]:
        async with client(gateway.admin) as server:
            answer = (await server.get("/notes/_config/sync", params={"versions": "true"})).json()
            return answer["in_force"], answer["wanted"], answer["config_file"], answer["resync"]

    async def call(method: str, path: str, **more: Any) -> httpx.Response:
        async with client(gateway.admin) as server:
            answer = await server.request(method, path, **more)
            assert answer.is_success, answer.text
            return answer

    config = write_config(tmp_path, {"notes": {"sync": ROOM}})
    async with running_gateway(config) as gateway:
        await call("PUT", "/notes/d", json={"room": "a"})
        assert "sync function" not in await reload(gateway), "nothing changed"
        change(config, sync=OWNED, resync="automatic")
        log = await reload(gateway)
        assert "its routing is outdated: version 2 of the sync function is wanted, version 1 decides" in log
        assert "version 1 of the sync function is in force, which is not the config file's" in log
        assert "restart" not in log
        assert await told() == (1, 2, 2, "automatic")
        assert "outdated" not in await reload(gateway), "it was said"
        await call("PUT", "/notes/_config/sync", content=DEFAULT_SYNC_FUNCTION)
        assert await told() == (1, 3, 2, "automatic")
        await reload(gateway)
        assert await told() == (1, 3, 2, "automatic"), "the file did not change"
        assert await gateway.stop() == 0
        await gateway.start()
        assert await told() == (1, 3, 2, "automatic")
        assert "its routing is outdated: version 3" in "".join(gateway.printed)
        assert await gateway.stop() == 0
        change(config, sync=ROOM, resync="manual")
        gateway.printed.clear()
        await gateway.start()
        assert await told() == (1, None, 1, "manual")
        assert "sync function" not in "".join(gateway.printed)
        answer = await call("GET", "/notes/_status")
        assert answer.json()["routing_outdated"] is False
