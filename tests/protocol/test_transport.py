"""When one side goes: what the upstream began and did not end is visibly broken, what a client gave up is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.protocol.proxy import Proxy, proxy_to
from tests.protocol.site import DATABASES, Person, Place, Site
from tests.protocol.upstreams import embedded_server
from tests.running import GatewayProcess, write_config

pytestmark = pytest.mark.asyncio(loop_scope="session")

FILM = bytes(range(256)) * 4_000


@dataclass(frozen=True, slots=True)
class Proxied:
    """A gateway that reaches its upstream through a proxy."""

    place: Place
    proxy: Proxy
    upstream: httpx.AsyncClient  # past the gateway and the proxy


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxied]:
    directory: Path = tmp_path_factory.mktemp("proxied")
    async with (
        embedded_server(directory / "upstream") as server,
        proxy_to(server.url) as proxy,
        server.client("notes") as upstream,
        AsyncExitStack() as stack,
    ):
        config = write_config(directory, {"notes": DATABASES["notes"]}, couchdb={**server.config, "url": proxy.url})
        place = Place(Site("proxied", GatewayProcess(config), server), "notes", stack)
        await place.site.gateway.start()
        stack.push_async_callback(place.site.gateway.stop)
        yield Proxied(place, proxy, upstream)


@pytest_asyncio.fixture(loop_scope="session")
async def through(gateway: Proxied) -> AsyncIterator[Proxied]:
    async with AsyncExitStack() as stack:
        gateway.proxy.forget()
        gateway.proxy.given_up.clear()
        yield Proxied(Place(gateway.place.site, "notes", stack), gateway.proxy, gateway.upstream)
        gateway.proxy.mend()
        gateway.proxy.release()


async def with_film(place: Place) -> tuple[Person, str, str]:
    ann = await place.user("ann", place.name("a"))
    doc = place.name("doc")
    rev = await ann.put(doc, channels=place.name("a"))
    answer = await ann.http.put(f"/{doc}/film", content=FILM, params={"rev": rev}, headers={"Content-Type": "a/b"})
    assert answer.status_code == 201, answer.text
    return ann, doc, str(answer.json()["rev"])


@pytest.mark.parametrize(
    ("path", "params"),
    [("/film", {}), ("", {"attachments": "true"}), ("", {"open_revs": "all"}), ("_bulk_get", {})],
)
async def test_an_answer_that_the_upstream_did_not_end_is_not_taken_for_whole(
    through: Proxied, path: str, params: dict[str, str]
) -> None:
    ann, doc, _ = await with_film(through.place)
    through.proxy.cut("/film" if path == "/film" else f"/{doc}", 500_000)
    received = 0
    if path == "_bulk_get":
        asked = ann.http.build_request(
            "POST", "/_bulk_get", json={"docs": [{"id": doc}]}, headers={"Accept": "multipart/mixed"}
        )
    else:
        asked = ann.http.build_request("GET", f"/{doc}{path}", params=params)
    with pytest.raises(httpx.RemoteProtocolError):
        async with aclosing(await ann.http.send(asked, stream=True)) as answer:
            assert answer.status_code == 200
            async for chunk in answer.aiter_raw():
                received += len(chunk)
    assert 0 < received <= 500_000
    through.proxy.mend()
    assert (await ann.http.get(f"/{doc}/film")).content == FILM


async def test_an_upload_that_the_upstream_broke_off_is_503_and_stores_nothing(through: Proxied) -> None:
    ann, doc, rev = await with_film(through.place)
    through.proxy.break_off("PUT", "/other")
    answer = await ann.http.put(f"/{doc}/other", content=FILM, params={"rev": rev})
    assert (answer.status_code, answer.json()["error"]) == (503, "service_unavailable")
    assert (await ann.get(f"/{doc}"))["_rev"] == rev
    through.proxy.mend()
    answer = await ann.http.put(f"/{doc}/other", content=FILM, params={"rev": rev})
    assert answer.status_code == 201


async def test_a_read_that_the_client_gave_up_is_cancelled_upstream(through: Proxied) -> None:
    ann, doc, _ = await with_film(through.place)
    through.proxy.hold("/film")
    reading = asyncio.create_task(ann.http.get(f"/{doc}/film"))
    await through.proxy.request("GET", "/film")
    reading.cancel()
    given_up = await through.proxy.was_given_up()
    assert (given_up.method, given_up.path.endswith("/film")) == ("GET", True)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_view_that_an_administrator_gave_up_is_cancelled_upstream(through: Proxied, method: str) -> None:
    admin = await through.place.admin()
    through.proxy.hold("/_view/slow")
    asking = asyncio.create_task(
        admin.http.request(method, "/_design/d/_view/slow", json={"keys": ["a"]} if method == "POST" else None)
    )
    await through.proxy.request(method, "/_view/slow")
    asking.cancel()
    assert (await through.proxy.was_given_up()).method == method


async def test_an_upload_whose_client_hung_up_is_cancelled_upstream(through: Proxied) -> None:
    ann, doc, rev = await with_film(through.place)

    async def half() -> AsyncIterator[bytes]:
        yield FILM
        await through.proxy.request("PUT", "/other")
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await ann.http.put(
            f"/{doc}/other", content=half(), params={"rev": rev}, headers={"Content-Length": str(2 * len(FILM))}
        )
    assert (await through.proxy.was_given_up()).method == "PUT"
    there = (await through.upstream.get(f"/{doc}")).json()
    assert (there["_rev"], list(there["_attachments"])) == (rev, ["film"])
