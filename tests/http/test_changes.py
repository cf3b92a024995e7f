"""The options of `_changes`."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import limits
from gateway.errors import GatewayError
from gateway.http.changes import parse
from gateway.http.params import Options, parse_query
from gateway.model.positions import Position, Since
from gateway.queries import ChangesQuery
from tests.http.conftest import Ports


@pytest.mark.parametrize(
    ("query", "parsed"),
    [
        ("", ChangesQuery()),
        ("feed=live", ChangesQuery(feed="continuous")),
        ("feed=longpoll&heartbeat=10000", ChangesQuery(feed="longpoll", heartbeat_s=10.0)),
        ("heartbeat=true", ChangesQuery(heartbeat_s=limits.HEARTBEAT_DEFAULT_SECONDS)),
        ("heartbeat=1", ChangesQuery(heartbeat_s=limits.HEARTBEAT_MIN_SECONDS)),
        ("heartbeat=false", ChangesQuery()),
        ("timeout=0", ChangesQuery(timeout_s=0)),
        ("timeout=1500", ChangesQuery(timeout_s=1.5)),
        ("timeout=99999999", ChangesQuery(timeout_s=limits.FEED_TIMEOUT_MAX_SECONDS)),
        ("limit=0", ChangesQuery(limit=0)),
        ("feed=eventsource", ChangesQuery(feed="eventsource")),
        ("since=3&last-event-id=5-3f2a", ChangesQuery(since=Since(Position(5), "3f2a"))),
        ("Last-Event-ID=5&since=3", ChangesQuery(since=Since(Position(3)))),
        ("last-event-id=%225-3f2a%22", ChangesQuery(since=Since(Position(5), "3f2a"))),
        ("limit=7&since=12-3f2a", ChangesQuery(limit=7, since=Since(Position(12), "3f2a"))),
        ("since=28%3A5-3f2a", ChangesQuery(since=Since(Position(28, 5), "3f2a"))),
        ("since=%2212%22", ChangesQuery(since=Since(Position(12)))),
        ("since=now", ChangesQuery(since=None)),
        ("since=", ChangesQuery()),
        ("style=all_docs&descending=true", ChangesQuery(style="all_docs", descending=True)),
        ("active_only=true", ChangesQuery(active_only=True)),
        ("INCLUDE_DOCS=true&Conflicts=true", ChangesQuery(include_docs=True, conflicts=True)),
        ("attachments=true&revocations=true&seq_interval=5&w=3", ChangesQuery(attachments=True, revocations=True)),
        ("filter=sync_gateway/bychannel&channels=a,b%20c", ChangesQuery(channels=["a", "b c"])),
        ("filter=_doc_ids&doc_ids=%5B%22a%22%5D", ChangesQuery(doc_ids=["a"])),
        ("filter=&channels=a", ChangesQuery()),
        ("doc_ids=%5B%22a%22%5D", ChangesQuery()),
    ],
)  # fmt: skip
async def test_options_are_read_as_couchdb_writes_them(gateway: Ports, query: str, parsed: ChangesQuery) -> None:
    assert (await gateway.ann.get(f"/notes/_changes?{query}")).status_code == 200
    assert gateway.db.last("changes")[1] == parsed


@pytest.mark.parametrize(
    ("body", "parsed"),
    [
        ({}, ChangesQuery()),
        ({"feed": None, "since": None, "limit": None}, ChangesQuery()),
        ({"since": 12, "limit": 3}, ChangesQuery(since=Since(Position(12)), limit=3)),
        ({"include_docs": True, "timeout": 1000}, ChangesQuery(include_docs=True, timeout_s=1.0)),
        ({"heartbeat": True}, ChangesQuery(heartbeat_s=limits.HEARTBEAT_DEFAULT_SECONDS)),
        ({"heartbeat": False}, ChangesQuery()),
        ({"heartbeat": 30000}, ChangesQuery(heartbeat_s=30.0)),
        ({"filter": "sync_gateway/bychannel", "channels": ["a", "b"]}, ChangesQuery(channels=["a", "b"])),
        ({"filter": "sync_gateway/bychannel", "channels": "a,b"}, ChangesQuery(channels=["a", "b"])),
        ({"filter": "_doc_ids", "doc_ids": ["a", "b"]}, ChangesQuery(doc_ids=["a", "b"])),
        ({"filter": "_doc_ids", "doc_ids": []}, ChangesQuery(doc_ids=[])),
    ],
)  # fmt: skip
async def test_a_body_gives_the_same_options(gateway: Ports, body: dict[str, Any], parsed: ChangesQuery) -> None:
    assert (await gateway.ann.post("/notes/_changes", json=body)).status_code == 200
    assert gateway.db.last("changes")[1] == parsed


async def test_the_query_wins_over_the_body_and_the_body_may_be_empty(gateway: Ports) -> None:
    await gateway.ann.post("/notes/_changes?limit=2&filter=_doc_ids", json={"limit": 5, "doc_ids": ["a"]})
    assert gateway.db.last("changes")[1] == ChangesQuery(limit=2, doc_ids=["a"])
    empty = await gateway.ann.post("/notes/_changes?limit=3", headers={"Content-Type": "application/json"})
    assert empty.status_code == 200
    assert gateway.db.last("changes")[1] == ChangesQuery(limit=3)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("feed=x", "Supported `feed` types: normal, continuous, live, longpoll, eventsource"),
        ("since=x", "Malformed sequence supplied in 'since' parameter."),
        ("since=1:2:3:4", "Malformed sequence"),
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("style=x", "style"),
        ("heartbeat=0", "heartbeat"),
        ("heartbeat=-5", "heartbeat"),
        ("heartbeat=x", "heartbeat"),
        ("timeout=x", "timeout"),
        ("timeout=-1", "timeout"),
        ("include_docs=1", "include_docs"),
        ("descending=yes", "descending"),
        ("seq_interval=0", "seq_interval"),
        ("filter=unknown", "designname/filtername"),
        ("filter=_unknown", "unknown builtin filter name"),
        ("filter=_selector", "Selector must be specified in POST payload"),
        ("filter=_selector&selector=[]", "expected a JSON object"),
        ("filter=_selector&selector={}&fields=7", "fields must be JSON array"),
        ("filter=_selector&selector={}&fields=[7]", "field spec"),
        ("filter=sync_gateway/bychannel", "channels"),
        ("filter=sync_gateway/bychannel&channels=", "channels"),
        ("filter=sync_gateway/bychannel&channels=a,,b", "channel"),
        ("filter=_doc_ids", "doc_ids"),
        ("filter=_doc_ids&doc_ids=x", "doc_ids"),
        ("filter=_doc_ids&doc_ids={}", "doc_ids"),
        ("filter=_doc_ids&doc_ids=[1]", "`doc_ids` filter parameter is not a list of doc ids."),
    ],
)
def test_wrong_options_are_named(query: str, said: str) -> None:
    with pytest.raises(GatewayError) as caught:
        parse(Options(parse_query(query)))
    assert caught.value.status == 400
    assert said in caught.value.reason


@pytest.mark.parametrize("name", ["_view", "mine/own"])
async def test_filter_functions_are_refused_to_users_by_name(gateway: Ports, name: str) -> None:
    answer = await gateway.ann.get("/notes/_changes", params={"filter": name, "view": "mine/own"})
    assert (answer.status_code, name in answer.json()["reason"]) == (501, True)
    assert "sync_gateway/bychannel, _doc_ids, _selector" in answer.json()["reason"]


async def test_a_selector_comes_in_the_body_and_is_checked_before_the_feed_begins(gateway: Ports) -> None:
    asked = {"filter": "_selector", "feed": "continuous"}
    body = {"selector": {"kind": "note"}, "fields": ["_id", "a.b"]}
    assert (await gateway.ann.post("/notes/_changes", params=asked, json=body)).status_code == 200
    _, query = gateway.db.last("changes")
    assert (query.selector, query.fields) == ({"kind": "note"}, (("_id",), ("a", "b")))
    bad = await gateway.ann.post("/notes/_changes", params=asked, json={"selector": {"a": {"$what": 1}}})
    assert (bad.status_code, bad.json()["error"]) == (400, "bad_request")
    assert bad.json()["reason"] == "Invalid operator: $what"


async def test_design_documents_are_in_no_feed_of_users(gateway: Ports) -> None:
    assert (await gateway.ann.get("/notes/_changes", params={"filter": "_design"})).status_code == 200
    assert gateway.db.last("changes")[1].doc_ids == ()


@pytest.mark.parametrize(
    "body", [[], "x", {"feed": 5}, {"since": True}, {"since": []}, {"limit": "x"}, {"limit": 1.5}, {"style": {}},
             {"filter": 5}, {"filter": "sync_gateway/bychannel", "channels": 5},
             {"filter": "sync_gateway/bychannel", "channels": [5]}, {"filter": "_doc_ids", "doc_ids": "a"},
             {"heartbeat": []}, {"include_docs": "maybe"}]
)  # fmt: skip
async def test_a_malformed_body_is_refused(gateway: Ports, body: object) -> None:
    answer = await gateway.ann.post("/notes/_changes", json=body)
    assert (answer.status_code, set(answer.json())) == (400, {"error", "reason", "code"})
