"""`POST /{db}/_sync_function/try`: what the function would say, with nothing stored."""

from __future__ import annotations

from typing import Any

import pytest

from tests.protocol.site import Person, Place

pytestmark = pytest.mark.asyncio(loop_scope="session")

FUNCTION = """function (doc, oldDoc) {
  log("asked", oldDoc);
  if (doc.broken) doc.no.thing;
  requireUser("ann"); requireRole("editor"); requireAccess("news");
  channel(doc.channels); access("bob", "news"); role("bob", "role:editor"); expiry(4000000000);
}"""


async def tried(admin: Person, **body: Any) -> Any:
    answer = await admin.http.post("/_sync_function/try", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_all_that_the_function_says_is_told_and_nothing_is_stored(notes: Place) -> None:
    admin = await notes.admin()
    doc_id = notes.name("d")
    ann = {"name": "ann", "channels": ["news"], "roles": ["editor"]}
    told = await tried(admin, function=FUNCTION, doc={"_id": doc_id, "channels": ["b", "a"]}, user=ann)
    assert told == {
        "accepted": True,
        "channels": ["a", "b"],
        "access": {"bob": ["news"]},
        "roles": {"bob": ["editor"]},
        "expiry": 4_000_000_000.0,
        "logs": ["asked null"],
    }
    assert await admin.status("GET", f"/{doc_id}") == 404


async def test_a_refusal_is_told_with_its_reason(notes: Place) -> None:
    admin = await notes.admin()
    refused = {"accepted": False, "status": 403, "error": "forbidden", "code": "CG5000"}
    for user, reason in (
        ({"name": None}, "sg wrong user"),
        ("GUEST", "sg wrong user"),
        ({"name": "ann"}, "sg missing role"),
        ({"name": "ann", "roles": ["editor"]}, "sg missing channel access"),
    ):
        told = await tried(admin, function=FUNCTION, doc={}, old_doc={"a": 1}, user=user)
        assert told == {**refused, "reason": reason, "logs": ['asked {"a":1,"_id":"doc"}']}


async def test_an_exception_is_told_with_its_place(notes: Place) -> None:
    told = await tried(await notes.admin(), function=FUNCTION, doc={"broken": True})
    assert (told["accepted"], told["status"], told["code"]) == (False, 500, "CG5002")
    assert told["exception"]["line"] == 3
    assert told["exception"]["column"] > 1
    assert "TypeError" in told["exception"]["message"]


async def test_a_function_that_runs_away_is_told_and_disturbs_no_write(notes: Place) -> None:
    admin = await notes.admin()
    told = await tried(admin, function="function () { (function f() { f(); })(); }", doc={})
    assert (told["accepted"], told["code"]) == (False, "CG5003")
    await admin.put(notes.name("after"))


async def test_the_databases_own_function_is_tried_as_a_user_that_is_there(notes: Place) -> None:
    admin = await notes.admin()
    ann = await notes.user("ann", notes.name("tea"))
    needs = {"needs": notes.name("tea"), "channels": [notes.name("tea")]}
    assert (await tried(admin, doc=needs, user=ann.name))["channels"] == [notes.name("tea")]
    assert (await tried(admin, doc={"needs": "other"}, user=ann.name))["reason"] == "sg missing channel access"
    assert (await tried(admin, doc={"needs": "other"}))["accepted"]
    assert await admin.status("POST", "/_sync_function/try", json={"doc": {}, "user": notes.name("nobody")}) == 404


async def test_the_public_port_tries_nothing(notes: Place) -> None:
    ann = await notes.user("ann")
    for person in (ann, await notes.guest()):
        assert await person.status("POST", "/_sync_function/try", json={"doc": {}}) in (401, 404)


NO_DOCUMENTS: list[Any] = [None, 1, "x", [], {"_id": 1}, {"_deleted": "yes"}]
NO_CHANNELS: list[Any] = ["x", [1], ["a,b"], {}]
NO_ROLES: list[Any] = ["x", [1], ["role:x"]]
NO_USERS: list[Any] = [1, [], {}, {"name": 1}, {"name": "a/b"}, {"name": "a", "x": 1}]
NO_USERS += [{"name": "a", "channels": one} for one in NO_CHANNELS]
NO_USERS += [{"name": "a", "roles": one} for one in NO_ROLES]
NO_FUNCTIONS: list[Any] = [1, "", "no function", "function (", "x" * 1_100_000]
BAD: list[Any] = [1, [], {}, {"doc": {}, "unknown": 1}]
BAD += [{"doc": one} for one in NO_DOCUMENTS]
BAD += [{"doc": {}, "old_doc": one} for one in NO_DOCUMENTS[1:]]
BAD += [{"doc": {}, "user": one} for one in NO_USERS]
BAD += [{"doc": {}, "function": one} for one in NO_FUNCTIONS]


async def test_what_makes_no_sense_is_refused(notes: Place) -> None:
    admin = await notes.admin()
    for body in BAD:
        answer = await admin.http.post("/_sync_function/try", json=body)
        assert answer.status_code == 400, f"{str(body)[:100]}: {answer.text}"
        assert answer.json()["reason"]
