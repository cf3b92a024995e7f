from __future__ import annotations

import json

import httpx
import pytest

from gateway.model.revisions import next_rev

LEAVES = [
    {"_id": "a", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "side": "b"},
    {"_id": "a", "_rev": "2-c", "_revisions": {"start": 2, "ids": ["c", "a"]}, "side": "c"},
    {"_id": "a", "_rev": "2-d", "_revisions": {"start": 2, "ids": ["d", "a"]}, "_deleted": True},
]


async def put(http: httpx.AsyncClient, id: str, **body: object) -> str:
    response = await http.put(id, json=body)
    assert response.status_code == 201, response.text
    return str(response.json()["rev"])


async def branches(http: httpx.AsyncClient) -> None:
    response = await http.post("_bulk_docs", json={"docs": LEAVES, "new_edits": False})
    assert (response.status_code, response.json()) == (201, [])


async def test_put_answers_the_revision_its_etag_and_its_place(http: httpx.AsyncClient) -> None:
    response = await http.put("a%2Fb", json={"n": 1})
    rev = next_rev(None, {"n": 1}, deleted=False)
    assert response.status_code == 201
    assert response.json() == {"ok": True, "id": "a/b", "rev": rev}
    assert response.headers["etag"] == f'"{rev}"'
    assert response.headers["location"] == "/db/a%2Fb"


async def test_get_answers_the_winner_with_its_etag_and_304_to_who_has_it(http: httpx.AsyncClient) -> None:
    rev = await put(http, "a", n=1)
    response = await http.get("a")
    assert (response.status_code, response.json()) == (200, {"_id": "a", "_rev": rev, "n": 1})
    assert response.headers["etag"] == f'"{rev}"'
    again = await http.get("a", headers={"if-none-match": f'"{rev}"'})
    assert (again.status_code, again.content) == (304, b"")


async def test_head_is_get_without_the_body(http: httpx.AsyncClient) -> None:
    await put(http, "a", n=1)
    head, get = await http.head("a"), await http.get("a")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]
    assert (await http.head("nobody")).status_code == 404


@pytest.mark.parametrize("how", ["body", "query", "if-match"])
async def test_the_revision_may_be_in_body_query_or_header(http: httpx.AsyncClient, how: str) -> None:
    rev = await put(http, "a", n=1)
    response = await http.put(
        "a",
        json={"n": 2} | ({"_rev": rev} if how == "body" else {}),
        params={"rev": rev} if how == "query" else {},
        headers={"if-match": f'"{rev}"'} if how == "if-match" else {},
    )
    assert response.status_code == 201


async def test_revisions_that_contradict_each_other_are_refused(http: httpx.AsyncClient) -> None:
    rev = await put(http, "a", n=1)
    response = await http.put("a", json={"_rev": rev}, params={"rev": "1-abc"})
    assert (response.status_code, response.json()["error"]) == (400, "bad_request")


async def test_a_conflict_says_so(http: httpx.AsyncClient) -> None:
    await put(http, "a", n=1)
    response = await http.put("a", json={"n": 2})
    assert response.status_code == 409
    assert response.json() == {"error": "conflict", "reason": "Document update conflict."}


async def test_a_deleted_document_is_not_found_as_deleted(http: httpx.AsyncClient) -> None:
    rev = await put(http, "a", n=1)
    response = await http.delete("a", params={"rev": rev})
    assert (response.status_code, response.json()["id"]) == (200, "a")
    assert (await http.get("a")).json() == {"error": "not_found", "reason": "deleted"}
    assert (await http.get("b")).json() == {"error": "not_found", "reason": "missing"}
    tombstone = await http.get("a", params={"rev": response.json()["rev"]})
    assert tombstone.json() == {"_id": "a", "_rev": response.json()["rev"], "_deleted": True}
    assert (await http.delete("a")).status_code == 404


async def test_delete_without_the_revision_is_a_conflict(http: httpx.AsyncClient) -> None:
    await put(http, "a", n=1)
    assert (await http.delete("a")).status_code == 409


async def test_conflicts_meta_and_histories_are_shown_when_asked_for(http: httpx.AsyncClient) -> None:
    await branches(http)
    plain = (await http.get("a")).json()
    assert plain == {"_id": "a", "_rev": "2-c", "side": "c"}
    doc = (await http.get("a", params={"meta": "true", "revs": "true", "local_seq": "true"})).json()
    assert doc["_conflicts"] == ["2-b"]
    assert doc["_deleted_conflicts"] == ["2-d"]
    assert doc["_revisions"] == {"start": 2, "ids": ["c", "a"]}
    assert doc["_revs_info"] == [{"rev": "2-c", "status": "available"}, {"rev": "1-a", "status": "missing"}]
    assert isinstance(doc["_local_seq"], int)


async def test_open_revs_all_lists_every_leaf(http: httpx.AsyncClient) -> None:
    await branches(http)
    rows = (await http.get("a", params={"open_revs": "all", "revs": "true"})).json()
    assert [row["ok"]["_rev"] for row in rows] == ["2-c", "2-b", "2-d"]
    assert rows[0]["ok"]["_revisions"] == {"start": 2, "ids": ["c", "a"]}


async def test_open_revs_names_what_is_missing(http: httpx.AsyncClient) -> None:
    await branches(http)
    rows = (await http.get("a", params={"open_revs": '["2-b","9-x","1-a"]'})).json()
    assert [row.get("missing") or row["ok"]["_rev"] for row in rows] == ["2-b", "9-x", "1-a"]
    assert "missing" in rows[2]


async def test_latest_answers_the_leaves_above_a_replaced_revision(http: httpx.AsyncClient) -> None:
    await branches(http)
    rows = (await http.get("a", params={"open_revs": '["1-a"]', "latest": "true"})).json()
    assert [row["ok"]["_rev"] for row in rows] == ["2-c", "2-b", "2-d"]


async def test_open_revs_comes_as_multipart_to_who_accepts_it(http: httpx.AsyncClient) -> None:
    await branches(http)
    response = await http.get("a", params={"open_revs": '["2-b","9-x"]'}, headers={"accept": "multipart/mixed"})
    kind, _, boundary = response.headers["content-type"].partition('; boundary="')
    assert kind == "multipart/mixed"
    parts = response.content.split(f"--{boundary.rstrip(chr(34))}".encode())
    assert parts[0] == b""
    assert parts[-1] == b"--"
    assert json.loads(parts[1].partition(b"\r\n\r\n")[2]) == {"_id": "a", "_rev": "2-b", "side": "b"}
    assert parts[2].startswith(b'\r\nContent-Type: application/json; error="true"')
    assert json.loads(parts[2].partition(b"\r\n\r\n")[2]) == {"missing": "9-x"}


async def test_copy_makes_another_document_of_the_same_body(http: httpx.AsyncClient) -> None:
    await put(http, "a", n=1)
    response = await http.request("COPY", "a", headers={"destination": "b%2Fc"})
    assert (response.status_code, response.json()["id"]) == (201, "b/c")
    assert (await http.get("b%2Fc")).json()["n"] == 1
    assert (await http.request("COPY", "a", headers={"destination": "b%2Fc"})).status_code == 409
    over = await http.request("COPY", "a", headers={"destination": f"b%2Fc?rev={response.json()['rev']}"})
    assert over.status_code == 201
    assert (await http.request("COPY", "a")).status_code == 400


async def test_post_makes_an_id_when_there_is_none(http: httpx.AsyncClient, root: httpx.AsyncClient) -> None:
    made = (await root.post("/db", json={"n": 1})).json()
    assert (await http.get(made["id"])).json()["n"] == 1
    assert (await root.post("/db", json={"_id": "mine"})).json()["id"] == "mine"


async def test_new_edits_false_stores_the_revision_as_it_is(http: httpx.AsyncClient) -> None:
    response = await http.put("a", params={"new_edits": "false"}, json={"_rev": "3-xyz", "n": 1})
    assert (response.status_code, response.json()["rev"]) == (201, "3-xyz")
    assert (await http.get("a")).json()["_rev"] == "3-xyz"
    assert (await http.put("b", params={"new_edits": "false"}, json={})).status_code == 400


async def test_bulk_docs_answers_each_document(http: httpx.AsyncClient) -> None:
    await put(http, "a")
    response = await http.post("_bulk_docs", json={"docs": [{"_id": "a"}, {"_id": "b"}, {}]})
    assert response.status_code == 201
    conflict, stored, unnamed = response.json()
    assert conflict == {"id": "a", "error": "conflict", "reason": "Document update conflict."}
    assert stored == {"ok": True, "id": "b", "rev": "1-967a00dff5e02add41819138abb3284d"}
    assert len(unnamed["id"]) == 32


async def test_bulk_get_answers_revisions_leaves_and_errors(http: httpx.AsyncClient) -> None:
    await branches(http)
    asked = [{"id": "a", "rev": "2-b"}, {"id": "a"}, {"id": "a", "rev": "7-q"}, {"id": "no"}, {"id": "_bad"}]
    results = (await http.post("_bulk_get", params={"revs": "true"}, json={"docs": asked})).json()["results"]
    assert [result["id"] for result in results] == ["a", "a", "a", "no", "_bad"]
    assert [doc["ok"]["_rev"] for doc in results[1]["docs"]] == ["2-c", "2-b", "2-d"]
    assert results[0]["docs"][0]["ok"]["_revisions"] == {"start": 2, "ids": ["b", "a"]}
    assert results[2]["docs"] == [{"error": {"id": "a", "rev": "7-q", "error": "not_found", "reason": "missing"}}]
    assert results[3]["docs"][0]["error"]["error"] == "not_found"
    assert results[4]["docs"][0]["error"]["error"] == "illegal_docid"


async def test_missing_revs_and_revs_diff_agree(http: httpx.AsyncClient) -> None:
    await branches(http)
    asked = {"a": ["1-a", "2-x"], "b": ["1-q"]}
    assert (await http.post("_missing_revs", json=asked)).json() == {"missing_revs": {"a": ["2-x"], "b": ["1-q"]}}
    diff = (await http.post("_revs_diff", json=asked)).json()
    assert diff == {"a": {"missing": ["2-x"]}, "b": {"missing": ["1-q"]}}


async def test_local_documents_count_their_revisions_and_are_listed_apart(http: httpx.AsyncClient) -> None:
    assert (await http.put("_local/x", json={"n": 1})).json() == {"ok": True, "id": "_local/x", "rev": "0-1"}
    assert (await http.put("_local/x", json={"n": 2, "_rev": "0-1"})).json()["rev"] == "0-2"
    assert (await http.get("_local/x")).json() == {"_id": "_local/x", "_rev": "0-2", "n": 2}
    assert (await http.put("_local/x", params={"rev": "0-9"}, json={"n": 2})).json()["rev"] == "0-10"
    assert (await http.put("_local/x", json={"n": 2})).json()["rev"] == "0-1"  # what is stored does not count
    assert (await http.put("_local/x", json={"_rev": "0-x"})).status_code == 400
    assert [row["id"] for row in (await http.get("_local_docs")).json()["rows"]] == ["_local/x"]
    assert (await http.get("_all_docs")).json()["rows"] == []
    assert (await http.delete("_local/x", params={"rev": "0-2"})).status_code == 200
    assert (await http.get("_local/x")).status_code == 404


async def test_the_revision_limit_stems_histories(http: httpx.AsyncClient) -> None:
    assert (await http.get("_revs_limit")).json() == 1000
    assert (await http.put("_revs_limit", content="3")).json() == {"ok": True}
    rev = await put(http, "a", n=0)
    for n in range(1, 6):
        rev = await put(http, "a", n=n, _rev=rev)
    revisions = (await http.get("a", params={"revs": "true"})).json()["_revisions"]
    assert (revisions["start"], len(revisions["ids"])) == (6, 3)
    assert (await http.put("_revs_limit", content="0")).status_code == 400


async def test_a_design_document_may_be_addressed_with_a_slash(http: httpx.AsyncClient) -> None:
    await put(http, "_design/views", language="javascript")
    assert (await http.get("_design%2Fviews")).json()["_id"] == "_design/views"
    assert (await http.get("_design/views/_view/all")).json()["reason"] == "missing_named_view"
    assert (await http.get("_design/views/_show/all")).status_code == 501


async def test_histories_that_contradict_each_other_break_no_read(http: httpx.AsyncClient) -> None:
    docs = [
        {"_id": "a", "_rev": "2-c", "_revisions": {"start": 2, "ids": ["c", "a"]}, "_deleted": True},
        {"_id": "a", "_rev": "3-d", "_revisions": {"start": 3, "ids": ["d", "c", "b"]}, "_deleted": True},
    ]
    response = await http.post("_bulk_docs", json={"docs": docs, "new_edits": False})
    assert (response.status_code, response.json()) == (201, [])
    assert (await http.get("_all_docs", params={"include_docs": "true"})).json()["rows"] == []
    leaves = await http.get("a", params={"open_revs": "all"}, headers={"accept": "application/json"})
    assert leaves.json() == [{"ok": {"_id": "a", "_rev": "3-d", "_deleted": True}}]
