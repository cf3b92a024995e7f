"""Several documents at once."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import limits
from gateway.errors import (
    Forbidden,
    GatewayError,
    InvalidLogin,
    SyncFunctionFailed,
    TooManyRequests,
    UnauthorizedBySyncFunction,
    Unavailable,
    UnknownDatabase,
    UnreadableDocument,
    UpstreamOutcomeUnknown,
    UpstreamRefused,
    UpstreamUnreachable,
)
from gateway.queries import BulkGetItem
from tests.http.conftest import BOB, Ports


async def test_each_document_of_bulk_docs_has_its_own_result(gateway: Ports) -> None:
    await gateway.ann.put("/notes/taken", json={})
    docs: list[Any] = [{"_id": "a"}, {"_id": "taken"}, {"_id": "b", "refuse": "forbidden"}, {"n": 1}]
    answer = await gateway.ann.post("/notes/_bulk_docs", json={"docs": docs})
    assert answer.status_code == 201
    stored, conflict, refused, made = answer.json()
    assert stored == {"ok": True, "id": "a", "rev": stored["rev"]}
    assert conflict == {
        "id": "taken",
        "error": "conflict",
        "reason": "Document update conflict.",
        "code": "CG4003",
    }
    assert (refused["id"], refused["error"], refused["reason"]) == ("b", "forbidden", "sg wrong user")
    assert (made["ok"], len(made["id"])) == (True, 32)
    assert (gateway.traffic.documents_written, gateway.traffic.documents_refused) == (3, 2)


@pytest.mark.parametrize(
    ("doc", "error", "said"),
    [
        (5, "bad_request", "Document must be a JSON object"),
        (None, "bad_request", "Document must be a JSON object"),
        ([], "bad_request", "Document must be a JSON object"),
        ({"_id": "_x"}, "illegal_docid", "Only reserved document ids may start with underscore."),
        ({"_id": ""}, "illegal_docid", "Document id must not be empty"),
        ({"_id": None}, "illegal_docid", "Document id must be a string"),
        ({"_id": 5}, "illegal_docid", "Document id must be a string"),
        ({"_id": "a", "_unknown": 1}, "doc_validation", "Bad special document member: _unknown"),
    ],
)
async def test_one_malformed_document_refuses_them_all(gateway: Ports, doc: object, error: str, said: str) -> None:
    answer = await gateway.ann.post("/notes/_bulk_docs", json={"docs": [{"_id": "good"}, doc]})
    assert (answer.status_code, answer.json()["error"], answer.json()["reason"]) == (400, error, said)
    assert not gateway.db.docs


async def test_all_or_nothing_is_417_with_an_error_for_each_document_as_in_couchdb(gateway: Ports) -> None:
    docs = [{"_id": "a"}, {"_id": "b", "_rev": "2-b"}]
    answer = await gateway.ann.post("/notes/_bulk_docs", json={"docs": docs, "all_or_nothing": True})
    assert answer.status_code == 417
    assert [(one["id"], one["rev"], one["error"], one["reason"]) for one in answer.json()] == [
        ("a", "0-", "not_implemented", "all_or_nothing is not supported"),
        ("b", "2-b", "not_implemented", "all_or_nothing is not supported"),
    ]
    assert not gateway.db.docs
    for more in ({"all_or_nothing": False}, {"w": 3}, {"all_or_nothing": True, "new_edits": False}):
        good = await gateway.ann.post("/notes/_bulk_docs", json={"docs": [{"_id": "c", "_rev": "1-c"}][:0], **more})
        assert good.status_code == 201


async def test_replicated_documents_need_a_revision(gateway: Ports) -> None:
    answer = await gateway.ann.post("/notes/_bulk_docs", json={"docs": [{"_id": "a"}], "new_edits": False})
    assert (answer.status_code, answer.json()["error"], answer.json()["reason"]) == (
        400,
        "bad_request",
        "When `new_edits: false`, the document needs `_rev` or `_revisions` specified",
    )


async def test_replicated_documents_answer_failures_only_and_name_their_revision(gateway: Ports) -> None:
    docs = [
        {"_id": "a", "_rev": "1-a"},
        {"_id": "b", "_rev": "1-b", "refuse": "forbidden"},
        {"_id": "c", "_revisions": {"start": 2, "ids": ["d", "c"]}, "refuse": "forbidden"},
    ]
    answer = await gateway.ann.post("/notes/_bulk_docs", json={"docs": docs, "new_edits": False})
    assert answer.status_code == 201
    assert [(one["id"], one.get("rev"), one["error"]) for one in answer.json()] == [
        ("b", "1-b", "forbidden"),
        ("c", "2-d", "forbidden"),
    ]
    assert "a" in gateway.db.docs


_PASSING: list[GatewayError] = [
    UpstreamUnreachable("gone"),
    UpstreamRefused("locked out"),
    UpstreamOutcomeUnknown("no answer"),
    Unavailable("too many"),
    TooManyRequests("too many"),
    UnknownDatabase(),
]


@pytest.mark.parametrize("error", _PASSING, ids=lambda error: type(error).__name__)
async def test_a_replicator_is_never_told_of_a_document_what_is_about_the_moment(
    gateway: Ports, error: GatewayError
) -> None:
    gateway.db.fails["b"] = error
    docs = [{"_id": name, "_rev": "1-a"} for name in ("a", "b", "c")]
    answer = await gateway.ann.post("/notes/_bulk_docs", json={"docs": docs, "new_edits": False})
    assert (answer.status_code, answer.json()) == (error.status, error.body())


async def test_others_are_told_what_was_stored_beside_it(gateway: Ports) -> None:
    gateway.db.fails["b"] = UpstreamUnreachable("gone")
    answer = await gateway.ann.post("/notes/_bulk_docs", json={"docs": [{"_id": "a"}, {"_id": "b"}]})
    assert answer.status_code == 201
    assert [one.get("ok", one.get("code")) for one in answer.json()] == [True, "CG6001"]
    answer = await gateway.ann.post("/notes/_bulk_docs", json={"docs": [{"_id": "b"}]})
    assert (answer.status_code, answer.json()["code"]) == (503, "CG6001")


@pytest.mark.parametrize("new_edits", [True, False])
@pytest.mark.parametrize(
    "error",
    [SyncFunctionFailed("broken"), UnreadableDocument("deep"), UnauthorizedBySyncFunction("not you"), Forbidden()],
    ids=lambda error: type(error).__name__,
)
async def test_what_is_about_a_document_is_told_of_that_document(
    gateway: Ports, error: GatewayError, new_edits: bool
) -> None:
    gateway.db.fails["b"] = error
    docs = [{"_id": name, **({} if new_edits else {"_rev": "1-a"})} for name in ("a", "b")]
    answer = await gateway.ann.post("/notes/_bulk_docs", json={"docs": docs, "new_edits": new_edits})
    assert answer.status_code == 201
    assert [one["code"] for one in answer.json() if "code" in one] == [error.code]


@pytest.mark.parametrize("new_edits", [True, False])
async def test_a_login_that_ends_while_a_batch_is_written_is_401_for_all_of_it(gateway: Ports, new_edits: bool) -> None:
    gateway.db.fails["b"] = InvalidLogin()
    docs = [{"_id": name, **({} if new_edits else {"_rev": "1-a"})} for name in ("a", "b")]
    answer = await gateway.ann.post("/notes/_bulk_docs", json={"docs": docs, "new_edits": new_edits})
    assert (answer.status_code, answer.json()["code"]) == (401, "CG2001")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "`docs`"),
        ({"docs": None}, "`docs`"),
        ({"docs": {}}, "array"),
        ({"docs": "x"}, "array"),
        ({"docs": [], "new_edits": "false"}, "`new_edits`"),
        ({"docs": [], "new_edits": 0}, "`new_edits`"),
        ([], "object"),
        ("x", "object"),
    ],
)
async def test_a_malformed_bulk_docs_is_refused_as_a_whole(gateway: Ports, body: object, said: str) -> None:
    answer = await gateway.ann.post("/notes/_bulk_docs", json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
    assert said in answer.json()["reason"]


async def test_too_many_documents_are_413_with_the_limit(gateway: Ports) -> None:
    docs: list[dict[str, str]] = [{}] * (limits.BULK_DOCUMENTS_COUNT + 1)
    for path in ("/notes/_bulk_docs", "/notes/_bulk_get"):
        answer = await gateway.ann.post(path, json={"docs": docs})
        assert (answer.status_code, answer.json()["error"]) == (413, "too_large")
        assert "BULK_DOCUMENTS_COUNT" in answer.json()["reason"]
        assert str(limits.BULK_DOCUMENTS_COUNT) in answer.json()["reason"]


async def test_bulk_get_answers_json_unless_only_multipart_is_accepted(gateway: Ports) -> None:
    rev = (await gateway.ann.put("/notes/a", json={"owners": ["ann"]})).json()["rev"]
    ask = {"docs": [{"id": "a"}, {"id": "a", "rev": rev}, {"id": "b"}]}
    for accept in ("application/json", "*/*", "application/json, multipart/mixed"):
        answer = await gateway.ann.post("/notes/_bulk_get?revs=true", json=ask, headers={"Accept": accept})
        assert [one["id"] for one in answer.json()["results"]] == ["a", "a", "b"]
    assert answer.json()["results"][0]["docs"] == [{"ok": {"_id": "a", "_rev": rev, "owners": ["ann"]}}]
    assert answer.json()["results"][2]["docs"][0]["error"]["error"] == "not_found"
    assert gateway.db.last("bulk_get")[2] == {"revs": True, "attachments": False, "latest": False}
    for accept in ("multipart/mixed", "multipart/related", "application/json;q=0, multipart/mixed"):
        answer = await gateway.public.post("/notes/_bulk_get", json=ask, headers={"Accept": accept}, auth=BOB)
        kind, _, boundary = answer.headers["content-type"].partition("; boundary=")
        assert kind == ("multipart/related" if accept == "multipart/related" else "multipart/mixed")
        parts = answer.text.split(f"--{boundary.strip(chr(34))}")
        assert (parts[0], parts[-1]) == ("\r\n", "--")
        assert all(part.startswith('\r\nContent-Type: application/json; error="true"\r\n\r\n') for part in parts[1:-1])
        assert [part.count('"forbidden"') > 0 for part in parts[1:-1]] == [True, True, False]


async def test_a_long_answer_of_bulk_get_is_the_same_json(gateway: Ports) -> None:
    await gateway.ann.put("/notes/a", json={"text": "x"})
    short = (await gateway.ann.post("/notes/_bulk_get", json={"docs": [{"id": "a"}]})).json()["results"]
    for count in (100, 101, 250):
        answer = await gateway.ann.post("/notes/_bulk_get", json={"docs": [{"id": "a"}] * count})
        assert answer.json() == {"results": short * count}


async def test_malformed_members_of_bulk_get_become_errors_of_their_own(gateway: Ports) -> None:
    docs = [5, {}, {"id": 5}, {"id": "_x"}, {"id": "a", "rev": "x"}, {"id": "a", "rev": 5}]
    answer = await gateway.ann.post("/notes/_bulk_get", json={"docs": docs})
    assert answer.status_code == 200
    errors = [one["docs"][0]["error"] for one in answer.json()["results"]]
    assert [(error["id"], error["rev"], error["error"]) for error in errors] == [
        (None, None, "bad_request"),
        (None, None, "bad_request"),
        (None, None, "illegal_docid"),
        ("_x", None, "illegal_docid"),
        ("a", "x", "bad_request"),
        ("a", None, "bad_request"),
    ]
    assert [one["id"] for one in answer.json()["results"]] == [None, None, None, "_x", "a", "a"]
    assert [error["reason"] for error in errors[:2]] == ["document must be a JSON object"] * 2
    items = gateway.db.last("bulk_get")[1]
    assert all(isinstance(item, BulkGetItem) and item.error is not None for item in items)


@pytest.mark.parametrize("name", ["open_revs", "new_edits", "w", "rev", "atts_since"])
async def test_what_couchdb_refuses_of_bulk_get_is_refused(gateway: Ports, name: str) -> None:
    answer = await gateway.ann.post("/notes/_bulk_get", params={name: "1"}, json={"docs": []})
    assert answer.status_code == 400
    assert name in answer.json()["reason"]


async def test_revs_diff_and_missing_revs_have_couchdbs_forms(gateway: Ports) -> None:
    rev = (await gateway.ann.put("/notes/a", json={})).json()["rev"]
    ask = {"a": [rev, "2-b"], "b": ["1-c"]}
    assert (await gateway.ann.post("/notes/_revs_diff", json=ask)).json() == {
        "a": {"missing": ["2-b"]},
        "b": {"missing": ["1-c"]},
    }
    missing = await gateway.ann.post("/notes/_missing_revs", json=ask)
    assert missing.json() == {"missing_revs": {"a": ["2-b"], "b": ["1-c"]}}


@pytest.mark.parametrize("body", [[], 1, {"a": "1-a"}, {"a": {}}, {"a": ["x"]}, {"a": [1]}, {"a": None}])
async def test_a_malformed_revs_diff_is_refused(gateway: Ports, body: object) -> None:
    for path in ("/notes/_revs_diff", "/notes/_missing_revs"):
        assert (await gateway.ann.post(path, json=body)).status_code == 400


async def test_purge_is_for_administrators_and_bounded(gateway: Ports) -> None:
    assert (await gateway.ann.post("/notes/_purge", json={"a": ["1-a"]})).status_code == 403
    answer = await gateway.admin.post("/notes/_purge", json={"a": ["1-a"]})
    assert (answer.status_code, answer.json()) == (201, {"purge_seq": None, "purged": {"a": ["1-a"]}})
    too_many: list[dict[str, list[str]]] = [{f"d{n}": [] for n in range(101)}, {"a": ["1-a"] * 1_001}]
    for body in too_many:
        assert (await gateway.admin.post("/notes/_purge", json=body)).status_code == 400
    malformed: list[object] = [{"a": "1-a"}, {"a": ["*"]}, []]
    for wrong in malformed:
        assert (await gateway.admin.post("/notes/_purge", json=wrong)).status_code == 400


async def test_ensure_full_commit_names_the_time_that_replicators_compare(gateway: Ports) -> None:
    answer = await gateway.ann.post("/notes/_ensure_full_commit", json={})
    assert (answer.status_code, answer.json()) == (201, {"ok": True, "instance_start_time": "1700000000"})
    info = await gateway.ann.get("/notes")
    assert info.json()["instance_start_time"] == answer.json()["instance_start_time"]


async def test_a_replicator_that_would_create_the_database_hears_that_it_exists(gateway: Ports) -> None:
    assert (await gateway.ann.put("/notes")).status_code == 412
    assert (await gateway.ann.delete("/notes")).status_code == 403
    assert (await gateway.ann.delete("/notes", params={"rev": "1-a"})).status_code == 400
    assert "notes" in gateway.databases.by_name
