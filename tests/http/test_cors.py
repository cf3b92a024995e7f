"""What browsers are told about pages of other origins."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping

import httpx
import pytest

from gateway.auth.origins import CorsPolicy, check_header_name, check_origin
from gateway.database import FeedRows
from gateway.errors import GatewayError, TooLarge, Unavailable
from gateway.http.cors import Cors
from tests.http.conftest import Ports, listening
from tests.http.fake import FakeDatabase, FakeFeed, upstream_answer
from tests.http.test_streaming import feeding

APP = "https://app.example"
TEAM = "https://team.example:8443"
EVIL = "https://evil.example"
LISTED = CorsPolicy(frozenset({APP}), credentials=True, headers=frozenset({"x-trace"}), max_age_seconds=60)
EVERYONE = CorsPolicy(frozenset({"*"}))
BY_DATABASE = {"team": CorsPolicy(frozenset({TEAM})), "open": EVERYONE, "closed": None, "a/b": EVERYONE}


@pytest.fixture
async def gateway() -> AsyncIterator[Ports]:
    """The server's pages may use `notes` and whatever has no policy of its own."""
    async with listening(cors=Cors(LISTED, BY_DATABASE)) as running:
        for name in BY_DATABASE:
            running.databases.by_name[name] = FakeDatabase(name)
        yield running


def question(origin: str = APP, method: str = "PUT", headers: str | None = None) -> dict[str, str]:
    """The headers of a preflight."""
    asked = {} if headers is None else {"Access-Control-Request-Headers": headers}
    return {"Origin": origin, "Access-Control-Request-Method": method, **asked}


def said(answer: httpx.Response) -> dict[str, str]:
    """What an answer says of CORS."""
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


def varies(answer: httpx.Response) -> set[str]:
    return {name.strip() for name in answer.headers.get("vary", "").split(",") if name}


async def test_a_preflight_is_answered_in_couchdbs_form(gateway: Ports) -> None:
    answer = await gateway.public.options("/notes/a", headers=question(headers="Authorization, content-type"))
    assert (answer.status_code, answer.content) == (204, b"")
    assert said(answer) == {
        "access-control-allow-origin": APP,
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "COPY, DELETE, GET, HEAD, OPTIONS, POST, PUT",
        "access-control-allow-headers": "Authorization, content-type",
        "access-control-max-age": "60",
    }
    assert varies(answer) == {"Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "COPY"])
async def test_every_method_of_a_replicator_may_be_sent(gateway: Ports, method: str) -> None:
    answer = await gateway.public.options("/notes", headers=question(method=method))
    assert method in said(answer)["access-control-allow-methods"].split(", ")


@pytest.mark.parametrize(
    "headers",
    [
        *("accept", "authorization", "Content-Type", "if-match", "if-none-match", "origin", "referer", "range"),
        *("X-Requested-With", "destination", "x-couch-full-commit", "content-encoding", "last-event-id"),
        *("x-trace", "X-Trace,authorization", "accept ,, x-trace", ""),
    ],
)
async def test_every_header_that_means_something_may_be_sent(gateway: Ports, headers: str) -> None:
    answer = await gateway.public.options("/notes/_changes", headers=question(method="GET", headers=headers))
    assert said(answer)["access-control-allow-headers"] == headers


@pytest.mark.parametrize(
    "asked",
    [
        question(EVIL),
        question("https://app.example:8443"),
        question("http://app.example"),
        question("https://APP.example"),
        question("null"),
        question("*"),
        question(""),
        question(method="PATCH"),
        question(method="put"),
        question(headers="x-other"),
        question(headers="authorization, x-other"),
        question(headers="*"),
        {"Origin": APP},
        {"Access-Control-Request-Method": "PUT"},
        {},
    ],
)
async def test_what_is_not_allowed_is_not_answered_as_a_preflight(gateway: Ports, asked: Mapping[str, str]) -> None:
    answer = await gateway.public.options("/notes/a", headers=asked)
    assert (answer.status_code, answer.headers["allow"]) == (204, "COPY, DELETE, GET, HEAD, OPTIONS, PUT")
    assert not {"access-control-allow-methods", "access-control-allow-headers"} & set(said(answer))
    assert varies(answer) == {"Origin"}
    if asked.get("Origin") != APP:
        assert said(answer) == {}


@pytest.mark.parametrize(
    ("path", "origin", "allowed", "credentials"),
    [
        ("/notes", APP, True, True),
        ("/notes", TEAM, False, False),
        ("/", APP, True, True),
        ("/_session", APP, True, True),
        ("/nowhere", APP, True, True),
        ("/nowhere/a", TEAM, False, False),
        ("/team", TEAM, True, False),
        ("/team/a/b", TEAM, True, False),
        ("//team//a", TEAM, True, False),
        ("/te%61m", TEAM, True, False),
        ("/team", APP, False, False),
        ("/open", EVIL, True, False),
        ("/open", "null", True, False),
        ("/open", "*", True, False),
        ("/open", "caf\u00e9", False, False),
        ("/open", "a\tb", False, False),
        ("/a%2Fb/doc", EVIL, True, False),
        ("/a/b", EVIL, False, False),
        ("/closed", APP, False, False),
        ("/closed/a", EVIL, False, False),
        ("/%", APP, True, True),
        ("/notes/%ff", APP, True, True),
        ("/notes/_nonsense", APP, True, True),
    ],
)
async def test_whose_policy_holds_where(
    gateway: Ports, path: str, origin: str, allowed: bool, credentials: bool
) -> None:
    """For the request itself, whatever becomes of it, and for its preflight."""
    for method, asked in (("GET", {}), ("OPTIONS", question(method="GET"))):
        given = {**asked, "Origin": origin}
        raw = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in given.items())
        request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode() + raw + b"\r\n"
        head = (await gateway.raw(request)).partition(b"\r\n\r\n")[0].decode()
        lines = head.split("\r\n")
        assert (f"Access-Control-Allow-Origin: {origin}" in lines) is allowed, head
        assert ("Access-Control-Allow-Credentials: true" in lines) is credentials, head
        assert ("Access-Control-Allow" in head) is allowed
        assert ("204 No Content" in lines[0] and "Access-Control-Max-Age" in head) is (allowed and method == "OPTIONS")


async def test_an_answer_names_the_page_and_what_it_may_read(gateway: Ports) -> None:
    gateway.db.docs["a"] = [{"_id": "a", "_rev": "1-a"}]
    answer = await gateway.ann.get("/notes/a", headers={"Origin": APP})
    assert answer.json()["_rev"] == "1-a"
    exposed = said(answer).pop("access-control-expose-headers").split(", ")
    assert {"etag", "location", "content-length", "content-type", "server", "accept-ranges"} <= set(exposed)
    assert {"content-range", "www-authenticate", "x-couch-request-id", "x-couch-update-newrev"} <= set(exposed)
    assert said(answer)["access-control-allow-origin"] == APP
    assert said(answer)["access-control-allow-credentials"] == "true"
    assert varies(answer) == {"Origin"}
    unchanged = await gateway.ann.get("/notes/a", headers={"Origin": APP, "If-None-Match": '"1-a"'})
    assert (unchanged.status_code, said(unchanged)) == (304, said(answer))


async def test_an_answer_to_no_page_says_that_it_would_be_another(gateway: Ports) -> None:
    """Or a cache would give a page the one without headers."""
    for headers in ({}, {"Origin": EVIL}):
        answer = await gateway.ann.get("/notes/_all_docs", headers=headers)
        assert (said(answer), varies(answer)) == ({}, {"Origin"})
    answer = await gateway.public.get("/closed", headers={"Origin": APP})
    assert (said(answer), varies(answer)) == ({}, set())


@pytest.mark.parametrize("error", [TooLarge("too much"), Unavailable(), GatewayError(), RuntimeError("a defect")])
async def test_scripts_can_read_every_error(gateway: Ports, error: Exception) -> None:
    gateway.db.raises = error
    answer = await gateway.ann.get("/notes/_all_docs", headers={"Origin": APP})
    assert answer.status_code in (413, 500, 503)
    assert said(answer)["access-control-allow-origin"] == APP


async def test_scripts_can_read_refusals_and_what_is_missing(gateway: Ports) -> None:
    for client, method, path, status in (
        (gateway.public, "GET", "/notes", 401),
        (gateway.ann, "GET", "/notes/none", 404),
        (gateway.ann, "PATCH", "/notes/none", 405),
        (gateway.ann, "GET", "/_nothing", 401),
        (gateway.ann, "GET", "/notes/_shards", 403),
        (gateway.ann, "POST", "/notes/_bulk_docs", 415),
    ):
        answer = await client.request(method, path, headers={"Origin": APP})
        assert (answer.status_code, said(answer).get("access-control-allow-origin")) == (status, APP), path
    assert await gateway.traffic.drain(10)
    stopping = await gateway.ann.get("/notes/a", headers={"Origin": APP})
    assert (stopping.status_code, said(stopping)["access-control-allow-origin"]) == (503, APP)


@pytest.mark.parametrize("path", ["/notes", "/notes/_bulk_docs", "/notes/_bulk_get", "/notes/_revs_diff"])
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
async def test_what_a_page_can_send_without_a_preflight_writes_nothing(
    gateway: Ports, path: str, kind: str | None
) -> None:
    """With the login that its visitor's browser remembers."""
    headers = {"Origin": EVIL} if kind is None else {"Origin": EVIL, "Content-Type": kind}
    answer = await gateway.ann.post(path, content=b'{"_id":"planted","docs":[{"_id":"planted"}]}', headers=headers)
    assert answer.status_code == 415
    assert gateway.db.docs == {}


@pytest.mark.parametrize("kind", ["normal", "longpoll", "continuous"])
async def test_scripts_can_read_feeds(gateway: Ports, kind: str) -> None:
    gateway.db.feed = FakeFeed([FeedRows([b'"%b"' % (b"x" * 70_000)])])
    answer = await gateway.ann.get("/notes/_changes", params={"feed": kind}, headers={"Origin": APP})
    assert (answer.status_code, said(answer)["access-control-allow-origin"]) == (200, APP)
    assert "Origin" in varies(answer)


async def test_scripts_can_read_what_the_upstream_streams(gateway: Ports) -> None:
    """Whose own words on CORS, which are about its own origins, stay behind."""
    theirs = {"access-control-allow-origin": EVIL, "vary": "Accept", "etag": '"d"'}
    gateway.db.upstream = upstream_answer(200, b"data", theirs)
    answer = await gateway.ann.get("/notes/a/b", headers={"Origin": APP})
    assert (answer.content, said(answer)["access-control-allow-origin"]) == (b"data", APP)
    async with listening(admins={"ops": "secret"}, allow_admins=True, cors=Cors(LISTED)) as other:
        other.db.upstream = upstream_answer(200, b"data", theirs)
        view = await other.public.get("/notes/_design/x", auth=("ops", "secret"), headers={"Origin": APP})
        assert (view.content, said(view)["access-control-allow-origin"]) == (b"data", APP)
        assert varies(view) == {"Accept", "Origin"}


async def test_a_preflight_needs_no_login_and_tells_nothing_of_databases(gateway: Ports) -> None:
    for auth in (None, ("ann", "wrong")):
        for path in ("", "/a", "/_changes", "/_nonsense", "/a/b/c"):
            answers = [
                await gateway.public.request("OPTIONS", f"/{name}{path}", headers=question(), auth=auth)
                for name in ("notes", "nowhere")
            ]
            for answer in answers:
                answer.headers.pop("date", None)
            assert answers[0].status_code == answers[1].status_code == 204
            assert answers[0].headers == answers[1].headers
    assert gateway.databases.refused == []


async def test_other_ports_know_no_pages(gateway: Ports) -> None:
    for client in (gateway.admin, gateway.metrics):
        asked = await client.options("/_up", headers=question(method="GET"))
        assert (said(asked), varies(asked)) == ({}, set())
    refused = await gateway.admin.get("/notes", headers={"Origin": APP})
    assert (refused.status_code, said(refused)) == (403, {})
    numbers = await gateway.metrics.get("/_metrics", headers={"Origin": APP})
    assert (numbers.status_code, said(numbers)) == (200, {})


async def test_without_configuration_nothing_is_said() -> None:
    async with listening() as plain:
        for method, headers in (("OPTIONS", question()), ("GET", {"Origin": APP}), ("GET", {})):
            answer = await plain.ann.request(method, "/notes", headers=headers)
            assert (said(answer), varies(answer)) == ({}, set())


async def test_a_database_made_by_request_answers_like_one_that_is_not_there() -> None:
    cors = Cors()
    cors.configure(None, {"notes": None}, CorsPolicy(frozenset({TEAM})))
    async with listening(cors=cors) as gateway:
        gateway.databases.by_name["made"] = FakeDatabase("made")
        for path, allowed in (("/made", True), ("/nowhere/a", True), ("/notes", False), ("/", False), ("/_up", False)):
            asked = await gateway.public.options(path, headers=question(TEAM))
            got = await gateway.public.get(path, headers={"Origin": TEAM})
            assert (bool(said(asked)), bool(said(got))) == (allowed, allowed), path


async def test_a_changed_configuration_holds_for_the_next_request() -> None:
    cors = Cors(LISTED)
    async with listening(cors=cors) as gateway:
        feed = gateway.db.feed = FakeFeed([asyncio.Event()])
        async with feeding(gateway, "feed=continuous"):
            await asyncio.wait_for(feed.waiting.wait(), 10)
            cors.configure(None, {"notes": CorsPolicy(frozenset({TEAM}))}, None)
            for origin, allowed in ((APP, False), (TEAM, True)):
                answer = await gateway.ann.get("/notes", headers={"Origin": origin})
                assert bool(said(answer)) is allowed
            assert said(await gateway.ann.get("/", headers={"Origin": APP})) == {}


async def test_a_script_gets_no_challenge_that_would_open_a_window(gateway: Ports) -> None:
    answer = await gateway.public.get("/notes", headers={"Origin": APP})
    assert json.loads(answer.content)["code"] == "CG2000"
    assert "www-authenticate" not in answer.headers


def test_credentials_are_never_for_every_origin() -> None:
    with pytest.raises(ValueError, match="named"):
        CorsPolicy(frozenset({"*", APP}), credentials=True)


@pytest.mark.parametrize(
    "origin",
    [
        *("*", APP, TEAM, "http://localhost:3000", "http://127.0.0.1", "http://[::1]:5173", "capacitor://localhost"),
        *("chrome-extension://abcdefghijklmnop", "https://xn--bcher-kva.example"),
    ],
)
def test_an_origin_as_browsers_send_it_is_taken(origin: str) -> None:
    assert check_origin(origin) == origin


@pytest.mark.parametrize(
    ("origin", "problem"),
    [
        ("https://app.example/", 'as browsers send it: "https://app.example"'),
        ("https://App.Example/path?q", 'as browsers send it: "https://app.example"'),
        ("HTTP://app.example:80", 'as browsers send it: "http://app.example"'),
        ("https://app.example:443", 'as browsers send it: "https://app.example"'),
        ("https://app.example:0444", 'as browsers send it: "https://app.example:444"'),
        ("null", "cannot be told apart"),
        ("https://*.example", "one exact origin"),
        ("**", "one exact origin"),
        ("app.example", "SCHEME://HOST"),
        ("https://", "SCHEME://HOST"),
        ("https://a:70000", "SCHEME://HOST"),
        ("https://a:0", "SCHEME://HOST"),
        ("https://ann:secret@app.example", "SCHEME://HOST"),
        ("https://b\u00fccher.example", "in ASCII"),
        ("https://a, https://b", "SCHEME://HOST"),
        ("", "SCHEME://HOST"),
        ("https://a\r\nX: y", "SCHEME://HOST"),
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        check_origin(origin)


@pytest.mark.parametrize("name", ["", "*", "a b", "a:", "x\r\ny", "\u00e9"])
def test_what_is_no_name_of_a_header_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="the name of one request header"):
        check_header_name(name)
    assert check_header_name("X-Trace") == "x-trace"
