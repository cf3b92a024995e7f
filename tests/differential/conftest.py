"""The servers that are compared with the embedded one.

`admin` and `user`: a gateway, as the administrator of a database, and as a user who may read every document; always.
`couchdb`: the server that TEST_COUCHDB_URL names; with `make test-compat` this is npm's pouchdb-server (LOOKALIKE),
another implementation, whose own differences from CouchDB known.py names.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
import pytest_asyncio

from tests.compat import LOOKALIKE as IS_LOOKALIKE
from tests.differential.known import LOOKALIKE
from tests.differential.sides import Side
from tests.protocol.upstreams import COUCHDB_URL, embedded_server, real_couchdb
from tests.running import running_gateway, write_config

_TIMEOUT_SECONDS = 60
_PASSWORD = "ann-pw"


@dataclass(slots=True)
class Other:
    """Makes empty databases, one on the embedded server and one on the other."""

    kind: str
    embedded: httpx.Client
    admin: httpx.Client  # of the other server
    public: str = ""
    prefix: str = ""
    _count: int = 0

    def sides(self) -> tuple[Side, Side]:
        self._count += 1
        lookalike = self.kind == LOOKALIKE
        ours = Side(self.embedded, f"d{self._count}", lookalike)
        theirs = Side(self.admin, f"{self.prefix}d{self._count}", lookalike)
        for side in (ours, theirs):
            made = side.http.put(f"/{side.database}")
            assert made.status_code in (201, 202), made.text
        if self.kind == "user":
            user = {"password": _PASSWORD, "admin_channels": ["*"]}
            answer = self.admin.put(f"/{theirs.database}/_user/ann", json=user)
            assert answer.status_code == 201, answer.text
            theirs.http = httpx.Client(base_url=self.public, auth=("ann", _PASSWORD), timeout=_TIMEOUT_SECONDS)
        return ours, theirs

    def close(self, ours: Side, theirs: Side) -> None:
        self.embedded.delete(f"/{ours.database}")
        self.admin.delete(f"/{theirs.database}")
        if theirs.http is not self.admin:
            theirs.http.close()


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="session",
    params=[
        "admin",
        "user",
        pytest.param("couchdb", marks=pytest.mark.skipif(not COUCHDB_URL, reason="TEST_COUCHDB_URL is not set")),
    ],
)
async def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Other]:
    async with embedded_server(tmp_path_factory.mktemp("embedded")) as ours:
        auth = (ours.username or "", ours.password or "")
        with httpx.Client(base_url=ours.url, auth=auth, timeout=_TIMEOUT_SECONDS) as embedded:
            if request.param == "couchdb":
                assert COUCHDB_URL is not None
                async with real_couchdb(COUCHDB_URL, []) as server:
                    login = None if server.username is None else (server.username, server.password or "")
                    with httpx.Client(base_url=server.url, auth=login, timeout=_TIMEOUT_SECONDS) as admin:
                        kind = LOOKALIKE if os.environ.get(IS_LOOKALIKE) else "couchdb"
                        yield Other(kind, embedded, admin, prefix=server.prefix)
                return
            config = write_config(tmp_path_factory.mktemp("gateway"), {})
            async with running_gateway(config) as gateway:
                with httpx.Client(base_url=gateway.admin, timeout=_TIMEOUT_SECONDS) as admin:
                    yield Other(request.param, embedded, admin, public=gateway.public)
