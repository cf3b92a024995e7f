"""Multipart forms, as CouchDB's replicator reads and writes them."""

from __future__ import annotations

import email
import email.policy
import json
from email.message import Message

import httpx
import pytest

from gateway.callers import Caller
from gateway.queries import DocumentQuery
from tests.http.conftest import Ports


def content(part: Message) -> object:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return json.loads(payload)


def parts_of(answer: httpx.Response) -> list[Message]:
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)
    assert message.is_multipart()
    assert not message.defects
    return [part for part in message.get_payload() if isinstance(part, Message)]


@pytest.mark.parametrize("accept", ["multipart/mixed", "multipart/*", "*/*", "text/html, multipart/mixed;q=0.5"])
async def test_open_revs_come_as_parts_of_which_each_missing_one_is_marked(gateway: Ports, accept: str) -> None:
    rev = (await gateway.ann.put("/notes/a", json={"text": "ä\r\n--x"})).json()["rev"]
    answer = await gateway.ann.get(
        "/notes/a", params={"open_revs": f'["{rev}","9-f"]', "revs": "true"}, headers={"Accept": accept}
    )
    found, missing = parts_of(answer)
    assert found["Content-Type"] == "application/json"
    assert content(found) == {"_id": "a", "_rev": rev, "text": "ä\r\n--x"}
    assert missing["Content-Type"] == 'application/json; error="true"'
    assert content(missing) == {"missing": "9-f"}
    asked = gateway.db.last("open_revs")[2]
    assert asked == DocumentQuery(revs=True, open_revs=[rev, "9-f"])


def related(doc: object, *attachments: bytes, names: tuple[str, ...] = (), boundary: str = "b-1") -> bytes:
    pieces = [f"--{boundary}\r\nContent-Type: application/json\r\n\r\n{json.dumps(doc)}".encode()]
    for at, data in enumerate(attachments):
        head = f'Content-Disposition: attachment; filename="{names[at]}"\r\n' if names else "X-Any: 1\r\n"
        pieces.append(f"\r\n--{boundary}\r\n{head}\r\n".encode() + data)
    return b"".join(pieces) + f"\r\n--{boundary}--".encode()


RELATED = {"Content-Type": 'multipart/related; boundary="b-1"'}


def following(data: bytes, **more: object) -> dict[str, object]:
    return {"follows": True, "content_type": "text/plain", "length": len(data), "revpos": 2, **more}


async def test_a_document_comes_with_what_follows_it(gateway: Ports) -> None:
    one, two = b"\r\n\0\xff--b\r\n", b""
    doc = {
        "_rev": "2-b",
        "_revisions": {"start": 2, "ids": ["b", "a"]},
        "_attachments": {"one": following(one), "kept": {"stub": True, "revpos": 1}, "two": following(two)},
    }
    for body in (related(doc, one, two), related(doc, two, one, names=("two", "one"))):
        answer = await gateway.ann.put("/notes/a?new_edits=false", content=body, headers=RELATED)
        assert (answer.status_code, answer.json()["rev"]) == (201, "2-b")
        assert gateway.db.last("write_related") == (Caller("ann"), {**doc, "_id": "a"}, [one, two], False)


async def test_what_is_large_must_come_in_the_order_of_the_document(gateway: Ports) -> None:
    large = b"x" * 2_000_000
    doc = {"_attachments": {"one": following(large), "two": following(b"2")}}
    answer = await gateway.ann.put("/notes/a", content=related(doc, large, b"2", names=("one", "two")), headers=RELATED)
    assert answer.status_code == 201
    assert gateway.db.last("write_related")[2] == [large, b"2"]
    turned = await gateway.ann.put("/notes/a", content=related(doc, b"2", large, names=("two", "one")), headers=RELATED)
    assert (turned.status_code, "order" in turned.json()["reason"]) == (400, True)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", RELATED["Content-Type"]),
        (b"{}", RELATED["Content-Type"]),
        (b"--b-1--", RELATED["Content-Type"]),
        (b"--b-1\r\n\r\n{}\r\n--b-1--", RELATED["Content-Type"]),
        (b"--b-1\r\nContent-Type: application/json\r\n\r\n{}", RELATED["Content-Type"]),
        (b"--b-1x\r\nContent-Type: application/json\r\n\r\n{}\r\n--b-1--", RELATED["Content-Type"]),
        (related({}), "multipart/related"),
        (related({}), 'multipart/related; boundary=""'),
        (related({}), f"multipart/related; boundary={'b' * 71}"),
        (related([], b"x"), RELATED["Content-Type"]),
        (related({"_attachments": {"x": following(b"")}})[:-4], RELATED["Content-Type"]),
        (related({"_attachments": {"x": following(b"")}}, b"x" * 1_100_000), RELATED["Content-Type"]),
        (related({}, *[b""] * 1_001), RELATED["Content-Type"]),
    ],
)  # fmt: skip
async def test_a_malformed_multipart_body_is_refused(gateway: Ports, body: bytes, kind: str) -> None:
    answer = await gateway.ann.put("/notes/a", content=body, headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
    assert not gateway.db.docs
