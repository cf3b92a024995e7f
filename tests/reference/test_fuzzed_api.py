"""Whatever is asked of the endpoints in the description, by whomever: an answer, no 500, nothing in the log."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aiohttp
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from yarl import URL

from tests.reference.requests import REV, Request, operations_for, request_to, requests
from tests.running import GatewayProcess, running_gateway, write_config

pytestmark = pytest.mark.asyncio(loop_scope="module")

SYNC: Final = "function (doc) { channel(Array.isArray(doc.channels) ? 'room' : '!'); }"
DATABASE: Final = {
    "sync": SYNC,
    "users": {"ann": {"password": "secret", "admin_channels": ["room"]}},
    "guest": {"disabled": False, "admin_channels": ["room"]},
}
_T = TypeVar("_T")
ANSWER_SECONDS: Final = 30.0
FEED_SECONDS: Final = 0.3  # then the client leaves a feed that goes on
HEAD_OF_FEED: Final = re.compile(r"/(_changes|_db_updates)\b")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, of which database, and where. No two disturb each other: each has a database of its own."""

    name: str
    database: str
    login: tuple[str, str] | None
    port: str

    @property
    def may(self) -> frozenset[str]:
        """Whose endpoints these are (x-for)."""
        return frozenset({"anybody", "users"} | ({"administrators"} if self.login == ROOT else set()))

    @property
    def headers(self) -> list[tuple[str, str]]:
        if self.login is None:
            return []
        return [("Authorization", "Basic " + base64.b64encode(":".join(self.login).encode()).decode())]


ROOT: Final = ("root", "secret-of-root")
CALLERS: Final = (
    Caller("user", "for-user", ("ann", "secret"), "public"),
    Caller("guest", "for-guest", None, "public"),
    Caller("administrator", "for-admin", ROOT, "admin"),
    Caller("administrator at the public port", "for-admin-in-public", ROOT, "public"),
    Caller("user at the admin port", "for-user", ("ann", "secret"), "admin"),
    Caller("guest at the admin port", "for-guest", None, "admin"),
)
_DOCS: Final[list[dict[str, Any]]] = [
    *({"_id": id, "channels": ["room"], "a": at, "_rev": REV} for at, id in enumerate("abcdef")),
    {"_id": "hidden", "_rev": REV},
    {"_id": "conflict", "_rev": REV, "channels": ["room"]},
    {"_id": "conflict", "_rev": "1-" + "b" * 32, "channels": ["room"]},
    {"_id": "attached", "_rev": REV, "channels": ["room"], "_attachments": {"a.txt": {"data": "YWJj"}}},
    {"_id": "_design/d", "_rev": REV, "views": {"v": {"map": "function (doc) { emit(doc._id, 1); }"}}},
]


class Fuzzed:
    """The gateway under test."""

    def __init__(self, gateway: GatewayProcess, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self._session = session

    async def send(self, caller: Caller, request: Request) -> tuple[int, str, bytes]:
        """Status, content type and body, as far as it came of a feed. Raises what aiohttp raises."""
        base = self.gateway.admin if caller.port == "admin" else self.gateway.public
        async with (
            asyncio.timeout(ANSWER_SECONDS) as patience,
            self._session.request(
                request.method,
                URL(base + request.path, encoded=True),
                headers=caller.headers + list(request.headers),
                data=request.body,
                allow_redirects=False,
                skip_auto_headers=["Content-Type", "Accept-Encoding"],
            ) as response,
        ):
            received = bytearray()
            if response.status == 200 and HEAD_OF_FEED.search(request.path):
                patience.reschedule(asyncio.get_running_loop().time() + FEED_SECONDS)
            try:
                async for chunk in response.content.iter_any():
                    received += chunk
            except asyncio.CancelledError:
                if response.status != 200 or not patience.expired():
                    raise
                return response.status, "", b""
            return response.status, response.headers.get("Content-Type", ""), bytes(received)

    async def problem(self, caller: Caller, request: Request, statuses: Counter[int]) -> str | None:
        """What is wrong with the answer to a request, or None."""
        try:
            status, kind, body = await self.send(caller, request)
        except (TimeoutError, aiohttp.ClientError) as error:
            return f"{caller.name}: {request}: {error!r}"
        statuses[status] += 1
        if status >= 500 and status != 501:
            return f"{caller.name}: {request}: {status} {body[:300]!r}"
        if status >= 400 and request.method != "HEAD" and not is_error(status, kind, body):
            return f"{caller.name}: {request}: {status} {kind} {body[:300]!r} is no error of CouchDB's form"
        return None

    async def lane(self, caller: Caller, asked: list[Request]) -> list[str]:
        """One request after the other; what is wrong with the answers. Fails when few of them did anything."""
        statuses: Counter[int] = Counter()
        problems = [problem for request in asked if (problem := await self.problem(caller, request, statuses))]
        if caller.port == "public" or caller.login == ROOT:
            done = sum(count for status, count in statuses.items() if status < 300)
            assert done > len(asked) / 10, f"{caller.name}: {statuses}"
        return problems

    async def run(self, asked: dict[Caller, list[Request]]) -> None:
        printed = len(self.gateway.printed)
        lanes = await asyncio.gather(*(self.lane(caller, several) for caller, several in asked.items()))
        problems = [problem for lane in lanes for problem in lane]
        told = "".join(self.gateway.printed[printed:])
        if found := re.search(r"Traceback|ERROR|CRITICAL", told):
            problems.append(told[max(0, found.start() - 500) :][:5_000])
        assert not problems, "\n".join(problems)
        await self.still_answers()

    async def still_answers(self) -> None:
        for caller in CALLERS[:4]:
            for request in (
                Request("GET", "/_up", (), None),
                Request("GET", f"/{caller.database}/_all_docs", (), None),
            ):
                status, _, body = await self.send(caller, request)
                assert status == 200, (caller.name, body)


def is_error(status: int, kind: str, body: bytes) -> bool:
    """CouchDB's form; ours have a code, which those that the upstream answers have not."""
    try:
        value = json.loads(body)
    except ValueError:
        return False
    if status == 417 and isinstance(value, list):  # `all_or_nothing`: an error for each document
        return all({"error", "reason"} <= one.keys() for one in value)
    return (
        kind.partition(";")[0] == "application/json"
        and isinstance(value, dict)
        and value.keys() - {"code"} == {"error", "reason"}
        and all(isinstance(one, str) and one for one in value.values())
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fuzzed]:
    config = write_config(
        tmp_path_factory.mktemp("fuzzed"),
        dict.fromkeys(sorted({caller.database for caller in CALLERS}), DATABASE),
        admins={"root": {"password": ROOT[1]}},
        public={"allow_admins": True},
    )
    async with (
        running_gateway(config) as gateway,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        running = Fuzzed(gateway, session)
        kind = (("Content-Type", "application/json"),)
        body = json.dumps({"docs": _DOCS, "new_edits": False}).encode()
        for caller in CALLERS[:4]:
            admin = Caller("setup", caller.database, ROOT, "admin")
            status, _, told = await running.send(admin, Request("POST", f"/{caller.database}/_bulk_docs", kind, body))
            assert (status, told) == (201, b"[]\n"), told
        yield running


def drawn(strategy: SearchStrategy[_T], count: int, number: int) -> list[_T]:
    """That many examples: always the same of one number."""
    found: list[_T] = []

    @seed(number)
    @settings(
        max_examples=count,
        derandomize=False,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example: _T) -> None:
        found.append(example)

    collect()
    return found


def made_up(caller: Caller, count: int, number: int) -> list[Request]:
    return drawn(requests(caller.database, caller.port, caller.may), count, number)


def of_each_operation(caller: Caller, count: int) -> list[Request]:
    """That many requests to each operation that is for the caller: the plainest first."""
    operations = operations_for(caller.port, caller.may)
    asked: list[Request] = []
    for at in range(0, len(operations), 4):  # hypothesis draws no large examples
        several = [request_to(operation, caller.database) for operation in operations[at : at + 4]]
        asked += [request for example in drawn(st.tuples(*several), count, at) for request in example]
    return asked


async def test_no_request_is_a_500_for_users_guests_and_administrators(fuzzed: Fuzzed) -> None:
    asked = {caller: of_each_operation(caller, 2) for caller in (CALLERS[0], CALLERS[2])}
    await fuzzed.run({caller: asked.get(caller, []) + made_up(caller, 30, at) for at, caller in enumerate(CALLERS)})
    for caller, several in asked.items():
        assert len(several) > len(operations_for(caller.port, caller.may)), "each was asked"


@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_no_request_is_a_500_however_many_are_made_up(fuzzed: Fuzzed) -> None:
    """FUZZ_SECONDS of them (300). A failure is found again with the FUZZ_SEED that is printed."""
    number = int(os.environ.get("FUZZ_SEED") or random.randrange(2**32))
    end = time.monotonic() + float(os.environ.get("FUZZ_SECONDS") or 300)
    while time.monotonic() < end:
        print(f"FUZZ_SEED={number}")  # noqa: T201
        await fuzzed.run({caller: made_up(caller, 500, number + at) for at, caller in enumerate(CALLERS)})
        number += len(CALLERS)
