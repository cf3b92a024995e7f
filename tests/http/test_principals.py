"""Users and roles on the admin port."""

from __future__ import annotations

import pytest

from tests.http.conftest import Ports


@pytest.mark.parametrize("kind", ["user", "role"])
async def test_create_read_change_list_and_delete(gateway: Ports, kind: str) -> None:
    at = f"/notes/_{kind}"
    assert (await gateway.admin.get(f"{at}/eve")).status_code == 404
    assert (await gateway.admin.put(f"{at}/eve", json={"password": "secret"})).status_code == 201
    assert gateway.db.last("put_principal") == (kind, "eve", {"password": "secret"}, False)
    assert (await gateway.admin.put(f"{at}/eve", json={"admin_channels": ["a"]})).status_code == 200
    assert (await gateway.admin.get(f"{at}/eve")).json() == {"name": "eve", "admin_channels": ["a"]}
    assert (await gateway.admin.head(f"{at}/eve")).status_code == 200
    for slash in ("", "/"):
        assert "eve" in (await gateway.admin.get(at + slash)).json()
        assert (await gateway.admin.post(at + slash, json={"name": "eve"})).status_code == 409
        assert (await gateway.admin.post(at + slash, json={"name": f"adam{slash}"})).status_code == 201
    assert gateway.db.last("put_principal") == (kind, None, {"name": "adam/"}, True)
    assert (await gateway.admin.delete(f"{at}/eve")).status_code == 200
    assert (await gateway.admin.delete(f"{at}/eve")).status_code == 404


async def test_the_guest_cannot_be_deleted(gateway: Ports) -> None:
    answer = await gateway.admin.delete("/notes/_user/GUEST")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, PUT")


async def test_the_name_in_the_path_is_decoded(gateway: Ports) -> None:
    await gateway.admin.put("/notes/_user/a%40b%25c", json={})
    assert gateway.db.last("put_principal")[1] == "a@b%c"


async def test_a_limit_needs_the_form_with_objects(gateway: Ports) -> None:
    for name in ("adam", "eve"):
        await gateway.admin.put(f"/notes/_user/{name}", json={})
    answer = await gateway.admin.get("/notes/_user/?name_only=false&limit=1")
    assert answer.json() == [{"name": "adam"}]
    assert (await gateway.admin.get("/notes/_user/?limit=1")).status_code == 400
    assert (await gateway.admin.get("/notes/_user/?name_only=false&limit=x")).status_code == 400
    assert (await gateway.admin.get("/notes/_user/?name_only=maybe")).status_code == 400


async def test_a_post_must_be_json_so_that_no_web_form_can_make_users(gateway: Ports) -> None:
    answer = await gateway.admin.post(
        "/notes/_user/", content=b'{"name":"eve"}', headers={"Content-Type": "text/plain"}
    )
    assert answer.status_code == 415
    assert not gateway.db.principals


async def test_status_lists_each_database(gateway: Ports) -> None:
    answer = (await gateway.admin.get("/_status")).json()
    assert answer["databases"] == {"notes": {"name": "notes", "state": "online", "seq": 9, "caught_up": True}}
    assert (await gateway.admin.get("/notes/_status")).json()["state"] == "online"
