"""`_local` documents."""

from __future__ import annotations

import pytest

from tests.http.conftest import BOB, Ports


@pytest.mark.parametrize("path", ["_local/x", "_local%2Fx"])
async def test_a_checkpoint_is_kept_for_its_user_alone(gateway: Ports, path: str) -> None:
    assert (await gateway.ann.get(f"/notes/{path}")).status_code == 404
    stored = await gateway.ann.put(f"/notes/{path}", json={"last_seq": 5})
    assert (stored.status_code, stored.json()) == (201, {"ok": True, "id": "_local/x", "rev": "0-1"})
    read = await gateway.ann.get(f"/notes/{path}")
    assert read.json() == {"last_seq": 5, "_id": "_local/x", "_rev": "0-1"}
    assert (await gateway.public.get(f"/notes/{path}", auth=BOB)).status_code == 404
    assert (await gateway.ann.put(f"/notes/{path}", json={"_rev": 5})).status_code == 400
    changed = await gateway.ann.put(f"/notes/{path}", json={"_rev": "0-1"})
    assert changed.json()["rev"] == "0-2"
    again = await gateway.ann.put(f"/notes/{path}", params={"rev": "0-2"}, json={})
    assert again.json()["rev"] == "0-3"
    assert (await gateway.ann.put(f"/notes/{path}", json={})).json()["rev"] == "0-1"  # no conflicts, as in CouchDB
    assert (await gateway.ann.delete(f"/notes/{path}", params={"rev": "x"})).status_code == 400
    gone = await gateway.ann.delete(f"/notes/{path}")
    assert (gone.status_code, gone.json()["rev"]) == (200, "0-0")
    assert (await gateway.ann.head(f"/notes/{path}")).status_code == 404


async def test_slashes_in_a_local_id_are_encoded(gateway: Ports) -> None:
    await gateway.ann.put("/notes/_local/a%2Fb", json={})
    assert (await gateway.ann.get("/notes/_local%2Fa%2Fb")).json()["_id"] == "_local/a/b"
    answer = await gateway.ann.get("/notes/_local/a/b")
    assert (answer.status_code, answer.json()["reason"]) == (400, "_local documents do not accept attachments.")
    assert (await gateway.ann.get("/notes/_local")).status_code == 400
    assert (await gateway.ann.put("/notes/_local%2F", json={})).status_code == 400


async def test_local_documents_can_be_posted_and_listed(gateway: Ports) -> None:
    assert (await gateway.ann.post("/notes", json={"_id": "_local/x"})).json()["rev"] == "0-1"
    assert (await gateway.ann.get("/notes/_local_docs")).json()["rows"] == [{"id": "_local/x"}]
    assert (await gateway.public.get("/notes/_local_docs", auth=BOB)).json()["rows"] == []


async def test_a_large_local_document_is_413_with_its_own_limit(gateway: Ports) -> None:
    answer = await gateway.ann.put("/notes/_local/x", json={"a": "x" * 1_000_000})
    assert (answer.status_code, "LOCAL_DOCUMENT_BYTES" in answer.json()["reason"]) == (413, True)


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"_id":5}', b'{"_rev":5}'])
async def test_a_malformed_local_document_is_refused(gateway: Ports, body: bytes) -> None:
    assert (await gateway.ann.put("/notes/_local/x", content=body)).status_code == 400
