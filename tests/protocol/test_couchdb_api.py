"""docs/couchdb-api.md is true: each endpoint of CouchDB is asked for, as a user and as an administrator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from tests.reference.couchdb_api import Endpoint, endpoints
from tests.running import client, running_gateway, write_config

pytestmark = pytest.mark.asyncio(loop_scope="module")

DATABASE: Final = {
    "sync": "function (doc) { channel(doc.channels); }",
    "users": {"ann": {"password": "secret", "admin_channels": ["*"]}},
}
REFUSED: Final = {401, 403, 405, 501}
# Endpoints whose other example would be refused for what is in it.
PATHS: Final = {"PUT /{db}": "/made", "DELETE /{db}": "/made", "PUT /_users/{docid}": "/_users/org.couchdb.user:bob"}
BOB: Final = {"_id": "org.couchdb.user:bob", "type": "user", "name": "bob", "roles": [], "password": "secret"}
BODIES: Final[dict[str, dict[str, Any]]] = {"POST /_users": BOB, "PUT /_users/{docid}": BOB}


@dataclass(frozen=True, slots=True)
class Callers:
    user: httpx.AsyncClient
    admin: httpx.AsyncClient


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def callers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Callers]:
    config = write_config(
        tmp_path_factory.mktemp("couchdb-api"),
        {"notes": DATABASE},
        admins={"root": {"password": "secret-of-root"}},
        public={"allow_admins": True},
    )
    async with (
        running_gateway(config) as gateway,
        client(gateway.public, "ann", "secret") as user,
        client(gateway.public, "root", "secret-of-root") as admin,
    ):
        yield Callers(user, admin)


async def ask(http: httpx.AsyncClient, endpoint: Endpoint, query: str = "") -> int:
    path = PATHS.get(endpoint.name, endpoint.example)
    body = BODIES.get(endpoint.name, {}) if endpoint.method in ("PUT", "POST") else None
    headers = {"Destination": "copy"} if endpoint.method == "COPY" else {}
    url = f"{path}?{query}" if query else path
    return (await http.request(endpoint.method, url, headers=headers, json=body)).status_code


async def test_each_endpoint_of_couchdb_answers_whom_the_page_says(callers: Callers) -> None:
    wrong = []
    for endpoint in endpoints():
        user, admin = await ask(callers.user, endpoint), await ask(callers.admin, endpoint)
        match endpoint.whose:
            case "nobody":
                right = admin == endpoint.status and user in (endpoint.status, 401, 403)
            case "administrators":
                right = user in (401, 403) and (admin == 501 if endpoint.embedded_lacks else admin not in REFUSED)
            case _:
                right = not {user, admin} & REFUSED
        if not right:
            wrong.append(
                f"{endpoint.name} is told to be {endpoint.says}: {user} for a user, {admin} for administrators"
            )
    assert not wrong, "\n".join(wrong)


async def test_each_parameter_that_the_page_calls_refused_is_refused(callers: Callers) -> None:
    asked = [(endpoint, query, status) for endpoint in endpoints() for query, status in endpoint.refused.items()]
    assert asked
    for endpoint, query, status in asked:
        http = callers.admin if endpoint.whose == "administrators" else callers.user
        assert await ask(http, endpoint, query) == status, f"{endpoint.name}?{query}"
