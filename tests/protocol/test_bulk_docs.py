"""Several documents in one write."""

from __future__ import annotations

from typing import Any, TypeAlias

import pytest

from tests.protocol.site import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")
Doc: TypeAlias = dict[str, Any]


async def test_each_document_has_its_own_result_in_order(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    taken = notes.name("taken")
    await ann.put(taken, channels=notes.name("a"))
    results = await ann.bulk(
        {"_id": notes.name("d1"), "channels": notes.name("a")},
        {"_id": notes.name("d2"), "refuse": "no"},
        {"_id": taken},
        {"channels": notes.name("a")},
        {"_id": f"_local/{notes.name('l')}", "mine": True},
        {"_id": "_design/mine", "views": {}},
    )
    assert results[0] == {"ok": True, "id": notes.name("d1"), "rev": results[0]["rev"]}
    assert {key: results[1][key] for key in ("id", "error", "reason")} == {
        "id": notes.name("d2"),
        "error": "forbidden",
        "reason": "no",
    }
    assert results[2]["error"] == "conflict"
    assert results[3]["ok"] is True
    assert results[4] == {"ok": True, "id": f"_local/{notes.name('l')}", "rev": "0-1"}
    assert (results[5]["id"], results[5]["error"]) == ("_design/mine", "forbidden")
    assert results[5]["reason"] == "You are not a db or server admin."
    assert sorted(await ann.held()) == sorted([taken, notes.name("d1"), results[3]["id"]])


async def test_one_malformed_document_refuses_the_others_too(notes: Place) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    good: Doc = {"_id": notes.name("good"), "channels": notes.name("a")}
    local: Doc = {"_id": f"_local/{notes.name('l')}"}
    bad: list[tuple[Any, str]] = [
        (1, "bad_request"),
        ({"_id": "_bad"}, "illegal_docid"),
        ({"_id": "_design/x", "_bad": 1}, "doc_validation"),
        ({"_id": notes.name("d"), "_bad": 1}, "doc_validation"),
    ]
    for person in (ann, admin):
        for doc, error in bad:
            answer = await person.http.post("/_bulk_docs", json={"docs": [good, local, doc]})
            assert (answer.status_code, answer.json()["error"]) == (400, error)
        assert await person.status("GET", f"/{local['_id']}") == 404
    assert await ann.held() == []


async def test_a_replicated_document_past_a_limit_is_refused_alone(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    good: Doc = {"_id": notes.name("good"), "_rev": "1-a", "channels": notes.name("a")}
    long: Doc = {"_id": "x" * 8_000, "_rev": "1-a"}
    large: Doc = {"_id": notes.name("large"), "_rev": "1-a", "text": "x" * 8_000_000}
    refused = await ann.bulk(good, long, large, new_edits=False)
    assert [(one["id"], one["rev"], one["error"]) for one in refused] == [
        (long["_id"], "1-a", "illegal_docid"),
        (large["_id"], "1-a", "too_large"),
    ]
    assert await ann.held() == [good["_id"]]
    answer = await ann.http.post("/_bulk_docs", json={"docs": [{"_id": notes.name("d")}, {"_id": "x" * 8_000}]})
    assert (answer.status_code, answer.json()["error"]) == (400, "illegal_docid")


async def test_replicated_revisions_answer_only_failures(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    good = {"_id": notes.name("d1"), "_rev": "1-a", "channels": notes.name("a")}
    bad = {"_id": notes.name("d2"), "_rev": "1-b", "refuse": "no"}
    (refused,) = await ann.bulk(good, bad, new_edits=False)
    assert (refused["id"], refused["rev"], refused["error"]) == (notes.name("d2"), "1-b", "forbidden")
    assert (await ann.get(f"/{notes.name('d1')}"))["_rev"] == "1-a"
    assert await ann.bulk(good, new_edits=False) == [], "a revision that is known is no failure"


async def test_a_known_revision_with_another_body_changes_nothing(notes: Place) -> None:
    ann, eve = await notes.user("ann", notes.name("a")), await notes.user("eve", notes.name("e"))
    doc = notes.name("doc")
    await ann.replicate(doc, "1-a", channels=notes.name("a"), text="hers")
    mine = {"_id": doc, "_rev": "1-a", "channels": notes.name("e"), "grants": {eve.name: notes.name("a")}}
    assert await eve.bulk(mine, new_edits=False) == []
    assert await eve.status("GET", f"/{doc}") == 403
    assert await eve.listed() == []
    assert (await ann.get(f"/{doc}"))["text"] == "hers"


@pytest.mark.parametrize("child_first", [True, False])
async def test_a_child_is_accepted_with_its_parents_grant_in_any_order(notes: Place, child_first: bool) -> None:
    ann = await notes.user("ann")
    parent: Doc = {"_id": notes.name("parent"), "grants": {ann.name: notes.name("team")}}
    child: Doc = {"_id": notes.name("child"), "needs": notes.name("team"), "channels": notes.name("team")}
    docs = [child, parent] if child_first else [parent, child]
    results = await ann.bulk(*docs)
    assert [result.get("ok") for result in results] == [True, True]
    assert [result["id"] for result in results] == [doc["_id"] for doc in docs]
    assert await ann.held() == [notes.name("child")]


async def test_grandchildren_are_accepted_round_by_round(notes: Place) -> None:
    ann = await notes.user("ann")
    docs: list[Doc] = [
        {"_id": notes.name("c"), "needs": notes.name("b"), "channels": notes.name("c")},
        {"_id": notes.name("b"), "needs": notes.name("a"), "grants": {ann.name: notes.name("b")}},
        {"_id": notes.name("a"), "grants": {ann.name: notes.name("a")}},
        {"_id": notes.name("d"), "needs": notes.name("z")},
    ]
    results = await ann.bulk(*docs)
    assert [result.get("ok", result.get("error")) for result in results] == [True, True, True, "forbidden"]


async def test_two_revisions_of_one_document_in_one_batch_build_on_each_other(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("a"))
    doc = notes.name("doc")
    first = {"_id": doc, "_rev": "1-a", "channels": notes.name("a"), "writers": [ann.name]}
    second = {"_id": doc, "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "channels": notes.name("a")}
    (refused,) = await bob.bulk(second, first, new_edits=False)
    assert (refused["rev"], refused["reason"]) == ("2-b", "sg wrong user"), "the rule of the first one holds"
    assert (await ann.get(f"/{doc}"))["_rev"] == "1-a"
    assert await ann.bulk(second, new_edits=False) == []
    assert (await ann.get(f"/{doc}"))["_rev"] == "2-b"


async def test_a_large_batch_is_stored_and_listed_completely(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    ids = [notes.name(f"d{number:04}") for number in range(1200)]
    results = await ann.bulk(*({"_id": id, "channels": notes.name("a")} for id in ids))
    assert all(result.get("ok") for result in results)
    assert await ann.held() == ids
    rows = await ann.read(limit=700)
    assert sorted(row["id"] for row in rows) == ids
    page = await ann.changes(limit=10)
    assert page["pending"] >= 1000


async def test_what_is_no_batch_is_refused(notes: Place) -> None:
    ann = await notes.user("ann")
    bodies: list[Any] = [{}, {"docs": 1}, {"docs": [], "new_edits": "false"}, []]
    for body in bodies:
        answer = await ann.http.post("/_bulk_docs", json=body)
        assert answer.status_code == 400, body
    assert (
        await ann.http.post("/_bulk_docs", content=b"{}", headers={"Content-Type": "text/plain"})
    ).status_code == 415
