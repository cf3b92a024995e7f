"""Rules of import over HTTP: a gateway process, and a CouchDB beside which others write to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.protocol.site import SYNC, Site, basic, site_on
from tests.running import client

pytestmark = pytest.mark.asyncio(loop_scope="session")

FILTER = "function (doc) { return doc.type === 'mobile'; }"


def databases(**rules: Any) -> dict[str, Any]:
    users = {
        name: {"password": f"{name}-pw", "admin_channels": [channel]} for name, channel in (("ann", "a"), ("all", "*"))
    }
    return {"notes": {"sync": SYNC, "users": users, **rules}}


async def ids(http: httpx.AsyncClient, **params: Any) -> list[str]:
    answer = await http.get("/notes/_changes", params=params)
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json()["results"]]


async def test_only_what_the_filter_takes_reaches_users_and_explain_says_why(tmp_path: Path) -> None:
    async with site_on("embedded-over-http", tmp_path, databases(import_filter=FILTER)) as site:
        assert site.server is not None
        async with (
            site.server.client("notes") as direct,
            client(site.gateway.public, "ann", "ann-pw") as ann,
            client(site.gateway.public, "all", "all-pw") as everything,
            client(site.gateway.admin) as admin,
        ):
            made = await direct.post(
                "/_bulk_docs",
                json={"docs": [{"_id": "desk", "channels": "a"}, {"_id": "phone", "type": "mobile", "channels": "a"}]},
            )
            assert made.status_code == 201
            assert (await ann.put("/notes/own", json={"channels": "a"})).status_code == 201
            for reader in (ann, everything):
                assert sorted(await ids(reader)) == ["own", "phone"]
                assert (await reader.get("/notes/desk")).status_code == 404
                found = await reader.post("/notes/_bulk_get", json={"docs": [{"id": "desk"}]})
                assert "ok" not in found.json()["results"][0]["docs"][0]
                assert (await reader.post("/notes/_find", json={"selector": {"_id": "desk"}})).json()["docs"] == []
            assert (await admin.get("/notes/desk")).status_code == 200, "administrators see CouchDB itself"
            told = (await admin.get("/notes/_access", params={"user": "ann", "doc": "desk"})).json()
            assert (told["verdict"], told["can_read"]) == ("not-imported", False)
            readers = (await admin.get("/notes/_access", params={"doc": "desk"})).json()
            assert (readers["readers"], readers["next"]) == ([], None)
            assert readers["not_imported"] == told["not_imported"]
            assert (await admin.get("/notes/_status")).json()["not_imported_count"] == 1


async def test_attachments_of_a_document_that_is_not_imported_are_for_nobody(tmp_path: Path) -> None:
    async with site_on(
        "embedded-over-http", tmp_path, {**databases(), "notes": databases(**{"import": False})["notes"]}
    ) as site:
        assert site.server is not None
        async with site.server.client("notes") as direct, client(site.gateway.public, "all", "all-pw") as everything:
            put = await direct.put("/d/a.txt", content=b"secret", headers={"Content-Type": "text/plain"})
            assert put.status_code == 201
            rev = put.json()["rev"]
            await written(site)
            for path in ("/notes/d", "/notes/d/a.txt", f"/notes/d?rev={rev}", f"/notes/d/a.txt?rev={rev}"):
                answer = await everything.get(path)
                assert (answer.status_code, b"secret" in answer.content) == (404, False), path
            revs = (await everything.get("/notes/d", params={"open_revs": f'["{rev}"]'})).text
            assert "ok" not in revs


async def written(site: Site) -> None:
    """Once this is routed, so is what was written straight to the upstream before."""
    async with httpx.AsyncClient(base_url=site.gateway.public, headers=basic("ann", "ann-pw")) as ann:
        assert (await ann.post("/notes", json={"channels": "a"})).status_code == 201
