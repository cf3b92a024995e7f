"""Documents as users see them: statuses, bodies, headers."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.protocol.site import Place, basic
from tests.running import client

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_document_is_read_by_members_of_its_channel_only(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    doc = notes.name("doc")
    rev = await ann.put(doc, channels=notes.name("a"), text="hi")
    assert await ann.get(f"/{doc}") == {"_id": doc, "_rev": rev, "channels": notes.name("a"), "text": "hi"}
    answer = await bob.http.get(f"/{doc}")
    assert answer.status_code == 403
    assert answer.json() == {"error": "forbidden", "reason": "forbidden", "code": "CG3000"}
    missing = await bob.http.get(f"/{notes.name('nothing')}")
    assert missing.status_code == 404
    assert missing.json() == {"error": "not_found", "reason": "missing", "code": "CG4000"}


async def test_a_write_answers_as_couchdb_does(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    doc = notes.name("doc")
    answer = await ann.http.put(f"/{doc}", json={"channels": [notes.name("a")]})
    assert answer.status_code == 201
    rev = answer.json()["rev"]
    assert answer.json() == {"ok": True, "id": doc, "rev": rev}
    assert answer.headers["ETag"] == f'"{rev}"'
    assert answer.headers["Location"].endswith(f"/{notes.database}/{doc}")
    assert answer.headers["Content-Type"] == "application/json"
    read = await ann.http.get(f"/{doc}")
    assert read.headers["ETag"] == f'"{rev}"'
    again = await ann.http.get(f"/{doc}", headers={"If-None-Match": f'"{rev}"'})
    assert (again.status_code, again.content) == (304, b"")
    head = await ann.http.head(f"/{doc}")
    assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", f'"{rev}"')


async def test_the_revision_comes_from_the_query_the_body_or_if_match(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    doc = notes.name("doc")
    first = await ann.put(doc, channels=notes.name("a"))
    second = await ann.put(doc, rev=first, channels=notes.name("a"), n=2)
    third = await ann.put(doc, _rev=second, channels=notes.name("a"), n=3)
    answer = await ann.http.put(f"/{doc}", json={"channels": notes.name("a"), "n": 4}, headers={"If-Match": third})
    assert answer.status_code == 201
    assert answer.json()["rev"].startswith("4-")
    differ = await ann.http.put(f"/{doc}", json={"_rev": third}, params={"rev": answer.json()["rev"]})
    assert differ.status_code == 400


@pytest.mark.parametrize("rev", [None, "1-00000000000000000000000000000000"])
async def test_a_write_that_does_not_name_the_current_revision_is_a_conflict(notes: Place, rev: str | None) -> None:
    ann = await notes.user("ann", notes.name("a"))
    doc = notes.name("doc")
    first = await ann.put(doc, channels=notes.name("a"))
    answer = await ann.http.put(f"/{doc}", json={"n": 1}, params={"rev": rev} if rev else None)
    assert answer.status_code == 409
    assert answer.json()["error"] == "conflict"
    assert (await ann.get(f"/{doc}"))["_rev"] == first


async def test_post_gives_a_document_an_id(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    answer = await ann.http.post("", json={"channels": notes.name("a")})
    assert answer.status_code == 201
    assert await ann.held() == [answer.json()["id"]]


async def test_a_deleted_document_is_gone_and_its_tombstone_readable_by_revision(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    doc = notes.name("doc")
    rev = await ann.put(doc, channels=notes.name("a"))
    answer = await ann.http.delete(f"/{doc}", params={"rev": rev})
    assert answer.status_code == 200
    tombstone = answer.json()["rev"]
    gone = await ann.http.get(f"/{doc}")
    assert (gone.status_code, gone.json()["reason"]) == (404, "deleted")
    assert await ann.get(f"/{doc}", rev=tombstone) == {"_id": doc, "_rev": tombstone, "_deleted": True}
    assert await ann.held() == []
    again = await ann.put(doc, channels=notes.name("a"), n=2)
    assert again.startswith("3-")


async def test_deleting_without_a_revision_or_what_is_not_there_is_refused(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    doc = notes.name("doc")
    assert await ann.status("DELETE", f"/{doc}") == 404
    await ann.put(doc, channels=notes.name("a"))
    assert await ann.status("DELETE", f"/{doc}") == 409
    assert await ann.held() == [doc]


async def test_a_document_that_left_the_channel_is_hidden(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    doc = notes.name("doc")
    first = await ann.put(doc, channels=notes.name("a"))
    await bob.put(doc, rev=first, channels=notes.name("b"))
    assert await ann.status("GET", f"/{doc}") == 403
    assert await bob.status("GET", f"/{doc}") == 200
    assert await ann.held() == []
    assert await bob.held() == [doc]


async def test_a_refusal_carries_the_sync_functions_words(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    for body, status, error, reason in (
        ({"refuse": "not like this"}, 403, "forbidden", "not like this"),
        ({"unauthorized": "who are you"}, 401, "unauthorized", "who are you"),
        ({"needs": notes.name("b")}, 403, "forbidden", "sg missing channel access"),
        ({"needs_role": "boss"}, 403, "forbidden", "sg missing role"),
    ):
        answer = await ann.http.put(f"/{notes.name('doc')}", json=body)
        assert (answer.status_code, answer.json()["error"], answer.json()["reason"]) == (status, error, reason)
        assert "WWW-Authenticate" not in answer.headers or status != 401
    admin = await notes.admin()
    assert await admin.status("GET", f"/{notes.name('doc')}") == 404


async def test_a_rule_about_the_replaced_revision_holds(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("a"))
    doc = notes.name("doc")
    rev = await ann.put(doc, channels=notes.name("a"), writers=[ann.name])
    answer = await bob.http.put(f"/{doc}", json={"_rev": rev, "channels": notes.name("a")})
    assert (answer.status_code, answer.json()["reason"]) == (403, "sg wrong user")
    assert await bob.status("DELETE", f"/{doc}", params={"rev": rev}) == 403
    branch = {"_id": doc, "_rev": "2-f", "_revisions": {"start": 2, "ids": ["f", "e"]}}
    (refused,) = await bob.bulk(branch, new_edits=False)
    assert refused["error"] == "forbidden"
    assert (await ann.get(f"/{doc}"))["_rev"] == rev


async def test_open_revs_gives_the_readable_leaves(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    doc = notes.name("doc")
    await ann.replicate(doc, "1-a", channels=notes.name("a"))
    await ann.replicate(doc, "2-b", "1-a", channels=notes.name("a"))
    await ann.replicate(doc, "2-c", "1-a", channels=notes.name("b"))
    as_json = {"Accept": "application/json"}
    asked = {"open_revs": "all", "revs": "true"}
    found = (await ann.http.get(f"/{doc}", params=asked, headers=as_json)).json()
    assert [(one["ok"]["_rev"], one["ok"]["_revisions"]) for one in found] == [("2-b", {"start": 2, "ids": ["b", "a"]})]
    asked = {"open_revs": '["2-b","2-c","7-x"]'}
    found = (await bob.http.get(f"/{doc}", params=asked, headers=as_json)).json()
    assert found == [
        {"missing": "2-b"},
        {"ok": {"_id": doc, "_rev": "2-c", "channels": notes.name("b")}},
        {"missing": "7-x"},
    ]
    carl = await notes.user("carl")
    assert (await carl.http.get(f"/{doc}", params={"open_revs": "all"}, headers=as_json)).status_code == 404
    multipart = await ann.http.get(f"/{doc}", params={"open_revs": "all"})
    assert multipart.headers["Content-Type"].startswith("multipart/mixed")


async def test_conflicts_are_told_only_where_they_are_readable(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"), notes.name("b"))
    bob = await notes.user("bob", notes.name("b"))
    doc = notes.name("doc")
    await ann.replicate(doc, "1-a", channels=notes.name("a"))
    await ann.replicate(doc, "1-b", channels=notes.name("b"))
    assert (await ann.get(f"/{doc}", conflicts="true"))["_conflicts"] == ["1-a"]
    assert "_conflicts" not in await bob.get(f"/{doc}", conflicts="true")


async def test_all_docs_counts_only_what_may_be_read(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    ids = [notes.name(name) for name in ("d1", "d2", "d3", "d4")]
    revs = [await ann.put(doc, channels=notes.name("a"), n=n) for n, doc in enumerate(ids)]
    hidden = await bob.put(notes.name("other"), channels=notes.name("b"))
    found = await ann.get("/_all_docs")
    assert (found["total_rows"], found["offset"]) == (4, 0)
    assert found["rows"] == [{"id": doc, "key": doc, "value": {"rev": rev}} for doc, rev in zip(ids, revs, strict=True)]

    async def keys(**params: object) -> list[str]:
        return [row["id"] for row in (await ann.get("/_all_docs", **params))["rows"]]

    assert await keys(startkey=f'"{ids[1]}"', endkey=f'"{ids[2]}"') == ids[1:3]
    assert await keys(startkey=f'"{ids[1]}"', endkey=f'"{ids[2]}"', inclusive_end="false") == ids[1:2]
    assert await keys(descending="true", limit=2) == [ids[3], ids[2]]
    assert await keys(skip=1, limit=2) == ids[1:3]
    assert await keys(key=f'"{ids[2]}"') == [ids[2]]
    included = await ann.get("/_all_docs", include_docs="true", limit=1)
    assert included["rows"][0]["doc"] == {"_id": ids[0], "_rev": revs[0], "channels": notes.name("a"), "n": 0}
    assert hidden not in str(found)


async def test_all_docs_with_keys_tells_missing_and_hidden_documents_alike(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    mine, theirs, dead = notes.name("mine"), notes.name("theirs"), notes.name("dead")
    rev = await ann.put(mine, channels=notes.name("a"))
    await bob.put(theirs, channels=notes.name("b"))
    tombstone = await ann.delete(dead, await ann.put(dead, channels=notes.name("a")))
    answer = await ann.http.post("/_all_docs", json={"keys": [theirs, mine, "nothing", dead]})
    assert answer.json()["rows"] == [
        {"key": theirs, "error": "not_found"},
        {"id": mine, "key": mine, "value": {"rev": rev}},
        {"key": "nothing", "error": "not_found"},
        {"id": dead, "key": dead, "value": {"rev": tombstone, "deleted": True}},
    ]


async def test_bulk_get_answers_each_revision_for_itself(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    mine, theirs = notes.name("mine"), notes.name("theirs")
    rev = await ann.put(mine, channels=notes.name("a"))
    hidden = await bob.put(theirs, channels=notes.name("b"))
    asked = {"docs": [{"id": mine, "rev": rev}, {"id": theirs, "rev": hidden}, {"id": mine}, {"id": "nothing"}]}
    answer = await ann.http.post("/_bulk_get", params={"revs": "true"}, json=asked)
    assert answer.status_code == 200
    doc = {"_id": mine, "_rev": rev, "channels": notes.name("a")}
    doc["_revisions"] = {"start": 1, "ids": [rev.partition("-")[2]]}  # type: ignore[assignment]
    missing = {"error": "not_found", "reason": "missing"}
    assert answer.json()["results"] == [
        {"id": mine, "docs": [{"ok": doc}]},
        {"id": theirs, "docs": [{"error": {"id": theirs, "rev": hidden, **missing}}]},
        {"id": mine, "docs": [{"ok": doc}]},
        {"id": "nothing", "docs": [{"error": {"id": "nothing", "rev": "undefined", **missing}}]},
    ]


async def test_revs_diff_tells_nothing_of_hidden_revisions(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    doc = notes.name("doc")
    await ann.replicate(doc, "2-b", "1-a", channels=notes.name("a"))
    asked = {doc: ["1-a", "2-b", "3-c"]}
    answer = await ann.http.post("/_revs_diff", json=asked)
    assert answer.json() == {doc: {"missing": ["3-c"], "possible_ancestors": ["2-b"]}}
    answer = await bob.http.post("/_revs_diff", json=asked)
    assert answer.json() == {doc: {"missing": ["1-a", "2-b", "3-c"]}}
    answer = await ann.http.post("/_missing_revs", json=asked)
    assert answer.json() == {"missing_revs": {doc: ["3-c"]}}


async def test_a_database_tells_a_user_only_of_his_documents(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    for name in ("d1", "d2"):
        await ann.put(notes.name(name), channels=notes.name("a"))
    assert (await ann.get(""))["db_name"] == notes.database
    assert (await ann.get(""))["doc_count"] == 2
    assert (await bob.get(""))["doc_count"] == 0
    assert (await ann.get(""))["update_seq"] == await ann.now()


async def test_the_root_says_who_answers_without_a_login(notes: Place) -> None:
    async with client(notes.site.gateway.public) as anybody:
        answer = await anybody.get("/")
        assert answer.status_code == 200
        assert answer.json()["couchdb"] == "Welcome"
        assert answer.json()["version"].startswith("3.")
        up = await anybody.get("/_up")
        assert (up.status_code, up.json()["status"]) == (200, "ok")


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_without_a_login_everything_is_401(notes: Place, method: str) -> None:
    async with client(notes.site.gateway.public) as anybody:
        for path in ("", "/doc", "/_changes", "/_all_docs", "/_bulk_docs", "/_bulk_get", "/_revs_diff", "/_local/x"):
            answer = await anybody.request(method, f"/{notes.database}{path}", json={})
            if answer.status_code in (404, 405):
                continue  # there is no such method, for anybody
            assert answer.status_code == 401, path
            assert answer.json()["error"] == "unauthorized"
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")


async def test_a_wrong_password_and_an_unknown_user_are_told_alike(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    told = []
    async with client(notes.site.gateway.public) as anybody:
        for database, name in (
            (notes.database, ann.name),
            (notes.database, notes.name("nobody")),
            (notes.database, "GUEST"),
            ("nowhere", ann.name),
        ):
            answer = await anybody.get(f"/{database}", headers=basic(name, "wrong"))
            told.append((answer.status_code, answer.json()))
    assert told == [(401, {"error": "unauthorized", "reason": "Invalid login", "code": "CG2001"})] * 4


async def test_a_database_that_does_not_exist_looks_like_one_without_a_guest(notes: Place) -> None:
    async with client(notes.site.gateway.public) as anybody:
        answers = [await anybody.get(f"/{name}") for name in (notes.database, "nowhere")]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(401, answers[0].json())] * 2


async def test_attachments_go_with_their_document(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    doc, data = notes.name("doc"), bytes(range(256)) * 300
    rev = await ann.put(doc, channels=notes.name("a"))
    answer = await ann.http.put(
        f"/{doc}/photo%2F1.png", params={"rev": rev}, content=data, headers={"Content-Type": "image/png"}
    )
    assert answer.status_code == 201, answer.text
    read = await ann.http.get(f"/{doc}/photo%2F1.png")
    assert (read.status_code, read.headers["Content-Type"], read.content) == (200, "image/png", data)
    assert await bob.status("GET", f"/{doc}/photo%2F1.png") == 403
    assert await ann.status("GET", f"/{doc}/other") == 404
    stub = (await ann.get(f"/{doc}"))["_attachments"]["photo/1.png"]
    assert (stub["stub"], stub["length"], stub["content_type"]) == (True, len(data), "image/png")
    edited = await ann.put(doc, rev=answer.json()["rev"], channels=notes.name("a"), _attachments={"photo/1.png": stub})
    assert (await ann.http.get(f"/{doc}/photo%2F1.png")).content == data
    removed = await ann.http.delete(f"/{doc}/photo%2F1.png", params={"rev": edited})
    assert removed.status_code == 200
    assert await ann.status("GET", f"/{doc}/photo%2F1.png") == 404


async def test_a_range_of_an_attachment_is_answered(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    inline = {"clip": {"content_type": "video/mp4", "data": "MDEyMzQ1Njc4OQ=="}}
    await ann.put(notes.name("doc"), channels=notes.name("a"), _attachments=inline)
    part = await ann.http.get(f"/{notes.name('doc')}/clip", headers={"Range": "bytes=3-5"})
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"345", "bytes 3-5/10")


async def test_an_attachment_cannot_be_taken_from_a_hidden_revision(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    doc = notes.name("doc")
    secret = {"secret": {"content_type": "text/plain", "data": "aGlkZGVu"}}
    rev = await ann.put(doc, channels=notes.name("a"), _attachments=secret)
    body = {"channels": notes.name("b"), "_attachments": {"secret": {"stub": True}}}
    answer = await bob.http.put(f"/{doc}", json=body, params={"rev": rev})
    assert answer.status_code == 412
    assert (await ann.get(f"/{doc}"))["_rev"] == rev


async def test_a_plus_in_a_path_is_a_space_as_in_couchdb(notes: Place) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    tag, channel = notes.name(""), notes.name("a")
    for path, doc_id in (("a+b", "a b"), ("a%2Bb", "a+b")):
        answer = await ann.http.put(f"/{path}{tag}", json={"channels": channel})
        assert (answer.status_code, answer.json()["id"]) == (201, doc_id + tag)
        assert answer.headers["Location"].endswith(f"/{quote(doc_id, safe='')}{tag}")
        for person in (ann, admin):
            assert (await person.get(f"/{path}{tag}"))["_id"] == doc_id + tag
    design = await admin.http.put(f"/_design/c+d{tag}", json={})
    assert (design.status_code, design.json()["id"]) == (201, f"_design/c d{tag}")


async def test_a_local_document_has_another_etag_with_another_body_under_the_same_revision(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    path = f"/_local/{notes.name('checkpoint')}"
    tags = []
    for at in range(2):
        assert (await ann.http.put(path, json={"at": at})).json()["rev"] == "0-1"
        tags.append((await ann.http.get(path)).headers["ETag"])
    assert tags[0] != tags[1]
    assert (await ann.http.get(path, headers={"If-None-Match": tags[0]})).json()["at"] == 1
    assert (await ann.http.get(path, headers={"If-None-Match": tags[1]})).status_code == 304


async def test_a_replicated_document_is_the_revision_that_its_history_says(notes: Place) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    for person, doc in ((ann, notes.name("mine")), (admin, notes.name("theirs"))):
        body = {"_rev": "3-c", "_revisions": {"start": 2, "ids": ["c", "a"]}, "channels": notes.name("a")}
        stored = await person.http.put(f"/{doc}", params={"new_edits": "false"}, json=body)
        assert stored.status_code == 201
        assert (await ann.get(f"/{doc}", revs="true"))["_revisions"] == {"start": 2, "ids": ["c", "a"]}


async def test_who_may_not_write_hears_that_before_what_is_wrong_with_the_id(notes: Place) -> None:
    async with client(notes.site.gateway.public) as anybody:
        assert (await anybody.put(f"/{notes.database}/_bad", json={})).status_code == 401
        assert (await anybody.put("/none/_bad", json={})).status_code == 401
    ann = await notes.user("ann", notes.name("a"))
    assert await ann.status("PUT", "/_bad", json={}) == 400
