"""Logging in with CouchDB's cookie."""

from __future__ import annotations

import asyncio
import email.utils
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from gateway import limits
from gateway.auth.origins import CorsPolicy
from gateway.callers import Caller, administrator
from gateway.http.cookies import CookieForm, token_of
from gateway.http.cors import Cors
from tests.http.conftest import ANN, OPS, Ports, listening

LOGIN = {"name": "ann", "password": "secret"}
HANDLERS = ["cookie", "default"]


async def log_in(http: httpx.AsyncClient, path: str = "/_session", **login: str) -> dict[str, str]:
    """The header to send from then on; the client itself keeps no cookie."""
    answer = await http.post(path, json=login or LOGIN)
    assert answer.status_code == 200, answer.text
    http.cookies.clear()
    return cookie(token(answer))


def cookie(value: str) -> dict[str, str]:
    return {"Cookie": f"AuthSession={value}"}


def token(answer: httpx.Response) -> str:
    return SimpleCookie(answer.headers["set-cookie"])["AuthSession"].value


def same_session(one: dict[str, str], other: dict[str, str]) -> bool:
    """Whether both cookies are of one session, perhaps of different times."""
    return token_of(one["Cookie"].partition("=")[2]) == token_of(other["Cookie"].partition("=")[2])


def attributes(answer: httpx.Response) -> dict[str, str]:
    return {name: str(value) for name, value in SimpleCookie(answer.headers["set-cookie"])["AuthSession"].items()}


async def test_logging_in_answers_as_couchdb_with_a_cookie(gateway: Ports) -> None:
    answer = await gateway.public.post("/_session", json=LOGIN)
    assert answer.status_code == 200
    assert answer.text == '{"ok":true,"name":"ann","roles":[]}\n'
    given = attributes(answer)
    assert (given["path"], given["max-age"], given["version"], given["domain"]) == ("/", "600", "1", "")
    assert (given["httponly"], given["samesite"], given["secure"]) == ("True", "Lax", "")
    expires = email.utils.parsedate_to_datetime(given["expires"]).timestamp()
    assert expires == gateway.now + 600


async def test_the_cookie_tells_name_and_time_in_couchdbs_form(gateway: Ports) -> None:
    value = token(await gateway.public.post("/_session", json=LOGIN))
    name, since, rest = urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode().split(":")
    assert (name, int(since, 16)) == ("ann", int(gateway.now))
    gateway.public.cookies.clear()
    for one in (value, rest):  # the token alone is Sync Gateway's form
        assert (await gateway.public.get("/notes", headers=cookie(one))).status_code == 200
        gateway.public.cookies.clear()
    for broken in (value[:-1], value + "x", urlsafe_b64encode(f"bob:{since}:x{rest}".encode()).decode()):
        assert (await gateway.public.get("/notes", headers=cookie(broken))).status_code == 401


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", json.dumps(LOGIN)),
        ("application/json; charset=utf-8", json.dumps({"username": "ann", "password": "secret", "more": 1})),
        ("application/x-www-form-urlencoded", urlencode(LOGIN)),
        ("application/x-www-form-urlencoded; charset=utf-8", "username=ann&password=secret&name=ann"),
    ],
)
async def test_json_and_forms_log_in(gateway: Ports, kind: str, body: str) -> None:
    answer = await gateway.public.post("/_session", content=body, headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["name"]) == (200, "ann")


async def test_names_and_passwords_are_any_text(gateway: Ports) -> None:
    answer = await gateway.public.post("/_session", data={"name": "Zoë", "password": "pä:ss"})
    assert (answer.status_code, answer.json()["name"]) == (200, "Zoë")


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        ("application/json", "{}", "request body must contain a username"),
        ("application/json", '{"name": "ann", "username": "bob"}', "request body contains different usernames"),
        ("application/json", '{"name": 1, "password": "secret"}', "name and password must be strings"),
        ("application/json", '{"name": "ann", "password": null}', "name and password must be strings"),
        ("application/json", "[]", "Request body must be a JSON object"),
        ("application/json", "{", None),
        ("application/x-www-form-urlencoded", "", "request body must contain a username"),
        ("application/x-www-form-urlencoded", "name=%zz", "the form is malformed"),
        ("application/x-www-form-urlencoded", "name=%ff", "the form is malformed"),
    ],
)
async def test_a_body_that_is_no_login_is_refused(gateway: Ports, kind: str, body: str, reason: str | None) -> None:
    for path in ("/_session", "/notes/_session"):
        answer = await gateway.public.post(path, content=body, headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
        assert reason is None or answer.json()["reason"] == reason


@pytest.mark.parametrize("kind", ["text/plain", "image/gif", "multipart/form-data; boundary=x", None])
async def test_a_body_of_another_type_is_415_in_couchdbs_words(gateway: Ports, kind: str | None) -> None:
    for path in ("/_session", "/notes/_session"):
        headers = {} if kind is None else {"Content-Type": kind}
        answer = await gateway.public.post(path, content=json.dumps(LOGIN), headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (415, "bad_content_type")
        assert (
            answer.json()["reason"] == "Content-Type must be 'application/x-www-form-urlencoded' or 'application/json'"
        )


async def test_a_large_body_is_refused(gateway: Ports) -> None:
    answer = await gateway.public.post("/_session", json={**LOGIN, "x": "x" * limits.LOGIN_BODY_BYTES})
    assert (answer.status_code, answer.json()["error"]) == (413, "too_large")


@pytest.mark.parametrize(
    "login",
    [
        {"name": "ann", "password": "wrong"},
        {"name": "nobody", "password": "secret"},
        {"name": "GUEST", "password": ""},
        {"name": "", "password": ""},
        {"name": "ann"},
        {"name": "a" * 300, "password": "x"},
        {"name": "ann", "password": "x" * 2_000},
        {"name": "a\x00b", "password": "x"},
    ],
)
async def test_a_wrong_login_takes_the_cookie_away_and_asks_no_browser(gateway: Ports, login: dict[str, Any]) -> None:
    gateway.db.guest_enabled = True
    for path in ("/_session", "/notes/_session", "/nowhere/_session"):
        answer = await gateway.public.post(path, json=login)
        assert answer.status_code == 401
        assert answer.json() == {
            "error": "unauthorized", "reason": "Name or password is incorrect.", "code": "CG2001",
        }  # fmt: skip
        assert "www-authenticate" not in answer.headers
        assert (token(answer), attributes(answer)["max-age"]) == ("", "0")


async def test_the_cookie_is_the_user_everywhere(gateway: Ports) -> None:
    mine = await log_in(gateway.public)
    assert (await gateway.public.get("/notes", headers=mine)).status_code == 200
    assert gateway.db.last("info") == Caller("ann")
    assert (await gateway.public.put("/notes/a", json={}, headers=mine)).status_code == 201
    quoted = {"Cookie": f'other=1; AuthSession="{mine["Cookie"].partition("=")[2]}"; AuthSession=old'}
    assert (await gateway.public.get("/notes", headers=quoted)).status_code == 200


async def test_the_session_says_who_one_is_and_how(gateway: Ports) -> None:
    nobody = {
        "ok": True, "userCtx": {"name": None, "roles": []}, "info": {"authentication_handlers": HANDLERS},
    }  # fmt: skip
    assert (await gateway.public.get("/_session")).json() == nobody
    mine = await log_in(gateway.public)
    answer = await gateway.public.get("/_session", headers=mine)
    assert answer.text == (
        '{"ok":true,"userCtx":{"name":"ann","roles":[]},'
        '"info":{"authentication_handlers":["cookie","default"],"authenticated":"cookie"}}\n'
    )
    answer = await gateway.public.get("/_session", auth=ANN)
    assert (answer.json()["userCtx"]["name"], answer.json()["info"]["authenticated"]) == ("ann", "default")
    assert (await gateway.public.get("/_session", auth=("ann", "wrong"))).status_code == 401
    for broken in ("garbage", "a" * 43, "äöü"):
        answer = await gateway.public.get("/_session", headers=[(b"Cookie", f"AuthSession={broken}".encode())])
        assert (answer.status_code, answer.json()) == (200, nobody)
    assert (await gateway.public.get("/_session?basic=true")).json()["reason"] == "Please login."
    assert (await gateway.public.get("/_session?basic=true", headers=mine)).status_code == 200


async def test_a_cookie_that_is_not_valid_is_never_taken_for_the_guest(gateway: Ports) -> None:
    gateway.db.guest_enabled = True
    mine = await log_in(gateway.public)
    for broken in (cookie("garbage"), cookie("a" * 43), cookie("x=y=z")):
        for path in ("/notes", "/notes/_changes", "/notes/a", "/nowhere"):
            answer = await gateway.public.get(path, headers=broken)
            assert (answer.status_code, answer.json()["code"]) == (401, "CG2002")
        assert (await gateway.public.get("/notes", headers=broken, auth=ANN)).status_code == 200
    for none in (cookie(""), {"Cookie": "other=x"}, {"Cookie": ""}, {"Cookie": ";;="}):
        await gateway.public.get("/notes", headers=none)
        assert gateway.db.last("info") == Caller("GUEST")
    gateway.now += 600
    assert (await gateway.public.get("/notes", headers=mine)).json() == {
        "error": "unauthorized", "reason": "the session is over, log in again", "code": "CG2002",
    }  # fmt: skip


async def test_authorization_wins_over_the_cookie(gateway: Ports) -> None:
    mine = await log_in(gateway.public)
    await gateway.public.get("/notes", headers=mine, auth=("bob", "secret"))
    assert gateway.db.last("info") == Caller("bob")
    assert (await gateway.public.get("/notes", headers=mine, auth=("bob", "wrong"))).status_code == 401


async def test_a_session_of_another_database_is_no_login_to_this_one(gateway: Ports) -> None:
    """Browsers send the cookie to every database; in one where it was nobody it is as if there were none."""
    made, _ = await gateway.sessions.create("ann", {"other": 1})
    assert (await gateway.public.get("/notes", headers=cookie(made))).json()["code"] == "CG2000"
    gateway.db.guest_enabled = True
    await gateway.public.get("/notes", headers=cookie(made))
    assert gateway.db.last("info") == Caller("GUEST")
    answer = await gateway.public.get("/other", headers=cookie(made))
    assert (answer.status_code, answer.json()["code"]) == (401, "CG2002")  # that database is not served any more


async def test_a_session_is_over_when_the_users_logins_are(gateway: Ports) -> None:
    gateway.db.guest_enabled = True
    mine = await log_in(gateway.public)
    gateway.db.login_seqs["ann"] = 2
    assert (await gateway.public.get("/notes", headers=mine)).json()["code"] == "CG2002"
    assert (await gateway.public.get("/_session", headers=mine)).json()["userCtx"]["name"] is None
    mine = await log_in(gateway.public)
    assert (await gateway.public.get("/notes", headers=mine)).status_code == 200
    del gateway.db.users["ann"]
    assert (await gateway.public.get("/notes", headers=mine)).json()["code"] == "CG2002"


async def test_logging_out_ends_the_session(gateway: Ports) -> None:
    for path in ("/_session", "/notes/_session", "/nowhere/_session"):
        mine = await log_in(gateway.public)
        answer = await gateway.public.delete(path, headers=mine)
        assert (answer.status_code, answer.text) == (200, '{"ok":true}\n')
        assert (token(answer), attributes(answer)["max-age"], attributes(answer)["path"]) == ("", "0", "/")
        assert (await gateway.public.get("/notes", headers=mine)).status_code == 401
        assert (await gateway.public.delete(path, headers=mine)).status_code == 200
    assert (await gateway.public.delete("/_session")).status_code == 200


async def test_a_session_in_use_is_given_its_whole_time_again_now_and_then(gateway: Ports) -> None:
    mine = await log_in(gateway.public)
    for passed, path, renewed in (
        (60, "/notes", False), (1, "/notes", True), (1, "/notes", False),
        (70, "/_session", True), (70, "/notes/nothing", True), (70, "/notes/_session", True),
    ):  # fmt: skip
        gateway.now += passed
        answer = await gateway.public.get(path, headers=mine)
        assert ("set-cookie" in answer.headers) == renewed, path
        if renewed:
            assert same_session(cookie(token(answer)), mine)
            assert attributes(answer)["max-age"] == "600"
    gateway.now += 599
    assert (await gateway.public.get("/notes", headers=mine)).status_code == 200


async def test_a_feed_renews_the_cookie_in_its_head(gateway: Ports) -> None:
    mine = await log_in(gateway.public)
    gateway.now += 100
    answer = await gateway.public.get("/notes/_changes?feed=continuous", headers=mine)
    assert same_session(cookie(token(answer)), mine)


@pytest.mark.parametrize("path", ["/", "/notes/_all_docs?a=b&c=%20d#x", "/a//b", "/zoë"])
async def test_next_leads_to_a_path_of_this_server(gateway: Ports, path: str) -> None:
    for method, name, login in (("POST", "next", LOGIN), ("POST", "fail", {"name": "ann"}), ("DELETE", "next", {})):
        content = json.dumps(login) if method == "POST" else None
        answer = await gateway.public.request(
            method, "/_session", params={name: path}, content=content, headers={"Content-Type": "application/json"}
        )
        assert (answer.status_code, answer.headers["location"]) == (302, path.replace("ë", "%C3%AB"))
        assert "set-cookie" in answer.headers


@pytest.mark.parametrize(
    "path",
    ["", "https://evil.example", "//evil.example", "/\\evil.example", "\\/x", "evil", "/a\r\nX: y", "/\t/x", "/ /x"],
)
async def test_next_leads_nowhere_else(gateway: Ports, path: str) -> None:
    for method, name in (("POST", "next"), ("POST", "fail"), ("DELETE", "next")):
        answer = await gateway.public.request(
            method, "/_session", params={name: path}, json=LOGIN if method == "POST" else None
        )
        assert (answer.status_code, answer.json()["error"]) == (400, "query_parse_error")
        assert "location" not in answer.headers
        assert "set-cookie" not in answer.headers


async def test_couchdbs_replicator_finds_what_it_expects(gateway: Ports) -> None:
    """couch_replicator_auth_session: a form, then 200 with a cookie whose Max-Age says when to come again; 401 without
    a challenge is a wrong login, and final."""
    head = b"POST /_session HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    kind = b"Content-Type: application/x-www-form-urlencoded\r\n"
    for password, expected in ((b"secret", "200"), (b"wrong", "401")):
        body = b"name=ann&password=" + password
        answer = await gateway.raw(head + kind + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        lines = answer.decode().split("\r\n")
        assert lines[0].split()[1] == expected
        assert sum(line.lower().startswith("set-cookie: authsession=") for line in lines) == 1
        assert not any(line.lower().startswith("www-authenticate") for line in lines)


# Administrators


async def test_an_admin_logs_in_where_admins_are_let_in(guarded: Ports) -> None:
    for http in (guarded.public, guarded.admin):
        mine = await log_in(http, name=OPS[0], password=OPS[1])
        answer = await http.get("/_session", headers=mine)
        assert answer.json()["userCtx"] == {"name": "ops", "roles": ["_admin"]}
        assert answer.json()["info"]["authenticated"] == "cookie"
        assert (await http.get("/notes", headers=mine)).status_code == 200
        assert guarded.db.last("info") == administrator("ops")
        assert (await http.get("/_all_dbs", headers=mine)).json() == ["_users", "notes"]
        assert (await http.get("/nowhere", headers=mine)).status_code == 404
        await http.delete("/_session", headers=mine)
        assert (await http.get("/notes", headers=mine)).status_code == 401
    answer = await guarded.public.post("/notes/_session", json={"name": OPS[0], "password": OPS[1]})
    assert answer.json()["userCtx"]["roles"] == ["_admin"]
    assert (await guarded.public.get("/_all_dbs")).status_code == 200
    assert (await guarded.admin.post("/_session", json={"name": OPS[0], "password": "wrong"})).status_code == 401


async def test_users_do_not_log_in_at_the_admin_port(guarded: Ports) -> None:
    assert (await guarded.admin.post("/_session", json=LOGIN)).status_code == 401
    mine = await log_in(guarded.public)
    for path in ("/notes", "/_all_dbs", "/notes/_user/"):
        answer = await guarded.admin.get(path, headers=mine)
        assert (answer.status_code, answer.json()["reason"]) == (401, "You are not a server admin.")
    assert (await guarded.admin.get("/_session", headers=mine)).json()["userCtx"]["name"] is None
    assert (await guarded.public.get("/_all_dbs", headers=mine)).status_code == 401


async def test_an_admins_cookie_is_nothing_where_admins_are_not_let_in() -> None:
    async with listening(admins=dict([OPS])) as closed:
        mine = await log_in(closed.admin, name=OPS[0], password=OPS[1])
        assert (await closed.admin.get("/notes", headers=mine)).status_code == 200
        assert (await closed.public.get("/notes", headers=mine)).json()["code"] == "CG2002"
        assert (await closed.public.get("/_session", headers=mine)).json()["userCtx"]["name"] is None
        assert (await closed.public.post("/_session", json=dict(zip(("name", "password"), OPS, strict=True)))).is_error


async def test_an_admin_port_that_trusts_this_machine_has_no_logins(gateway: Ports) -> None:
    assert (await gateway.admin.post("/_session", json=LOGIN)).status_code == 404
    answer = await gateway.admin.get("/_session", headers=cookie("garbage"))
    assert answer.json()["userCtx"] == {"name": None, "roles": ["_admin"]}


async def test_an_admin_makes_a_session_for_a_user_without_the_password(gateway: Ports) -> None:
    answer = await gateway.admin.post("/notes/_session", json={"name": "ann", "ttl": 7_200})
    assert answer.status_code == 200
    made = answer.json()
    assert made == {"session_id": made["session_id"], "expires": "2023-11-15T00:13:20Z", "cookie_name": "AuthSession"}
    mine = cookie(made["session_id"])
    gateway.now += 7_100
    await gateway.public.get("/notes", headers=mine)
    assert gateway.db.last("info") == Caller("ann")
    assert (await gateway.admin.get(f"/notes/_session/{made['session_id']}")).json()["userCtx"]["name"] == "ann"
    assert (await gateway.admin.delete(f"/notes/_session/{made['session_id']}")).status_code == 200
    assert (await gateway.public.get("/notes", headers=mine)).status_code == 401
    for method in ("GET", "DELETE"):
        answer = await gateway.admin.request(method, f"/notes/_session/{made['session_id']}")
        assert answer.status_code == 404
    by_default = (await gateway.admin.post("/notes/_session", json={"name": "ann"})).json()["expires"]
    assert by_default == "2023-11-16T00:11:40Z"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400), ({"name": ""}, 400), ({"name": 1}, 400), ({"name": "GUEST"}, 400), ({"name": "nobody"}, 404),
        ({"name": "ann", "ttl": 0}, 400), ({"name": "ann", "ttl": "x"}, 400), ({"name": "ann", "ttl": True}, 400),
        ({"name": "ann", "ttl": 10**12}, 400), ({"name": "ann", "more": 1}, 400), ([], 400),
    ],
)  # fmt: skip
async def test_a_session_that_cannot_be_made_is_refused(gateway: Ports, body: Any, status: int) -> None:
    assert (await gateway.admin.post("/notes/_session", json=body)).status_code == status


async def test_an_admin_ends_the_sessions_of_a_user(gateway: Ports) -> None:
    gateway.db.principals["user", "ann"] = {}
    first, second, bobs = (
        await log_in(gateway.public), await log_in(gateway.public),
        await log_in(gateway.public, name="bob", password="secret"),
    )  # fmt: skip
    id = first["Cookie"].partition("=")[2]
    assert (await gateway.admin.delete(f"/notes/_user/bob/_session/{id}")).status_code == 404
    assert (await gateway.admin.delete(f"/notes/_user/ann/_session/{id}")).status_code == 200
    assert (await gateway.admin.delete(f"/notes/_user/ann/_session/{id}")).status_code == 404
    assert (await gateway.public.get("/notes", headers=first)).status_code == 401
    assert (await gateway.public.get("/notes", headers=second)).status_code == 200
    assert (await gateway.admin.delete("/notes/_user/ann/_session")).status_code == 200
    assert (await gateway.public.get("/notes", headers=second)).status_code == 401
    assert (await gateway.public.get("/notes", headers=bobs)).status_code == 200
    assert (await gateway.admin.delete("/notes/_user/nobody/_session")).status_code == 404


# Other people's pages


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    ],
)
async def test_a_page_elsewhere_cannot_use_the_cookie(gateway: Ports, headers: dict[str, str]) -> None:
    gateway.db.guest_enabled = True
    mine = await log_in(gateway.public)
    requests = [("GET", "/notes"), ("PUT", "/notes/a"), ("POST", "/notes/_bulk_docs"), ("DELETE", "/notes/a")]
    for method, path in [*requests, ("GET", "/notes/_changes"), ("DELETE", "/_session"), ("GET", "/_session")]:
        body: dict[str, Any] | None = {"docs": []} if method == "POST" else None
        answer = await gateway.public.request(method, path, headers={**mine, **headers}, json=body)
        assert (answer.status_code, answer.json()["error"]) == (403, "forbidden"), (method, path)
    assert not gateway.db.asked
    answer = await gateway.public.post("/_session", data=LOGIN, headers=headers)
    assert answer.status_code == 403, "nor log its visitor in as somebody else"
    assert "set-cookie" not in answer.headers
    assert (await gateway.public.get("/notes", headers=headers)).status_code == 200
    assert gateway.db.last("info") == Caller("GUEST")
    await gateway.public.get("/notes", headers={**mine, **headers}, auth=ANN)
    assert gateway.db.last("info") == Caller("ann")


@pytest.fixture
async def trusting() -> AsyncIterator[Ports]:
    """Where CORS lets one origin act for its visitors, and others ask without their login only."""
    policy = CorsPolicy(frozenset({"https://trusted.example"}), credentials=True)
    without = CorsPolicy(frozenset({"https://listed.example", "*"}))
    async with listening(cors=Cors(policy, {"plain": without})) as running:
        running.databases.by_name["plain"] = running.db
        yield running


async def test_a_page_that_is_allowed_without_credentials_cannot_use_the_cookie(trusting: Ports) -> None:
    mine = await log_in(trusting.public)
    for origin in ("https://listed.example", "https://evil.example"):
        answer = await trusting.public.get("/plain/a", headers={**mine, "Origin": origin})
        assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
        assert answer.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in answer.headers


async def test_pages_of_the_gateways_own_and_trusted_ones_use_the_cookie(trusting: Ports) -> None:
    gateway, own = trusting, f"127.0.0.1:{trusting.ports['public']}"
    mine = await log_in(gateway.public)
    for headers in (
        {"Origin": f"http://{own}"},
        {"Origin": "https://app.example", "Host": "app.example"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://app.example"},  # a proxy changed Host
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://trusted.example"},
        {"Origin": "https://trusted.example"},
    ):
        for method, path in (("GET", "/notes"), ("POST", "/notes/_bulk_docs")):
            body: dict[str, Any] | None = {"docs": []} if method == "POST" else None
            answer = await gateway.public.request(method, path, headers={**mine, **headers}, json=body)
            assert answer.is_success, (headers, answer.text)
        assert (await gateway.public.post("/_session", json=LOGIN, headers=headers)).status_code == 200
        gateway.public.cookies.clear()


async def test_a_link_from_elsewhere_may_be_followed(gateway: Ports) -> None:
    mine = await log_in(gateway.public)
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert (await gateway.public.get("/notes", headers={**mine, **link})).status_code == 200
    answer = await gateway.public.post("/notes/_bulk_docs", json={"docs": []}, headers={**mine, **link})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None]
)
async def test_what_a_form_could_have_posted_is_not_taken_with_a_cookie(gateway: Ports, kind: str | None) -> None:
    mine = await log_in(gateway.public)
    headers = mine if kind is None else {**mine, "Content-Type": kind}
    for path in ("/notes", "/notes/_bulk_docs", "/notes/_compact", "/notes/_ensure_full_commit"):
        answer = await gateway.public.post(path, content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (415, "bad_content_type")
    assert not gateway.db.asked


@pytest.mark.parametrize(
    ("form", "by", "samesite", "secure"),
    [
        (CookieForm(), {}, "Lax", False),
        (CookieForm(), {"X-Forwarded-Proto": "https"}, "Lax", True),
        (CookieForm(), {"X-Forwarded-Proto": "https, http"}, "Lax", True),
        (CookieForm(), {"X-Forwarded-Proto": "http"}, "Lax", False),
        (CookieForm("strict", secure=True), {}, "Strict", True),
        (CookieForm("none"), {}, "None", True),
    ],
)
async def test_the_cookie_has_the_configured_form(
    form: CookieForm, by: dict[str, str], samesite: str, secure: bool
) -> None:
    async with listening(cookie_form=form) as running:
        answer = await running.public.post("/_session", json=LOGIN, headers=by)
        assert attributes(answer)["samesite"] == samesite
        assert bool(attributes(answer)["secure"]) == secure


async def test_logging_in_to_one_database(gateway: Ports) -> None:
    answer = await gateway.public.post("/notes/_session", json=LOGIN)
    assert (answer.status_code, answer.json()["userCtx"]["name"]) == (200, "ann")
    mine = cookie(token(answer))
    gateway.public.cookies.clear()
    assert attributes(answer)["path"] == "/"
    assert (await gateway.public.get("/notes", headers=mine)).status_code == 200
    assert (await gateway.public.get("/notes/_session", headers=mine)).json()["userCtx"]["name"] == "ann"
    assert (await gateway.public.post("/notes/_session", auth=ANN)).status_code == 200
    assert (await gateway.public.post("/notes/_session", auth=("ann", "wrong"))).status_code == 401
    assert gateway.databases.refused == []
    assert (await gateway.public.post("/nowhere/_session", json=LOGIN)).status_code == 401
    assert gateway.databases.refused == [ANN]


async def test_many_requests_with_one_cookie_at_once(gateway: Ports) -> None:
    mine = await log_in(gateway.public)
    answers = await asyncio.gather(*(gateway.public.get("/notes", headers=mine) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
