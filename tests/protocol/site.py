"""A gateway under test as its users see it: sites with databases, places of single tests in them, people."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from tests.protocol.upstreams import UpstreamServer, configured, upstream_of_kind
from tests.running import GatewayProcess, client, write_config

# Documents say themselves who may write them, where they are, and whom they grant what.
SYNC: Final = """
function (doc, oldDoc, meta) {
  if (doc.refuse) {
    throw({forbidden: doc.refuse});
  }
  if (doc.unauthorized) {
    throw({unauthorized: doc.unauthorized});
  }
  if (oldDoc && oldDoc.writers) {
    requireUser(oldDoc.writers);
  }
  if (doc.needs) {
    requireAccess(doc.needs);
  }
  if (doc.needs_role) {
    requireRole(doc.needs_role);
  }
  channel(doc.channels);
  for (var name in doc.grants || {}) {
    access(name, doc.grants[name]);
  }
  for (var user in doc.roles || {}) {
    role(user, doc.roles[user]);
  }
}
"""
DATABASES: Final[Mapping[str, Any]] = {
    "notes": {"sync": SYNC},
    "square": {"sync": SYNC, "guest": {"disabled": False, "admin_channels": ["lobby"]}},
    "plain": {},
}
PATIENCE_SECONDS: Final = 30.0


@dataclass(slots=True)
class Site:
    """A running gateway. `server` is its upstream where that can be reached past it."""

    kind: str
    gateway: GatewayProcess
    server: UpstreamServer | None


@asynccontextmanager
async def site_on(
    kind: str, directory: Path, databases: Mapping[str, Any] = DATABASES, **config: Any
) -> AsyncIterator[Site]:
    """A gateway on an upstream of this kind, until the end of the block."""
    async with upstream_of_kind(kind, directory, list(databases)) as server:
        gateway = GatewayProcess(write_config(directory, **configured(databases, server), **config))
        await gateway.start()
        try:
            yield Site(kind, gateway, server)
        finally:
            await gateway.stop()


class Lines:
    """A continuous feed read line by line."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def line(self) -> str:
        """The next line, empty for a heartbeat. Raises StopAsyncIteration at the end of the feed."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await anext(self._lines)

    async def row(self) -> dict[str, Any]:
        """The next line that is no heartbeat."""
        while not (line := await self.line()):
            pass
        return dict(json.loads(line))

    async def ids(self, count: int) -> list[str]:
        """The ids of the next rows."""
        return [(await self.row())["id"] for _ in range(count)]


class Person:
    """A user, the guest or the administrator of one database, with an HTTP client at its URL."""

    def __init__(self, name: str, http: httpx.AsyncClient, url: str) -> None:
        self.name = name
        self.http = http
        self.url = url  # with credentials, for other clients

    async def put(self, id: str, rev: str | None = None, **body: Any) -> str:
        """Write a document; its new revision. Fails the test when it is refused."""
        answer = await self.http.put(f"/{id}", json=body, params={"rev": rev} if rev else None)
        assert answer.status_code == (200 if body.get("_deleted") else 201), answer.text
        return str(answer.json()["rev"])

    async def delete(self, id: str, rev: str) -> str:
        answer = await self.http.delete(f"/{id}", params={"rev": rev})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["rev"])

    async def bulk(self, *docs: Mapping[str, Any], new_edits: bool = True) -> list[dict[str, Any]]:
        answer = await self.http.post("/_bulk_docs", json={"docs": docs, "new_edits": new_edits})
        assert answer.status_code == 201, answer.text
        return list(answer.json())

    async def replicate(self, id: str, *revs: str, **body: Any) -> None:
        """Store a revision with its history, the newest first, as a replicator does."""
        generation = int(revs[0].partition("-")[0])
        revisions = {"start": generation, "ids": [rev.partition("-")[2] for rev in revs]}
        refused = await self.bulk({"_id": id, "_rev": revs[0], "_revisions": revisions, **body}, new_edits=False)
        assert refused == []

    async def get(self, path: str, **params: Any) -> Any:
        """JSON below the database. Fails the test when it is not answered with 200."""
        answer = await self.http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def status(self, method: str, path: str, **more: Any) -> int:
        return (await self.http.request(method, path, **more)).status_code

    async def changes(self, **params: Any) -> dict[str, Any]:
        return dict(await self.get("/_changes", **params))

    async def listed(self, **params: Any) -> list[str]:
        """The ids in a `_changes` answer."""
        return [row["id"] for row in (await self.changes(**params))["results"]]

    async def held(self) -> list[str]:
        """The ids in `_all_docs`."""
        return [row["id"] for row in (await self.get("/_all_docs"))["rows"]]

    async def now(self) -> str:
        """The position at the end of everything."""
        return str((await self.changes(since="now"))["last_seq"])

    async def read(self, **params: Any) -> list[dict[str, Any]]:
        """All rows, in pages of `limit`, as a replicator follows them."""
        rows: list[dict[str, Any]] = []
        while found := (page := await self.changes(**params))["results"]:
            rows += found
            params["since"] = page["last_seq"]
        return rows

    @asynccontextmanager
    async def following(self, **params: Any) -> AsyncIterator[Lines]:
        """A continuous feed."""
        asked = {"feed": "continuous", "heartbeat": "1000", **params}
        async with self.http.stream("GET", "/_changes", params=asked) as response:
            assert response.status_code == 200, await response.aread()
            yield Lines(response)

    @asynccontextmanager
    async def waiting(self, **params: Any) -> AsyncIterator[Callable[[], Awaitable[dict[str, Any]]]]:
        """A longpoll request that the gateway has begun to answer; call what is given for its answer."""
        async with self.http.stream("GET", "/_changes", params={"feed": "longpoll", **params}) as response:
            assert response.status_code == 200, await response.aread()

            async def answer() -> dict[str, Any]:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    return dict(json.loads(await response.aread()))

            yield answer


@dataclass(slots=True)
class Place:
    """One test's part of a database that it shares with others: names nobody else has, and people."""

    site: Site
    database: str
    stack: AsyncExitStack
    tag: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    _admin: Person | None = None

    def name(self, name: str) -> str:
        """A channel, role, user or document of this test."""
        return f"{name}-{self.tag}"

    def names(self, *names: str) -> list[str]:
        return [self.name(name) for name in names]

    def mine(self, ids: Sequence[str]) -> list[str]:
        """Those ids that are of this test, where others are public."""
        return [id for id in ids if id.endswith(self.tag)]

    @property
    def url(self) -> str:
        return f"{self.site.gateway.public}/{self.database}"

    async def _person(self, name: str, base: str, auth: tuple[str, str] | None) -> Person:
        http = await self.stack.enter_async_context(client(base, *(auth or ())))
        url = base if auth is None else base.replace("://", f"://{auth[0]}:{auth[1]}@")
        return Person(name, http, url)

    async def admin(self) -> Person:
        if self._admin is None:
            self._admin = await self._person("admin", f"{self.site.gateway.admin}/{self.database}", None)
        return self._admin

    def forget_people(self) -> None:
        """After a restart: the ports are others."""
        self._admin = None

    async def guest(self) -> Person:
        return await self._person("GUEST", self.url, None)

    async def user(self, name: str, *channels: str, roles: Sequence[str] = ()) -> Person:
        """A new user with these channels and roles (written as in `name()`)."""
        full = self.name(name)
        body = {"password": f"{full}-pw", "admin_channels": list(channels), "admin_roles": list(roles)}
        answer = await (await self.admin()).http.put(f"/_user/{full}", json=body)
        assert answer.status_code == 201, answer.text
        return await self.login(full)

    async def login(self, full: str) -> Person:
        """Another device of a user."""
        return await self._person(full, self.url, (full, f"{full}-pw"))

    async def change_user(self, person: Person, **body: Any) -> None:
        answer = await (await self.admin()).http.put(f"/_user/{person.name}", json=body)
        assert answer.status_code == 200, answer.text

    async def role(self, name: str, *channels: str) -> str:
        """A new role; its name."""
        full = self.name(name)
        answer = await (await self.admin()).http.put(f"/_role/{full}", json={"admin_channels": list(channels)})
        assert answer.status_code == 201, answer.text
        return full


def basic(name: str, password: str) -> dict[str, str]:
    """The header of a login."""
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}
