"""CouchDB's cookie login: with nano, with PouchDB as pouchdb-authentication uses it, over a restart, and its ends."""

from __future__ import annotations

import asyncio
import json
import uuid
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.protocol.pouch import ClientError, Driver
from tests.protocol.site import DATABASES, Person, Place, site_on
from tests.protocol.test_restarts import restart
from tests.running import client

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def log_in(place: Place, user: Person) -> Person:
    """The user by a cookie instead of a password."""
    http = await place.stack.enter_async_context(client(place.url))
    server = place.site.gateway.public
    answer = await http.post(f"{server}/_session", json={"name": user.name, "password": f"{user.name}-pw"})
    assert answer.status_code == 200, answer.text
    return Person(user.name, http, place.url)


async def who(place: Place, person: Person) -> str | None:
    answer = await person.http.get(f"{place.site.gateway.public}/_session")
    return str(answer.json()["userCtx"]["name"]) if answer.json()["userCtx"]["name"] else None


async def code(person: Person) -> str:
    answer = await person.http.get("/")
    return str(answer.json().get("code", "")) if answer.status_code == 401 else ""


async def test_a_cookie_is_the_user_in_reading_and_writing(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    here = await log_in(notes, ann)
    await bob.put(notes.name("his"), channels=notes.name("b"))
    await here.put(notes.name("mine"), channels=notes.name("a"), writers=[ann.name])
    await here.bulk({"_id": notes.name("more"), "channels": notes.name("a")})
    assert await here.held() == notes.names("mine", "more")
    assert await here.listed() == await ann.listed()
    assert await here.status("GET", f"/{notes.name('his')}") == 403
    found = await here.get("/_session")
    assert (found["userCtx"]["name"], found["info"]["authenticated"]) == (ann.name, "cookie")
    assert sorted(found["userCtx"]["channels"]) == ["!", notes.name("a")]


async def test_one_login_is_to_all_databases_with_that_user_and_password(notes: Place, square: Place) -> None:
    """The databases `notes` and `square` of one gateway: in `square` guests are let into the channel `lobby`."""
    square.tag = notes.tag
    ann = await notes.user("ann", notes.name("a"))
    await square.user("ann", "lobby", square.name("a"))
    here = await log_in(notes, ann)
    there = Person(ann.name, here.http, square.url)
    await there.http.put(f"{square.url}/{square.name('doc')}", json={"channels": square.name("a")})
    assert (await there.http.get(f"{square.url}/{square.name('doc')}")).status_code == 200
    # Over in one database, and not taken for its guest; it goes on in the other.
    await square.change_user(there, password="another")
    for path in ("", "/_all_docs", "/_changes", f"/{square.name('doc')}"):
        answer = await here.http.get(f"{square.url}{path}")
        assert (answer.status_code, answer.json()["code"]) == (401, "CG2002")
    assert await here.status("GET", "/") == 200
    assert await who(notes, here) == ann.name
    # A user of one database alone is the guest of the other, as without a cookie.
    bob = await log_in(notes, await notes.user("bob"))
    answer = await bob.http.get(f"{square.url}/_session")
    assert (answer.json()["userCtx"]["name"], sorted(answer.json()["userCtx"]["channels"])) == (None, ["!", "lobby"])


@pytest.mark.parametrize("end", ["logout", "password", "disabled", "again", "deleted", "all", "one"])
async def test_a_session_and_its_running_feeds_end_at_once(notes: Place, end: str) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    here, other = await log_in(notes, ann), await log_in(notes, ann)
    server = notes.site.gateway.public
    async with here.following() as feed, other.following() as others:
        await feed.line()
        await others.line()
        if end == "logout":
            assert (await here.http.request("DELETE", f"{server}/_session", headers=held(here))).status_code == 200
        elif end in ("password", "disabled", "again"):
            await notes.change_user(ann, **({"password": "another"} if end == "password" else {"disabled": True}))
            if end == "again":
                await notes.change_user(ann, disabled=False)
        elif end == "deleted":
            assert await admin.status("DELETE", f"/_user/{ann.name}") == 200
            await notes.user("ann", notes.name("a"))
        else:
            one = "" if end == "all" else "/" + held(here)["Cookie"].partition("=")[2]
            assert await admin.status("DELETE", f"/_user/{ann.name}/_session{one}") == 200
        assert (await feed.row())["error"] == "unauthorized"
        with pytest.raises(StopAsyncIteration):
            await feed.line()
        if end in ("logout", "one"):
            await ann.put(notes.name("doc"), channels=notes.name("a"))
            assert (await others.row())["id"] == notes.name("doc")
        else:
            assert (await others.row())["error"] == "unauthorized"
    if end == "logout":
        assert not here.http.cookies
        return
    assert await code(here) == "CG2002"
    assert await who(notes, here) is None
    assert await code(other) == ("" if end == "one" else "CG2002")


def held(person: Person) -> dict[str, str]:
    return {"Cookie": f"AuthSession={person.http.cookies['AuthSession']}"}


async def test_after_logging_out_the_cookie_is_worth_nothing(notes: Place) -> None:
    here = await log_in(notes, await notes.user("ann"))
    stolen = held(here)
    assert (await here.http.delete("/_session")).status_code == 200
    assert not here.http.cookies
    answer = await here.http.get("/", headers=stolen)
    assert (answer.status_code, answer.json()["code"]) == (401, "CG2002")


async def test_sessions_outlive_a_restart_and_what_ended_them_before_and_after_holds(own: Place) -> None:
    ann, bob, eve = await own.user("ann"), await own.user("bob"), await own.user("eve")
    kept, out, changed = await log_in(own, ann), await log_in(own, bob), await log_in(own, eve)
    cookies = [held(person) for person in (kept, out, changed)]
    assert (await out.http.delete("/_session")).status_code == 200
    await own.change_user(eve, password="another")
    await restart(own)
    async with client(own.url) as http:
        answers = [await http.get("/", headers=cookie) for cookie in cookies]
        assert [answer.status_code for answer in answers] == [200, 401, 401]
        await own.change_user(ann, disabled=True)
        assert (await http.get("/", headers=cookies[0])).status_code == 401


async def test_a_session_outlives_a_crash(own: Place) -> None:
    cookie = held(await log_in(own, await own.user("ann")))
    await own.site.gateway.kill()
    await own.site.gateway.start()
    async with client(own.url) as http:
        assert (await http.get("/", headers=cookie)).status_code == 200


async def test_many_logins_at_once_are_all_let_in(notes: Place) -> None:
    ann = await notes.user("ann")
    people = await asyncio.gather(*(log_in(notes, ann) for _ in range(20)))
    assert len({held(person)["Cookie"] for person in people}) == 20
    assert {await code(person) for person in people} == {""}


# Real clients


async def test_nano_logs_in_and_works_by_the_cookie(notes: Place, driver: Driver) -> None:
    ann = await notes.user("ann", notes.name("a"))
    url, name, doc = notes.site.gateway.public, uuid.uuid4().hex, notes.name("doc")

    async def nano(method: str, *args: object, use: str | None = notes.database) -> Any:
        return await driver.nano(url, method, *args, use=use, client=name)

    with pytest.raises(ClientError) as raised:
        await nano("auth", ann.name, "wrong", use=None)
    assert (raised.value.status, raised.value.reason) == (401, "Name or password is incorrect.")
    with pytest.raises(ClientError) as raised:
        await nano("info")
    assert raised.value.status == 401
    logged_in = await nano("auth", ann.name, f"{ann.name}-pw", use=None)
    assert logged_in == {"ok": True, "name": ann.name, "roles": []}
    assert (await nano("session", use=None))["userCtx"] == {"name": ann.name, "roles": []}
    written = await nano("insert", {"channels": notes.name("a"), "writers": [ann.name]}, doc)
    assert (await nano("get", doc))["_rev"] == written["rev"]
    assert (await nano("bulk", {"docs": [{"channels": notes.name("a")}]}))[0]["ok"] is True
    assert len((await nano("fetch", {"keys": [doc]}))["rows"]) == 1
    await notes.change_user(ann, password="another")
    with pytest.raises(ClientError) as raised:
        await nano("get", doc)
    assert raised.value.status == 401
    await nano("auth", ann.name, "another", use=None)
    assert (await nano("get", doc))["_id"] == doc


@asynccontextmanager
async def pouch_session(driver: Driver, place: Place, user: Person) -> AsyncIterator[None]:
    """pouchdb-authentication's logIn, and at the end its logOut: PouchDB in Node has one cookie jar for all."""
    url = f"{place.site.gateway.public}/_session"
    body = json.dumps({"name": user.name, "password": f"{user.name}-pw"})
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    answer = await driver.fetch(url, method="POST", headers=headers, body=body)
    assert answer == {"status": 200, "body": {"ok": True, "name": user.name, "roles": []}}
    try:
        yield
    finally:
        assert (await driver.fetch(url, method="DELETE"))["body"] == {"ok": True}
        assert (await driver.fetch(url))["body"]["userCtx"]["name"] is None


async def test_pouchdb_syncs_by_the_cookie_until_the_session_ends(notes: Place, driver: Driver) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    async with pouch_session(driver, notes, ann):
        session = await driver.fetch(f"{notes.site.gateway.public}/_session")
        assert session["body"]["userCtx"]["name"] == ann.name
        device, remote = await driver.device("phone"), await driver.remote(notes.url)
        await admin.put(notes.name("theirs"), channels=notes.name("a"))
        await device.put(notes.name("mine"), channels=notes.name("a"), writers=[ann.name])
        live = await device.sync(remote, retry=False)
        await admin.put(notes.name("later"), channels=notes.name("a"))
        await device.holds(*notes.names("theirs", "mine", "later"))
        async with ann.following() as feed:
            assert sorted(await feed.ids(3)) == sorted(notes.names("theirs", "mine", "later"))
        await notes.change_user(ann, password="another")
        await live.event("error")
        assert await device.ids() == sorted(notes.names("theirs", "mine", "later")), "nothing was taken for deleted"


async def test_a_session_in_use_goes_on_and_one_with_a_feed_alone_ends(notes: Place) -> None:
    """With one of two seconds, that the admin made: after a tenth of it an answer carries the cookie anew."""
    ann, admin = await notes.user("ann"), await notes.admin()
    made = (await admin.http.post("/_session", json={"name": ann.name, "ttl": 2})).json()
    cookie = {"Cookie": f"{made['cookie_name']}={made['session_id']}"}
    async with client(notes.url) as http:
        async with asyncio.timeout(30):
            while "set-cookie" not in (answer := await http.get("/", headers=cookie)).headers:
                assert answer.status_code == 200
                await asyncio.sleep(0.02)
        value = answer.headers["set-cookie"].partition(";")[0].removeprefix("AuthSession=")
        name, _, token = urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode().split(":")
        assert (name, token) == (ann.name, made["session_id"])
        assert "Max-Age=2;" in answer.headers["set-cookie"]
        http.cookies.clear()
        async with http.stream("GET", "/_changes?feed=continuous&heartbeat=60000", headers=cookie) as feed:
            lines = [line async for line in feed.aiter_lines() if line]
        assert json.loads(lines[-1])["code"] == "CG2002"
        assert (await http.get("/", headers=cookie)).status_code == 401


async def test_an_admin_of_the_config_logs_in_with_the_cookie(tmp_path_factory: pytest.TempPathFactory) -> None:

    config: dict[str, Any] = {"admins": {"ops": {"password": "opensesame"}}, "public": {"allow_admins": True}}
    async with site_on("embedded", tmp_path_factory.mktemp("admins"), {"notes": DATABASES["notes"]}, **config) as site:
        for port in (site.gateway.public, site.gateway.admin):
            async with client(port) as http:
                answer: httpx.Response = await http.post("/_session", data={"name": "ops", "password": "opensesame"})
                assert answer.json() == {"ok": True, "name": "ops", "roles": ["_admin"]}
                assert (await http.get("/_session")).json()["userCtx"] == {"name": "ops", "roles": ["_admin"]}
                assert (await http.get("/_all_dbs")).json() == ["_users", "notes"]
                async with http.stream("GET", "/notes/_changes?feed=continuous&heartbeat=60000") as feed:
                    cookie = {"Cookie": f"AuthSession={http.cookies['AuthSession']}"}
                    assert (await http.delete("/_session")).status_code == 200
                    lines = [line async for line in feed.aiter_lines() if line]
                assert json.loads(lines[-1])["code"] == "CG2002"
                assert (await http.get("/_all_dbs", headers=cookie)).status_code == 401
