"""Bad input: a clear 4xx with error, reason and code, nothing stored, nothing in the log, and the gateway goes on."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import string
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from gateway import limits
from gateway.http.routes import ROUTES
from tests.protocol.bad_requests import FAMILIES, Bad, too_large
from tests.protocol.raw import exchange
from tests.running import GatewayProcess, running_gateway, write_config

pytestmark = pytest.mark.asyncio(loop_scope="module")

SYNC: Final = "function (doc) { channel(doc.channels); }"
RUNAWAYS: Final = """
function (doc, oldDoc) {
  if (doc.run == "loop") { for (;;) {} }
  if (doc.run == "regexp") { /^(a+)+$/.test("a".repeat(60) + "!"); }
  if (doc.run == "memory") { var all = []; for (;;) all.push("x".repeat(1000000) + all.length); }
  if (doc.run == "recursion") { (function again() { return again() + 1; })(); }
  if (doc.run == "caught") { for (;;) { try { for (;;) {} } catch (error) {} } }
  if (doc.run == "throw") { throw "just text"; }
  if (doc.run == "undefined") { doc.no.such.member; }
  if (doc.run == "channel") { channel("bad,name"); }
  if (doc.run == "user") { access("a/b", "channel"); }
  channel(doc.channels);
}
"""


class Victim:
    """The gateway under attack, and what is stored in it."""

    def __init__(self, gateway: GatewayProcess, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self._session = session

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        base: str = "",
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case, body; at the public port as `ann` unless `base` says otherwise."""
        login = "Basic " + base64.b64encode(b"ann:ann").decode()
        given = {"Authorization": login, "Content-Type": "application/json"} if not base else {}
        url = URL((base or self.gateway.public) + path, encoded=True)
        async with self._session.request(
            method,
            url,
            data=None if body is None else io.BytesIO(body),
            headers={**given, **(headers or {})},
            skip_auto_headers=["Content-Type"],
        ) as response:
            return response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read()

    async def stored(self) -> dict[str, Any]:
        """Everything that a request could have left behind, read through the admin port."""
        paths = ["notes/_changes?style=all_docs", "notes/_user/?name_only=false", "notes/_role/", "notes/_design_docs"]
        found = {}
        for path in [*paths, "notes/_user/ann", "notes/_local_docs", "_all_dbs"]:
            found[path] = json.loads((await self.ask("GET", "/" + path, base=self.gateway.admin))[2])
        found["local"] = json.loads((await self.ask("GET", "/notes/_local_docs"))[2])
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def victim(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Victim]:
    user = {"password": "ann", "admin_channels": ["*"]}
    notes = {"sync": SYNC, "users": {"ann": user}, "roles": {"reader": {}}}
    served = {"notes": notes, "wild": {**notes, "sync": RUNAWAYS}}
    config = write_config(tmp_path_factory.mktemp("bad-input"), served)
    async with running_gateway(config) as gateway, aiohttp.ClientSession() as session:
        attacked = Victim(gateway, session)
        first = {"_id": "there", "channels": ["room"], "_attachments": {"a.txt": {"data": "YQ=="}}}
        status, _, _ = await attacked.ask("PUT", "/notes/there", json.dumps(first).encode())
        assert status == 201
        yield attacked


@asynccontextmanager
async def unharmed(victim: Victim, *, log: bool = True) -> AsyncIterator[None]:
    """Nothing is stored in the block and nothing reaches the log that an operator would be woken for."""
    before, printed = await victim.stored(), len(victim.gateway.printed)
    yield
    assert await victim.stored() == before
    if log:
        told = "".join(victim.gateway.printed[printed:])
        assert not re.search(r"Traceback|ERROR|CRITICAL", told), told


def check_error(status: int, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    """A 4xx (or the 501 of what is not there) whose body says what is wrong."""
    assert 400 <= status < 500 or status == 501, f"{status}: {body[:300]!r}"
    assert headers["content-type"] == "application/json"
    value: dict[str, Any] = json.loads(body)
    assert value.keys() == {"error", "reason", "code"}, value
    assert re.fullmatch(r"CG[1-7][0-9]{3}", value["code"])
    assert re.fullmatch(r"[a-z_]+", value["error"])
    assert isinstance(value["reason"], str)
    assert value["reason"]
    assert len(value["reason"]) < 2_000
    assert "Traceback" not in value["reason"]
    return value


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
async def test_bad_input_is_refused_with_a_reason_and_leaves_nothing(family: Any, victim: Victim) -> None:
    async with unharmed(victim):
        slots = asyncio.Semaphore(8)

        async def one(bad: Bad) -> str | None:
            async with slots:
                status, headers, body = await victim.ask(bad.method, bad.whole_path, bad.body, bad.headers)
            wanted = (bad.status,) if isinstance(bad.status, int) else bad.status
            if status not in wanted:
                return f"{bad}: {status} instead of {wanted}: {body[:200]!r}"
            check_error(status, headers, body)
            return None

        problems = [problem for problem in await asyncio.gather(*map(one, family())) if problem]
        assert not problems, "\n".join(problems)


async def test_what_is_too_large_is_refused_naming_the_limit(victim: Victim) -> None:
    async with unharmed(victim):
        for bad in too_large():
            if bad.body is None:
                # Only said to be too large: refused before a byte of it is sent.
                length = f"Content-Length: {bad.headers['Content-Length']}\r\n\r\n"
                head = f"{bad.method} /notes{bad.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                answer = await exchange(victim.gateway.public, (head + _LOGIN + length).encode())
                status, headers, body = parsed(answer)
            else:
                status, headers, body = await victim.ask(bad.method, bad.whole_path, bad.body, bad.headers)
            assert status == 413, f"{bad}: {body[:200]!r}"
            reason = check_error(status, headers, body)["reason"]
            named = re.search(r"\b[A-Z]+(_[A-Z]+)+\b", reason)
            assert named, reason
            assert str(getattr(limits, named[0])) in reason


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """The first answer in what came over a connection."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split(" ")[1]), headers, rest[: int(headers.get("content-length", 0))]


# Several documents: what is malformed refuses all, what is refused is so for itself

_MALFORMED: Final[tuple[Any, ...]] = (
    *(None, 1, "x", [], True, {"_id": 1}, {"_id": "_x"}, {"_id": "_local/"}, {"_id": "a", "_rev": "x"}),
    *({"_id": "a", "_unknown": 1}, {"_id": "a", "_deleted": 1}, {"_id": "a", "_attachments": 1}),
    *({"_id": "_design/x", "_unknown": 1}, {"_id": ""}, {"_id": None}),
)
_MALFORMED_REPLICATED: Final[tuple[Any, ...]] = ({"_id": "a"}, {"_id": "a", "_rev": "1-a", "_revisions": 1})
_REFUSED: Final[tuple[Any, ...]] = (
    *({"_id": "_design/x", "_rev": "1-a"}, {"_id": "_local/x", "_rev": 1}),
    {"_id": "a", "_rev": "1-a", "_attachments": {"a": {"data": "?"}}},
    {"_id": "a", "_rev": "1-a", "_attachments": {"a": {"stub": True}}},
)
_CONFLICTS: Final[tuple[Any, ...]] = ({"_id": "there"}, {"_id": "there", "_rev": "1-" + "a" * 32})


@pytest.mark.parametrize("new_edits", [True, False])
async def test_one_malformed_document_of_a_bulk_refuses_them_all(new_edits: bool, victim: Victim) -> None:
    good = [{"_id": "good", "_rev": "1-a"}] if not new_edits else [{"_id": "good"}, {"_id": "_local/good"}]
    async with unharmed(victim):
        for bad in _MALFORMED if new_edits else (*_MALFORMED, *_MALFORMED_REPLICATED):
            body = json.dumps({"docs": [*good, bad], "new_edits": new_edits}).encode()
            status, headers, answer = await victim.ask("POST", "/notes/_bulk_docs", body)
            assert status == 400, bad
            check_error(status, headers, answer)


@pytest.mark.parametrize("new_edits", [True, False])
async def test_each_refused_document_of_a_bulk_has_an_error_of_its_own(new_edits: bool, victim: Victim) -> None:
    drafts = [*_REFUSED, *_CONFLICTS] if new_edits else _REFUSED
    async with unharmed(victim):
        body = json.dumps({"docs": drafts, "new_edits": new_edits}).encode()
        status, _, answer = await victim.ask("POST", "/notes/_bulk_docs", body)
        assert status == 201
        results = json.loads(answer)
        assert len(results) == len(drafts)
        for draft, result in zip(drafts, results, strict=True):
            assert {"id", "error", "reason", "code"} <= result.keys(), draft
            assert result["error"] not in ("internal_server_error", "bad_gateway"), draft


async def test_each_bad_member_of_a_bulk_read_has_an_error_of_its_own(victim: Victim) -> None:
    members: list[Any] = [
        None,
        1,
        "x",
        [],
        {},
        {"id": 1},
        {"id": ""},
        {"id": "_x"},
        {"id": "a", "rev": 1},
        {"id": "a", "rev": "x"},
    ]
    async with unharmed(victim):
        body = json.dumps({"docs": [*members, {"id": "there"}]}).encode()
        status, _, answer = await victim.ask("POST", "/notes/_bulk_get", body)
        assert status == 200
        *wrong, right = json.loads(answer)["results"]
        assert len(wrong) == len(members)
        assert all({"error", "reason"} <= result["docs"][0]["error"].keys() for result in wrong)
        assert right["docs"][0]["ok"]["_id"] == "there"


async def test_of_a_member_given_twice_the_last_counts_everywhere(victim: Victim) -> None:
    """The sync function must not see another value than the one that is stored."""
    body = b'{"channels": ["one"], "channels": ["two"], "value": 1, "value": 2}'
    status, _, answer = await victim.ask("PUT", "/notes/twice", body)
    assert status == 201, answer
    _, _, doc = await victim.ask("GET", "/notes/twice")
    assert {name: value for name, value in json.loads(doc).items() if name[0] != "_"} == {
        "channels": ["two"],
        "value": 2,
    }
    query = "filter=sync_gateway/bychannel&channels="
    for channel, expected in (("one", []), ("two", ["twice"])):
        _, _, rows = await victim.ask("GET", f"/notes/_changes?{query}{channel}")
        assert [row["id"] for row in json.loads(rows)["results"]] == expected


async def test_numbers_that_others_would_round_are_kept_as_they_are(victim: Victim) -> None:
    body = b'{"integer": 123456789012345678901234567890, "exact": 9007199254740993, "small": 1e-300, "zero": -0.0}'
    assert (await victim.ask("PUT", "/notes/numbers", body))[0] == 201
    doc = (await victim.ask("GET", "/notes/numbers"))[2]
    assert b'"integer":123456789012345678901234567890,"exact":9007199254740993' in doc


# What is no HTTP request, or two

_LOGIN: Final = "Authorization: Basic " + base64.b64encode(b"ann:ann").decode() + "\r\n"
_HEAD: Final = "POST /notes/_bulk_docs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + _LOGIN
_DOCS: Final = '{"docs":[{"_id":"smuggled"}]}'
_INNER: Final = "PUT /notes/smuggled HTTP/1.1\r\nHost: x\r\n" + _LOGIN + "Content-Length: 2\r\n\r\n{}"
SHAPES: Final = {
    "both lengths": _HEAD + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + _INNER,
    "two lengths": _HEAD + f"Content-Length: 0\r\nContent-Length: {len(_INNER)}\r\n\r\n" + _INNER,
    "a list of lengths": _HEAD + f"Content-Length: 0, {len(_INNER)}\r\n\r\n" + _INNER,
    "a length with a sign": _HEAD + f"Content-Length: +{len(_DOCS)}\r\n\r\n" + _DOCS,
    "a negative length": _HEAD + "Content-Length: -1\r\n\r\n" + _DOCS,
    "a length with an underscore": _HEAD + f"Content-Length: {len(_DOCS) // 10}_{len(_DOCS) % 10}\r\n\r\n" + _DOCS,
    "an unknown coding": _HEAD + "Transfer-Encoding: x\r\n\r\n" + _INNER,
    "a coding after chunked": _HEAD + "Transfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n" + _INNER,
    "a hidden coding": _HEAD + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + _INNER,
    "a coding with a strange blank": _HEAD + "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + _INNER,
    "a chunk without size": _HEAD + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "a negative chunk": _HEAD + "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    "a chunk with 0x": _HEAD + "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "a folded header": _HEAD + f"X: a\r\n Content-Length: {len(_DOCS)}\r\n\r\n",
    "a bare line feed": _HEAD.replace("\r\n", "\n") + "\n",
    "a null byte in a header": _HEAD + "X: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "no version": "GET /notes\r\n\r\n",
    "another protocol": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "another version": "GET / HTTP/3.0\r\nHost: x\r\n\r\n",
    "words": "hello there\r\n\r\n",
    "a method of noise": "\x00\x01 / HTTP/1.1\r\nHost: x\r\n\r\n",
    "many headers": "GET / HTTP/1.1\r\nHost: x\r\n" + "".join(f"X-{at}: y\r\n" for at in range(5_000)) + "\r\n",
    "a long header": "GET / HTTP/1.1\r\nHost: x\r\nX: " + "y" * 200_000 + "\r\n\r\n",
    "a long line": "GET /" + "y" * 200_000 + " HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_is_no_request_is_refused_and_nothing_behind_it_is_taken_for_one(shape: str, victim: Victim) -> None:
    async with unharmed(victim):
        answer = await exchange(victim.gateway.public, SHAPES[shape].encode("latin-1"))
        if not answer and shape in ("many headers", "a long header", "a long line"):
            return  # refused, and the connection was reset before all of it was sent
        status, headers, body = parsed(answer)
        assert status in (400, 401, 413, 415), answer[:200]
        check_error(status, headers, body)
        assert len(re.findall(rb"^HTTP/", answer, re.MULTILINE)) == 1, answer


async def test_a_body_that_ends_early_is_no_document(victim: Victim) -> None:
    async with unharmed(victim):
        for body in ("Content-Length: 100\r\n\r\n" + _DOCS, "Transfer-Encoding: chunked\r\n\r\n1d\r\n" + _DOCS):
            answer = await exchange(victim.gateway.public, (_HEAD + body).encode(), end=True)
            assert not answer or parsed(answer)[0] == 400


async def test_the_login_is_asked_for_before_the_body(victim: Victim) -> None:
    head = "POST /notes/_bulk_docs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
    answer = await exchange(victim.gateway.public, head.encode())
    assert parsed(answer)[0] == 401
    assert b"100 Continue" not in answer


@pytest.mark.parametrize(
    "value",
    [
        *("Basic", "Basic ", "Basic ?", "Basic YQ==", "Basic " + "A" * 5_000, "Bearer x", "Basic /w==", "Basic Og=="),
        "Basic " + base64.b64encode(b"ann:" + b"x" * 2_000).decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
    ],
)
async def test_malformed_credentials_are_no_login(value: str, victim: Victim) -> None:
    async with unharmed(victim):
        status, headers, body = await victim.ask("GET", "/notes", headers={"Authorization": value})
        assert status in (400, 401)
        check_error(status, headers, body)


async def test_bad_users_and_roles_are_refused_at_the_admin_port(victim: Victim) -> None:
    bodies: list[Any] = [None, 1, [], {"password": 1}, {"password": ""}, {"password": "x"}, {"password": "a" * 2_000}]
    bodies += [{"password": "good", **more} for more in (
        {"admin_channels": "x"}, {"admin_channels": [1]}, {"admin_channels": ["a,b"]}, {"admin_channels": [""]},
        {"admin_roles": [1]}, {"admin_roles": ["a/b"]}, {"email": 1}, {"email": "x"}, {"disabled": "no"},
        {"name": "other"}, {"name": 1}, {"unknown": 1}, {"all_channels": ["x"]}, {"roles": ["x"]},
    )]  # fmt: skip
    names = ("a:b", "a,b", "a%2Fb", "%60", "---", "x" * 300, "%00", "a%0Ab")
    async with unharmed(victim):
        base = victim.gateway.admin
        for body in bodies:
            status, headers, answer = await victim.ask("PUT", "/notes/_user/new", json.dumps(body).encode(), base=base)
            assert status == 400, f"{body}: {status} {answer!r}"
            check_error(status, headers, answer)
        for name in names:
            for kind in ("_user", "_role"):
                status, headers, answer = await victim.ask(
                    "PUT", f"/notes/{kind}/{name}", b'{"password": "good"}' if kind == "_user" else b"{}", base=base
                )
                assert status == 400, f"{kind} {name}: {status} {answer!r}"
                check_error(status, headers, answer)


async def test_bad_questions_of_explain_are_refused_at_the_admin_port(victim: Victim) -> None:
    long = "x" * 7_000
    paths = {
        400: (
            *("_access", "_access?user=", "_access?doc=", "_access?user=ann&doc=there&rev=x", "_access?user=%FF"),
            *("_access?user=ann&doc=there&rev=", "_access?user=ann&limit=0", "_access?user=ann&since=x"),
            *(
                "_access?doc=there&limit=1001",
                "_access?doc=there&limit=99999999999999999999",
                "_access?user=ann&limit=",
            ),
            *("_access?user=ann&since=9999999999999999", "_channels?limit=-1", "_channels?prefix=%zz"),
            *("_channels/x?limit=1.5", "_channels/%FF", "_channels?limit=true", "_channels?startkey=[]"),
        ),
        404: (
            *("_access?doc=unknown", "_access?user=unknown", "_access?doc=_design/x", f"_access?doc={long}"),
            *("_access?user=%00", "_channels/unknown", "_channels/%00", f"_channels/{long}", "_channels/x/y"),
        ),
        405: ("_access?user=ann", "_channels", "_channels/x"),
    }
    fine = ["_access?user=%00&doc=%00", f"_access?user={long}&doc={long}", "_access?user=ann&since=999999999999999"]
    fine += [
        "_channels?prefix=%00",
        f"_channels?startkey=%22{long}%22",
        "_access?doc=there&startkey=%22%F0%9F%98%80%22",
    ]
    async with unharmed(victim):
        base = victim.gateway.admin
        for expected, asked in paths.items():
            for path in asked:
                method = "POST" if expected == 405 else "GET"
                status, headers, answer = await victim.ask(method, f"/notes/{path}", base=base)
                assert status == expected, f"{path}: {status} {answer!r}"
                check_error(status, headers, answer)
        for path in fine:
            assert (await victim.ask("GET", f"/notes/{path}", base=base))[0] == 200, path


# Noise

_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
_NAMES = st.sampled_from(
    [
        *("_id", "_rev", "_deleted", "_attachments", "_revisions", "start", "ids", "docs", "new_edits", "keys", "id"),
        *("rev", "since", "limit", "filter", "channels", "doc_ids", "data", "stub", "follows", "content_type"),
        *("digest", "revpos", "include_docs", "selector", "name", "password", "admin_channels"),
    ]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES | _TEXT, inner, max_size=4),
    max_leaves=12,
)
_KNOWN_SEGMENTS = ["there", "_local", "_design", "x", "..", ".", "%2e%2e", "%00", "", "1-a", "a.txt"]
_SEGMENTS = st.sampled_from(_KNOWN_SEGMENTS) | st.text(
    st.sampled_from(string.ascii_letters + string.digits + "%/+._-é\u0000\n ~;=&"), max_size=8
).map(lambda text: quote(text, safe="%"))
_KNOWN_VALUES = ["true", "false", "1", "0", "-1", "all", "now", "continuous", "longpoll", "[]", '"a"', "{}", "1-a"]
_PARAMETERS = st.dictionaries(
    st.sampled_from(sorted({name for route in ROUTES for name in route.parameters} | {"unknown", "new_edits", "w"})),
    st.sampled_from(_KNOWN_VALUES) | _TEXT,
    max_size=4,
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, bytes | None, dict[str, str]]:
    """A request to some route of the table, or nearly."""
    route = draw(st.sampled_from([route for route in ROUTES if "public" in route.listeners and "{db}" in route.path]))
    method = draw(st.sampled_from([*route.methods, *route.methods, "GET", "PUT", "POST", "DELETE", "HEAD", "COPY"]))
    variables = [part for part in route.path.split("/")[2:] if part]
    path = "/".join(draw(_SEGMENTS) if part.startswith("{") else part for part in variables)
    parameters = draw(_PARAMETERS)
    if "feed" in parameters:
        parameters = {**parameters, "timeout": "10"}
        parameters.pop("heartbeat", None)
    query = "&".join(f"{name}={quote(value)}" for name, value in parameters.items())
    body = None
    if method in ("PUT", "POST"):
        value = draw(_VALUES | st.fixed_dictionaries({"docs": st.lists(_VALUES, max_size=3)}))
        body = json.dumps(value).encode()
        if isinstance(value, dict) and "_changes" in path:
            body = json.dumps({**value, "timeout": 10, "feed": "normal"}).encode()
    kind = draw(st.sampled_from(["application/json"] * 8 + ["text/plain", "multipart/related; boundary=x"]))
    headers = {"Content-Type": kind}
    if draw(st.integers(0, 9)) == 0:
        headers["If-Match"] = draw(st.sampled_from(["1-a", "x", '"1-a"', "*"]))
    return method, f"/{path}" + (f"?{query}" if query else ""), body, headers


async def test_noise_never_gives_a_failure(victim: Victim) -> None:
    """At the second database: what is well-formed by chance may be stored."""
    sent: list[tuple[str, str, bytes | None, dict[str, str]]] = []

    @settings(max_examples=700, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(requests())
    def collect(request: tuple[str, str, bytes | None, dict[str, str]]) -> None:
        sent.append(request)

    collect()
    printed = len(victim.gateway.printed)
    slots = asyncio.Semaphore(8)

    async def one(request: tuple[str, str, bytes | None, dict[str, str]]) -> str | None:
        method, path, body, headers = request
        async with slots:
            status, told, answer = await victim.ask(method, "/wild" + path, body, headers)
        if status >= 500 and status != 501:
            return f"{request}: {status} {answer[:300]!r}"
        if status >= 400 and method != "HEAD":
            check_error(status, told, answer)
        return None

    problems = [problem for problem in await asyncio.gather(*map(one, sent)) if problem]
    assert not problems, "\n".join(problems)
    told = "".join(victim.gateway.printed[printed:])
    assert not re.search(r"Traceback|ERROR|CRITICAL", told), told


# The sync function

SLACK_SECONDS: Final = 2.0  # the machine does other things, too


@pytest.mark.parametrize("run", ["loop", "regexp", "memory", "recursion", "caught"])
async def test_a_function_that_runs_away_refuses_that_document_and_the_next_one_works(run: str, victim: Victim) -> None:
    before = time.monotonic()
    status, _, answer = await victim.ask("PUT", f"/wild/run-{run}", json.dumps({"run": run}).encode())
    took = time.monotonic() - before
    assert status == 500
    assert json.loads(answer)["error"] == "sync_function_error"
    assert json.loads(answer)["code"] == "CG5003"
    assert took < 2 + SLACK_SECONDS, took
    assert (await victim.ask("GET", f"/wild/run-{run}"))[0] == 404
    assert (await victim.ask("PUT", f"/wild/after-{run}", b"{}"))[0] == 201


async def test_a_runaway_among_others_of_a_bulk_fails_alone(victim: Victim) -> None:
    docs = [{"_id": "bulk-1"}, {"_id": "bulk-2", "run": "loop"}, {"_id": "bulk-3"}]
    status, _, answer = await victim.ask("POST", "/wild/_bulk_docs", json.dumps({"docs": docs}).encode())
    assert status == 201
    assert [result.get("error") for result in json.loads(answer)] == [None, "sync_function_error", None]


@pytest.mark.parametrize(("run", "status", "code"), [
    ("throw", 500, "CG5002"), ("undefined", 500, "CG5002"), ("channel", 400, "CG5004"), ("user", 400, "CG5004"),
])  # fmt: skip
async def test_a_function_that_fails_refuses_the_document(run: str, status: int, code: str, victim: Victim) -> None:
    answer = await victim.ask("PUT", f"/wild/fails-{run}", json.dumps({"run": run}).encode())
    assert answer[0] == status
    assert json.loads(answer[2])["code"] == code
    assert (await victim.ask("GET", f"/wild/fails-{run}"))[0] == 404


async def test_after_all_of_it_the_gateway_still_answers(victim: Victim) -> None:
    assert (await victim.ask("GET", "/_up"))[0] == 200
    status, _, answer = await victim.ask("PUT", "/notes/last", b'{"channels": ["room"]}')
    assert status == 201, answer
    assert json.loads((await victim.ask("GET", "/notes/last"))[2])["channels"] == ["room"]
