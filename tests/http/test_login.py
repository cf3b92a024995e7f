"""Who comes in where."""

from __future__ import annotations

import base64

import pytest

from gateway.callers import Caller, administrator
from tests.http.conftest import ANN, OPS, Ports, listening

CHALLENGE = 'Basic realm="Couch Gateway"'


async def test_without_a_login_there_is_a_challenge(gateway: Ports) -> None:
    answer = await gateway.public.get("/notes")
    assert answer.status_code == 401
    assert answer.json() == {"error": "unauthorized", "reason": "Login required", "code": "CG2000"}
    assert answer.headers["www-authenticate"] == CHALLENGE


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Requested-With": "XMLHttpRequest"},
        {"Origin": "https://app.example"},
        {"X-CouchDB-WWW-Authenticate": "Cookie"},
        {"Sec-Fetch-Mode": "cors"},
    ],
)
async def test_scripts_of_a_web_page_get_no_challenge(gateway: Ports, headers: dict[str, str]) -> None:
    answer = await gateway.public.get("/notes", headers=headers)
    assert answer.status_code == 401
    assert "www-authenticate" not in answer.headers


async def test_a_page_that_a_person_opens_gets_a_challenge(gateway: Ports) -> None:
    answer = await gateway.public.get("/notes", headers={"Sec-Fetch-Mode": "navigate"})
    assert answer.headers["www-authenticate"] == CHALLENGE


@pytest.mark.parametrize(
    "header",
    [
        "Basic " + base64.b64encode(b"ann:wrong").decode(),
        "Basic " + base64.b64encode(b"nobody:secret").decode(),
        "Basic x",
        "Basic",
        "Bearer abc",
        "",
    ],
)
async def test_a_wrong_login_is_never_taken_for_the_guest(gateway: Ports, header: str) -> None:
    gateway.db.guest_enabled = True
    answer = await gateway.public.get("/notes", headers={"Authorization": header})
    assert (answer.status_code, answer.json()["reason"]) == (401, "Invalid login")


async def test_a_user_and_the_guest_come_in_as_themselves(gateway: Ports) -> None:
    await gateway.public.get("/notes", auth=ANN)
    assert gateway.db.last("info") == Caller("ann")
    await gateway.public.get("/notes", auth=("Zoë", "pä:ss"))
    assert gateway.db.last("info") == Caller("Zoë")
    gateway.db.guest_enabled = True
    await gateway.public.get("/notes")
    assert gateway.db.last("info") == Caller("GUEST")


@pytest.mark.parametrize(
    "path", ["", "/", "/a", "/_all_docs", "/_changes", "/_local/x", "/_design/x", "/_session", "/a/b"]
)
async def test_a_database_that_does_not_exist_refuses_like_one_with_a_wrong_login(gateway: Ports, path: str) -> None:
    for auth in (None, ("ann", "wrong")):
        for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"):
            there = await gateway.public.request(method, f"/notes{path}", auth=auth)
            nowhere = await gateway.public.request(method, f"/nowhere{path}", auth=auth)
            assert (there.status_code, there.content) == (nowhere.status_code, nowhere.content), method
            for headers in (there.headers, nowhere.headers):
                headers.pop("date", None)
            assert there.headers == nowhere.headers
    asked = {name for name, _ in gateway.databases.refused}
    assert asked == {"ann"}  # so that time does not tell either


async def test_a_right_login_elsewhere_does_not_tell_which_databases_exist(gateway: Ports) -> None:
    answer = await gateway.public.get("/nowhere", auth=ANN)
    assert (answer.status_code, answer.json()["reason"]) == (401, "Invalid login")
    assert gateway.databases.refused == [ANN]


async def test_the_admin_port_says_which_database_is_not_there(gateway: Ports) -> None:
    answer = await gateway.admin.get("/nowhere")
    assert (answer.status_code, answer.json()["reason"]) == (404, "Database does not exist.")


async def test_without_admins_the_admin_port_trusts_this_machine_but_no_web_page(gateway: Ports) -> None:
    assert (await gateway.admin.get("/notes")).status_code == 200
    assert gateway.db.last("info") == administrator()
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        for path in ("/notes", "/_all_dbs", "/notes/_user/", "/_session"):
            answer = await gateway.admin.get(path, headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (403, "forbidden"), (path, headers)


async def test_with_admins_the_admin_port_asks_for_one_of_them(guarded: Ports) -> None:
    assert (await guarded.admin.get("/notes")).status_code == 401
    assert (await guarded.admin.get("/notes", auth=ANN)).status_code == 401
    assert (await guarded.admin.get("/notes", auth=(OPS[0], "wrong"))).status_code == 401
    assert (await guarded.admin.get("/notes", auth=OPS)).status_code == 200
    assert guarded.db.last("info") == administrator("ops")


async def test_an_admin_who_is_let_in_is_an_administrator_at_the_public_port(guarded: Ports) -> None:
    assert (await guarded.public.get("/notes", auth=OPS)).status_code == 200
    assert guarded.db.last("info") == administrator("ops")
    assert (await guarded.public.get("/_all_dbs", auth=OPS)).json() == ["_users", "notes"]
    assert (await guarded.public.get("/nowhere", auth=OPS)).status_code == 404
    assert (await guarded.public.get("/_all_dbs", auth=ANN)).status_code == 401
    wrong = await guarded.public.get("/notes", auth=("ops", "wrong"))
    assert (wrong.status_code, wrong.json()["reason"]) == (401, "Invalid login")


async def test_an_admin_is_not_let_in_unless_configured() -> None:
    async with listening(admins=dict([OPS]), allow_admins=False) as gateway:
        assert (await gateway.public.get("/notes", auth=OPS)).status_code == 401
        assert (await gateway.public.get("/_all_dbs", auth=OPS)).status_code == 401
        assert (await gateway.public.get("/_membership", auth=OPS)).status_code == 404


async def test_nobody_is_let_in_as_admin_where_there_are_no_admins() -> None:
    async with listening(allow_admins=True) as gateway:
        assert (await gateway.public.get("/_all_dbs")).status_code == 401
        assert (await gateway.public.get("/_membership")).status_code == 404
        assert (await gateway.public.get("/notes")).status_code == 401


async def test_users_and_roles_are_not_at_the_public_port_even_for_admins(guarded: Ports) -> None:
    for path in ("/notes/_user/", "/notes/_user/ann", "/notes/_role/", "/notes/_status", "/_status"):
        assert (await guarded.public.get(path, auth=OPS)).status_code == 404


async def test_the_session_of_a_database_says_who_one_is(gateway: Ports) -> None:
    assert (await gateway.ann.get("/notes/_session")).json()["userCtx"]["name"] == "ann"
    nobody = await gateway.public.get("/notes/_session")
    assert (nobody.status_code, nobody.json()["userCtx"]) == (200, {"name": None, "roles": [], "channels": {}})
    gateway.db.guest_enabled = True
    assert (await gateway.public.get("/notes/_session")).json()["userCtx"]["channels"] == {"!": 1}
    assert (await gateway.public.get("/notes/_session", auth=("ann", "wrong"))).status_code == 401
    assert (await gateway.admin.get("/notes/_session")).json()["userCtx"]["name"] == "admin"


async def test_the_welcome_and_the_health_need_no_login(gateway: Ports) -> None:
    welcome = await gateway.public.get("/")
    assert welcome.json()["couchdb"] == "Welcome"
    assert "ADMIN" not in welcome.json()
    assert welcome.json()["uuid"] == gateway.catalogue.uuid
    assert (await gateway.admin.get("/")).json()["ADMIN"] is True
    up = await gateway.public.get("/_up")
    assert (up.status_code, up.json()) == (200, {"status": "ok", "seeds": {}, "upstream": "reachable"})


async def test_the_health_says_when_the_upstream_is_away_and_when_nothing_is_ready(gateway: Ports) -> None:
    gateway.db.state = "upstream_unreachable"
    up = await gateway.public.get("/_up")
    assert (up.status_code, up.json()["upstream"]) == (200, "unreachable")
    gateway.db.state = "failing"
    up = await gateway.public.get("/_up")
    assert (up.status_code, up.json()["routing"]) == (200, "failing")
    gateway.db.state = "starting"
    assert (await gateway.public.get("/_up")).status_code == 503
