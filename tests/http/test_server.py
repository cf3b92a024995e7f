"""The server as CouchDB has it: databases made and deleted, lists of them, ids for documents."""

from __future__ import annotations

import json

import pytest

from tests.http.conftest import ANN, OPS, Ports
from tests.http.fake import FakeDatabase

EXISTS = "The database could not be created, the file already exists."


async def test_an_administrator_makes_and_deletes_a_database_at_either_port(guarded: Ports) -> None:
    for client in (guarded.public, guarded.admin):
        made = await client.put("/shop%2Forders", auth=OPS)
        assert (made.status_code, made.content) == (201, b'{"ok":true}\n')
        assert made.headers["location"] == f"{client.base_url}/shop%2Forders"
        again = await client.put("/shop%2Forders", auth=OPS)
        assert (again.status_code, again.json()["error"], again.json()["reason"]) == (412, "file_exists", EXISTS)
        assert (await client.get("/shop%2Forders", auth=OPS)).json()["db_name"] == "shop/orders"
        deleted = await client.delete("/shop%2Forders", auth=OPS)
        assert (deleted.status_code, deleted.content) == (200, b'{"ok":true}\n')
        for answer in (
            await client.get("/shop%2Forders", auth=OPS),
            await client.delete("/shop%2Forders", auth=OPS),
            await client.put("/shop%2Forders/doc", auth=OPS, json={}),
        ):
            assert (answer.status_code, answer.json()["reason"]) == (404, "Database does not exist.")


async def test_what_only_some_nodes_have_stored_is_accepted(gateway: Ports) -> None:
    gateway.catalogue.quorum = False
    made = await gateway.admin.put("/orders?q=4&n=1&placement=a:1,b:2")
    assert (made.status_code, made.json()) == (202, {"ok": True})
    assert gateway.catalogue.options["orders"] == {"q": "4", "n": "1", "placement": "a:1,b:2"}


@pytest.mark.parametrize(
    ("query", "status", "reason"),
    [
        ("q=0", 400, "The `q` value should be a positive integer."),
        ("n=x", 400, "The `n` value should be a positive integer."),
        ("placement=a", 400, "The `placement` value should be in a format `zone:n`."),
        ("engine=other", 400, "invalid_engine_extension"),
        ("partitioned=maybe", 400, "Invalid `partitioned` parameter"),
        ("partitioned=true", 501, "partitioned databases are not there"),
    ],
)
async def test_options_that_cannot_be_are_refused_in_couchdbs_words(
    gateway: Ports, query: str, status: int, reason: str
) -> None:
    refused = await gateway.admin.put(f"/orders?{query}")
    assert (refused.status_code, refused.json()["reason"]) == (status, reason)
    assert "orders" not in gateway.databases.by_name


@pytest.mark.parametrize("name", ["Orders", "1st", "or.ders", "%C3%B6", "a%20b", "-x", "(a)"])
async def test_a_name_that_couchdb_refuses_is_refused_in_its_words(gateway: Ports, name: str) -> None:
    refused = await gateway.admin.put(f"/{name}")
    assert (refused.status_code, refused.json()["error"]) == (400, "illegal_database_name")
    assert refused.json()["reason"].endswith("and any of the characters _, $, (, ), +, -, and / are allowed. "
                                             "Must begin with a letter.")  # fmt: skip
    too_long = await gateway.admin.put("/" + "a" * 239)
    assert (too_long.status_code, too_long.json()["error"]) == (400, "database_name_too_long")


async def test_nobody_but_administrators_makes_or_deletes_a_database(guarded: Ports) -> None:
    for auth in (None, ANN, ("ops", "wrong")):
        for method in ("PUT", "DELETE"):
            unknown = await guarded.public.request(method, "/orders", auth=auth)
            absent = await guarded.public.get("/orders", auth=auth)
            assert (
                (unknown.status_code, unknown.content) == (absent.status_code, absent.content) == (401, unknown.content)
            )
    assert (await guarded.public.delete("/notes", auth=ANN)).status_code == 403
    assert (await guarded.public.put("/notes", auth=ANN)).json()["reason"] == EXISTS
    assert sorted(guarded.databases.by_name) == ["notes"]


async def test_the_list_of_databases_has_the_options_of_a_view(gateway: Ports) -> None:
    for name in ("a", "b", "c", "d"):
        gateway.databases.by_name[name] = FakeDatabase(name)

    async def listed(query: str) -> list[str]:
        answer = await gateway.admin.get(f"/_all_dbs?{query}")
        assert answer.status_code == 200, answer.text
        return list(answer.json())

    assert await listed("") == ["_users", "a", "b", "c", "d", "notes"]
    assert await listed("limit=2&skip=1") == ["a", "b"]
    assert await listed("descending=true&limit=2") == ["notes", "d"]
    assert await listed('startkey="b"&endkey="d"') == ["b", "c", "d"]
    assert await listed('start_key="b"&end_key="d"&inclusive_end=false') == ["b", "c"]
    assert await listed('startkey="d"&endkey="b"&descending=true') == ["d", "c", "b"]
    assert await listed('key="c"') == ["c"]
    assert await listed("limit=0") == []
    assert (await gateway.admin.get("/_all_dbs?limit=x")).json()["error"] == "query_parse_error"
    answer = await gateway.admin.get("/_all_dbs")
    assert answer.content == b'["_users","a","b","c","d","notes"]\n'
    unchanged = await gateway.admin.get("/_all_dbs", headers={"If-None-Match": answer.headers["etag"]})
    assert unchanged.status_code == 304
    head = await gateway.admin.head("/_all_dbs")
    assert (head.content, head.headers["content-length"]) == (b"", str(len(answer.content)))


async def test_what_databases_are_like_is_told_of_all_or_of_those_named(gateway: Ports) -> None:
    info = (await gateway.admin.get("/notes")).json()
    users = (await gateway.admin.get("/_users")).json()
    everything = [{"key": "_users", "info": users}, {"key": "notes", "info": info}]
    assert (await gateway.admin.get("/_dbs_info")).json() == everything
    assert (await gateway.admin.get("/_dbs_info?limit=0")).json() == []
    asked = await gateway.admin.post("/_dbs_info", json={"keys": ["none", "notes", 7]})
    assert asked.json() == [
        {"key": "none", "error": "not_found"},
        {"key": "notes", "info": info},
        {"key": 7, "error": "not_found"},
    ]
    for body, reason in (
        ({}, "`keys` member must exist."),
        ({"keys": "a"}, "`keys` member must be an array."),
        ({"keys": ["a"] * 101}, "too_many_keys"),
    ):
        refused = await gateway.admin.post("/_dbs_info", json=body)
        assert (refused.status_code, refused.json()["error"], refused.json()["reason"]) == (400, "bad_request", reason)


@pytest.mark.parametrize("path", ["/_all_dbs", "/_dbs_info"])
async def test_the_lists_of_databases_are_for_administrators(guarded: Ports, path: str) -> None:
    for auth in (None, ANN, ("ops", "wrong")):
        refused = await guarded.public.get(path, auth=auth)
        assert (refused.status_code, refused.json()["error"]) == (401, "unauthorized")
        assert refused.json()["reason"] == "You are not a server admin."
    assert (await guarded.public.get(path, auth=OPS)).status_code == 200
    assert (await guarded.admin.get(path)).status_code == 401


async def test_everybody_gets_ids_as_many_as_wanted_and_never_twice(gateway: Ports) -> None:
    answer = await gateway.public.get("/_uuids")
    (one,) = answer.json()["uuids"]
    assert len(bytes.fromhex(one)) == 16
    assert answer.headers["cache-control"] == answer.headers["pragma"] == "no-cache"
    assert answer.headers["expires"] == "Mon, 01 Jan 1990 00:00:00 GMT"
    assert answer.headers["etag"]
    many = (await gateway.public.get("/_uuids?count=1000")).json()["uuids"]
    assert len({*many, one}) == 1001
    assert (await gateway.public.get("/_uuids?count=0")).json() == {"uuids": []}
    for count, reason in (
        ("1001", "count parameter too large"),
        ("-1", "count must be a positive integer"),
        ("x", "count must be a positive integer"),
        ("", "count must be a positive integer"),
    ):
        refused = await gateway.public.get("/_uuids", params={"count": count})
        assert (refused.status_code, refused.json()["error"], refused.json()["reason"]) == (400, "bad_request", reason)
    assert (await gateway.public.post("/_uuids", json={})).json()["reason"] == "Only GET,HEAD allowed"


async def test_there_is_no_icon_and_no_web_interface(gateway: Ports) -> None:
    for path in ("/favicon.ico", "/_utils", "/_utils/"):
        for client in (gateway.public, gateway.admin):
            assert (await client.get(path)).status_code == 404


async def test_a_place_is_told_as_the_client_called_this_server(gateway: Ports) -> None:
    asked: tuple[tuple[dict[str, str], str], ...] = (
        ({"Host": "couch.example:1234"}, "http://couch.example:1234"),
        ({"Host": "inner", "X-Forwarded-Host": "couch.example"}, "http://couch.example"),
        ({"Host": "couch.example", "X-Forwarded-Proto": "https"}, "https://couch.example"),
        ({"Host": "couch.example", "X-Forwarded-Ssl": "on"}, "https://couch.example"),
        ({"Host": "couch.example", "X-Forwarded-Proto": "javascript"}, "http://couch.example"),
    )
    for at, (headers, origin) in enumerate(asked):
        answer = await gateway.ann.post("/notes", json={"_id": f"a:b~c/{at}"}, headers=headers)
        assert answer.status_code == 201
        assert answer.headers["location"] == f"{origin}/notes/a:b%7Ec%2F{at}"


async def test_batch_mode_tells_nothing_but_that_the_document_came(gateway: Ports) -> None:
    stored = await gateway.ann.put("/notes/a?batch=ok", json={"text": "one"})
    assert (stored.status_code, stored.content) == (202, b'{"ok":true,"id":"a"}\n')
    assert not {"etag", "location"} & set(stored.headers)
    assert (await gateway.ann.get("/notes/a")).json()["text"] == "one"
    for method, path, body in (
        ("PUT", "/notes/a?batch=ok", {}),
        ("PUT", "/notes/b?batch=ok", {"refuse": "forbidden"}),
        ("POST", "/notes?batch=ok", {"_id": "c", "refuse": "unauthorized"}),
    ):
        answer = await gateway.ann.request(method, path, json=body)
        assert (answer.status_code, answer.json()["ok"], "rev" in answer.json()) == (202, True, False)
    posted = await gateway.ann.post("/notes?batch=ok", json={"text": "x"})
    assert (posted.status_code, sorted(posted.json())) == (202, ["id", "ok"])
    wrong = await gateway.ann.put("/notes/d?batch=ok", json={"_unknown": 1})
    assert (wrong.status_code, wrong.json()["error"]) == (400, "doc_validation")
    assert sorted(gateway.db.docs) == sorted(["a", posted.json()["id"]])
    rev = (await gateway.ann.get("/notes/a")).json()["_rev"]
    assert (await gateway.ann.delete(f"/notes/a?batch=ok&rev={rev}")).status_code == 200


async def test_deleting_what_is_not_there_is_404_with_and_without_a_revision(gateway: Ports) -> None:
    for client in (gateway.ann, gateway.admin):
        for query in ("", "?rev=1-a"):
            assert (await client.delete(f"/notes/absent{query}")).status_code == 404
    rev = (await gateway.ann.put("/notes/a", json={})).json()["rev"]
    assert (await gateway.ann.delete("/notes/a?rev=1-b")).status_code == 409
    assert (await gateway.ann.delete(f"/notes/a?rev={rev}")).status_code == 200
    gone = await gateway.ann.delete(f"/notes/a?rev={rev}")
    assert (gone.status_code, gone.json()["reason"]) == (404, "deleted")


# COPY


async def copy(gateway: Ports, path: str, destination: str | None, **headers: str) -> tuple[int, dict[str, object]]:
    given = {"Destination": destination, **headers} if destination is not None else headers
    answer = await gateway.ann.request("COPY", path, headers=given)
    return answer.status_code, json.loads(answer.content)


async def test_a_document_is_copied_to_a_new_id_and_over_a_named_revision(gateway: Ports) -> None:
    rev = (await gateway.ann.put("/notes/a", json={"text": "one", "n": [1]})).json()["rev"]
    answer = await gateway.ann.request("COPY", "/notes/a", headers={"Destination": "b%20c%2Fd"})
    told = answer.json()
    assert (answer.status_code, told["ok"], told["id"]) == (201, True, "b c/d")
    assert answer.headers["location"] == f"{gateway.ann.base_url}/notes/b%20c%2Fd"
    assert answer.headers["etag"] == f'"{told["rev"]}"'
    assert gateway.db.docs["b c/d"][-1] == {"_id": "b c/d", "_rev": told["rev"], "text": "one", "n": [1]}
    assert (await copy(gateway, "/notes/a", "b c/d"))[0] == 409
    await gateway.ann.put("/notes/a", json={"_rev": rev, "text": "two"})
    assert (await copy(gateway, f"/notes/a?rev={rev}", f"b c/d?rev={told['rev']}"))[0] == 201
    assert gateway.db.docs["b c/d"][-1]["text"] == "one"
    assert (await copy(gateway, "/notes/a", "a+b", **{"If-Match": f'"{rev}"'}))[0] == 201
    assert gateway.db.docs["a b"][-1]["text"] == "one"


async def test_only_what_may_be_read_is_copied_and_only_what_may_be_written_is_made(gateway: Ports) -> None:
    await gateway.admin.put("/notes/hidden", json={"owners": ["bob"]})
    assert (await copy(gateway, "/notes/hidden", "mine"))[0] == 403
    assert (await copy(gateway, "/notes/absent", "mine"))[0] == 404
    await gateway.ann.put("/notes/a", json={"refuse": ""})
    gateway.db.docs["a"][-1]["refuse"] = "forbidden"
    assert (await copy(gateway, "/notes/a", "mine"))[0] == 403
    assert "mine" not in gateway.db.docs


@pytest.mark.parametrize(
    ("destination", "error", "reason"),
    [
        (None, "bad_request", "Destination header is mandatory for COPY."),
        ("http://elsewhere/notes/b", "bad_request", "Destination URL must be relative."),
        ("b?rev=x", "bad_request", "Invalid rev format"),
        ("b?revision=1-a", "bad_request", "after the ? of a Destination there must be rev=REVISION"),
        ("_b", "illegal_docid", "Only reserved document ids may start with underscore."),
        ("", "illegal_docid", "Document id must not be empty"),
        ("%FF", "bad_request", "the Destination is not UTF-8"),
    ],
)
async def test_a_destination_that_cannot_be_is_refused(
    gateway: Ports, destination: str | None, error: str, reason: str
) -> None:
    await gateway.ann.put("/notes/a", json={})
    status, told = await copy(gateway, "/notes/a", destination)
    assert (status, told["error"], told["reason"]) == (400, error, reason)


async def test_a_copy_takes_attachments_along_up_to_a_limit(gateway: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {"a.txt": {"content_type": "text/plain", "revpos": 1, "length": 3, "data": "YWJj", "digest": "md5-x"}}
    gateway.db.docs["a"] = [{"_id": "a", "_rev": "1-a", "_attachments": stored}]
    assert (await copy(gateway, "/notes/a", "b"))[0] == 201
    written = gateway.db.last("write")[1]["_attachments"]
    assert written == {"a.txt": {"content_type": "text/plain", "data": "YWJj"}}
    assert gateway.db.last("document")[2].attachments is True
    monkeypatch.setattr("gateway.limits.COPY_ATTACHMENTS_BYTES", 2)
    status, told = await copy(gateway, "/notes/a", "c")
    assert (status, told["error"]) == (413, "too_large")
    assert "COPY_ATTACHMENTS_BYTES" in str(told["reason"])


async def test_local_documents_are_copied_within_ones_own_and_become_documents(gateway: Ports) -> None:
    await gateway.ann.put("/notes/_local/a", json={"n": 1})
    assert await copy(gateway, "/notes/_local/a", "_local/b") == (201, {"ok": True, "id": "_local/b", "rev": "0-1"})
    assert (await copy(gateway, "/notes/_local/a", "_local/b?rev=0-1"))[1]["rev"] == "0-2"
    assert (await copy(gateway, "/notes/_local/a", "c"))[0] == 201
    assert (await gateway.ann.get("/notes/c")).json()["n"] == 1
    assert (
        await gateway.public.request("COPY", "/notes/_local/a", headers={"Destination": "_local/x"})
    ).status_code == 401


# Members, and users of the server


async def test_a_security_object_is_set_by_administrators_and_comes_back_as_it_was(gateway: Ports) -> None:
    value = {"members": {"names": ["bob"], "roles": []}, "admins": {"names": [], "roles": ["ops"]}, "extra": 1}
    assert (await gateway.ann.put("/notes/_security", json=value)).status_code == 403
    answer = await gateway.admin.put("/notes/_security", json=value)
    assert (answer.status_code, answer.content) == (200, b'{"ok":true}\n')
    assert (await gateway.admin.get("/notes/_security")).json() == value
    assert "bob" not in (await gateway.ann.get("/notes/_security")).text
    wrong: tuple[object, ...] = ([], "x", {"members": []}, {"members": {"names": "bob"}}, {"admins": {"roles": [1]}})
    for bad in wrong:
        refused = await gateway.admin.put("/notes/_security", json=bad)
        assert (refused.status_code, refused.json()["error"]) == (400, "bad_request")
    assert (await gateway.admin.get("/notes/_security")).json() == value


async def test_users_of_the_server_are_documents_to_administrators_and_nothing_to_others(guarded: Ports) -> None:
    path, doc = "/_users/org.couchdb.user:bob", {"name": "bob", "type": "user", "roles": [], "password": "secret"}
    for auth in (None, ANN):
        for method, where in (("PUT", path), ("GET", path), ("DELETE", path), ("GET", "/_users/_all_docs")):
            refused = await guarded.public.request(method, where, auth=auth, json=doc if method == "PUT" else None)
            assert (refused.status_code, refused.json()["error"]) == (401, "unauthorized")
    put = await guarded.public.put(path, auth=OPS, json=doc)
    assert (put.status_code, put.json()) == (201, {"ok": True, "id": "org.couchdb.user:bob", "rev": "1-a"})
    assert put.headers["location"] == f"{guarded.public.base_url}{path}"
    assert put.headers["etag"] == '"1-a"'
    assert (await guarded.public.get(path, auth=OPS)).headers["etag"] == '"1-a"'
    held = await guarded.public.get(path, auth=OPS, headers={"If-None-Match": '"1-a"'})
    assert held.status_code == 304
    listed = await guarded.public.get("/_users/_all_docs?include_docs=true", auth=OPS)
    assert [row["doc"]["name"] for row in listed.json()["rows"]] == ["bob"]
    asked = await guarded.public.post("/_users/_all_docs", auth=OPS, json={"keys": ["x", "org.couchdb.user:bob"]})
    assert [row.get("error", row.get("id")) for row in asked.json()["rows"]] == ["not_found", "org.couchdb.user:bob"]
    assert (await guarded.public.get("/_users", auth=OPS)).json()["doc_count"] == 1
    assert (await guarded.public.put("/_users", auth=OPS)).status_code == 412
    absent = await guarded.public.get("/_users/_changes", auth=OPS)
    assert (absent.status_code, absent.json()["error"]) == (501, "not_implemented")
    assert (await guarded.public.delete(path, auth=OPS, params={"rev": "1-a"})).status_code == 200
    assert (await guarded.public.get(path, auth=OPS)).status_code == 404
