from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

Lines = AsyncIterator[str]


async def write(http: httpx.AsyncClient, *docs: dict[str, Any]) -> list[str]:
    rows = (await http.post("_bulk_docs", json={"docs": docs})).json()
    return [row["rev"] for row in rows]


async def ids(http: httpx.AsyncClient, **params: str) -> list[str]:
    response = await http.get("_changes", params=params)
    assert response.status_code == 200, response.text
    return [row["id"] for row in response.json()["results"]]


@asynccontextmanager
async def following(http: httpx.AsyncClient, **params: str) -> AsyncIterator[Lines]:
    async with http.stream("GET", "_changes", params={"feed": "continuous", **params}) as response:
        assert response.status_code == 200
        yield response.aiter_lines()


async def row(lines: Lines) -> dict[str, Any]:
    """The next line that is no heartbeat."""
    async with asyncio.timeout(20):
        while not (line := await anext(lines)):
            pass
    found: dict[str, Any] = json.loads(line)
    return found


async def test_each_document_has_one_row_at_its_latest_change(http: httpx.AsyncClient) -> None:
    first, other = await write(http, {"_id": "a"}, {"_id": "b"})
    (second,) = await write(http, {"_id": "a", "_rev": first, "_deleted": True})
    body = (await http.get("_changes")).json()
    b, a = body["results"]
    assert (b["id"], b["changes"]) == ("b", [{"rev": other}])
    assert (a["id"], a["changes"], a["deleted"]) == ("a", [{"rev": second}], True)
    assert "deleted" not in b
    assert body["last_seq"] == a["seq"]
    assert body["pending"] == 0


async def test_a_page_can_be_continued_where_it_ended(http: httpx.AsyncClient) -> None:
    await write(http, *({"_id": f"d{n}"} for n in range(7)))
    seen, since = [], "0"
    for pending in (4, 1, 0):
        body = (await http.get("_changes", params={"since": since, "limit": "3"})).json()
        assert body["pending"] == pending
        seen += [one["id"] for one in body["results"]]
        since = body["last_seq"]
    assert seen == [f"d{n}" for n in range(7)]


async def test_now_zero_plain_numbers_and_foreign_positions_are_understood(http: httpx.AsyncClient) -> None:
    await write(http, {"_id": "a"}, {"_id": "b"})
    assert await ids(http, since="now") == []
    assert await ids(http, since="1") == ["b"]
    assert await ids(http, **{"last-event-id": "1"}) == ["b"]
    assert await ids(http, since="2-anotherdatabase") == ["a", "b"]
    assert (await http.get("_changes", params={"since": "nonsense!"})).status_code == 400


async def test_a_normal_feed_has_a_tag_until_the_next_write(http: httpx.AsyncClient) -> None:
    await write(http, {"_id": "a"})
    tag = (await http.get("_changes")).headers["ETag"]
    assert (await http.get("_changes", headers={"If-None-Match": tag})).status_code == 304
    await write(http, {"_id": "b"})
    again = await http.get("_changes", headers={"If-None-Match": tag})
    assert (again.status_code, again.headers["ETag"] == tag) == (200, False)


async def test_descending_limit_and_zero(http: httpx.AsyncClient) -> None:
    await write(http, *({"_id": f"d{n}"} for n in range(5)))
    assert await ids(http, descending="true", limit="2") == ["d4", "d3"]
    assert await ids(http, limit="0") == []


async def test_style_and_documents(http: httpx.AsyncClient) -> None:
    leaves = [
        {"_id": "a", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}},
        {"_id": "a", "_rev": "2-c", "_revisions": {"start": 2, "ids": ["c", "a"]}, "n": 1},
    ]
    await http.post("_bulk_docs", json={"docs": leaves, "new_edits": False})
    params = {"style": "all_docs", "include_docs": "true", "conflicts": "true"}
    (one,) = (await http.get("_changes", params=params)).json()["results"]
    assert one["changes"] == [{"rev": "2-c"}, {"rev": "2-b"}]
    assert one["doc"] == {"_id": "a", "_rev": "2-c", "n": 1, "_conflicts": ["2-b"]}
    (one,) = (await http.get("_changes")).json()["results"]
    assert one["changes"] == [{"rev": "2-c"}]


async def test_filters_by_id_selector_and_kind(http: httpx.AsyncClient) -> None:
    await write(http, {"_id": "a", "n": 1}, {"_id": "b", "n": 2}, {"_id": "_design/d", "n": 3})
    assert await ids(http, filter="_doc_ids", doc_ids='["b","nobody"]') == ["b"]
    assert await ids(http, filter="_design") == ["_design/d"]
    posted = await http.post("_changes", params={"filter": "_selector"}, json={"selector": {"n": {"$gte": 2}}})
    assert [one["id"] for one in posted.json()["results"]] == ["b", "_design/d"]
    posted = await http.post("_changes", params={"filter": "_doc_ids"}, json={"doc_ids": ["a"]})
    assert [one["id"] for one in posted.json()["results"]] == ["a"]
    bad = await http.post("_changes", params={"filter": "_selector"}, json={"selector": {"n": {"$what": 2}}})
    assert (bad.status_code, bad.json()["error"]) == (400, "bad_request")
    assert (await http.get("_changes", params={"filter": "app/mine"})).status_code == 404


async def test_a_filtered_page_moves_past_what_it_left_out(http: httpx.AsyncClient) -> None:
    await write(http, *({"_id": f"d{n:04}", "n": n} for n in range(1_500)))
    body = (await http.get("_changes", params={"filter": "_doc_ids", "doc_ids": '["d0003"]'})).json()
    assert ([one["id"] for one in body["results"]], body["pending"]) == (["d0003"], 0)
    assert await ids(http, since=body["last_seq"]) == []


async def test_longpoll_waits_for_the_next_row_that_passes(http: httpx.AsyncClient) -> None:
    await write(http, {"_id": "old"})
    params = {"feed": "longpoll", "since": "now", "filter": "_doc_ids", "doc_ids": '["wanted"]'}
    waiting = asyncio.ensure_future(http.get("_changes", params=params))
    await write(http, {"_id": "other"})
    await write(http, {"_id": "wanted"})
    body = (await asyncio.wait_for(waiting, 20)).json()
    assert [one["id"] for one in body["results"]] == ["wanted"]
    assert await ids(http, since=body["last_seq"]) == []


async def test_longpoll_answers_at_once_what_is_there_and_ends_at_its_timeout(http: httpx.AsyncClient) -> None:
    await write(http, {"_id": "a"})
    body = (await http.get("_changes", params={"feed": "longpoll"})).json()
    assert [one["id"] for one in body["results"]] == ["a"]
    empty = await http.get("_changes", params={"feed": "longpoll", "since": body["last_seq"], "timeout": "30"})
    assert empty.json() == {"results": [], "last_seq": body["last_seq"], "pending": 0}


async def test_continuous_sends_old_and_new_rows_until_its_limit(http: httpx.AsyncClient) -> None:
    await write(http, {"_id": "a"})
    async with following(http, limit="3", include_docs="true") as lines:
        assert (await row(lines))["id"] == "a"
        await write(http, {"_id": "b", "n": 1})
        assert (await row(lines))["doc"]["n"] == 1
        await write(http, {"_id": "c"})
        last = await row(lines)
        assert last["id"] == "c"
        assert await row(lines) == {"last_seq": last["seq"], "pending": 0}
        with pytest.raises(StopAsyncIteration):
            await anext(lines)


async def test_continuous_beats_while_nothing_happens(http: httpx.AsyncClient) -> None:
    async with following(http, heartbeat="20") as lines, asyncio.timeout(20):
        assert [await anext(lines) for _ in range(3)] == ["", "", ""]


async def test_continuous_beats_also_while_everything_is_filtered_out(http: httpx.AsyncClient) -> None:
    async def keep_writing() -> None:
        while True:
            await write(http, {})

    async with following(http, heartbeat="50", filter="_doc_ids", doc_ids='["nobody"]') as lines:
        writer = asyncio.ensure_future(keep_writing())
        async with asyncio.timeout(20):
            assert [await anext(lines) for _ in range(3)] == ["", "", ""]
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)


async def test_continuous_without_heartbeat_ends_at_its_timeout(http: httpx.AsyncClient) -> None:
    async with following(http, timeout="30") as lines:
        assert (await row(lines))["pending"] == 0


async def test_seq_interval_leaves_sequences_out(http: httpx.AsyncClient) -> None:
    await write(http, *({"_id": f"d{n}"} for n in range(4)))
    rows = (await http.get("_changes", params={"seq_interval": "2"})).json()["results"]
    assert [one["seq"] is None for one in rows] == [True, False, True, False]


async def test_eventsource_sends_events_with_ids(http: httpx.AsyncClient) -> None:
    await write(http, {"_id": "a"})
    async with http.stream("GET", "_changes", params={"feed": "eventsource"}) as response:
        assert response.headers["content-type"] == "text/event-stream"
        lines = response.aiter_lines()
        data, id = await anext(lines), await anext(lines)
        change = json.loads(data.removeprefix("data: "))
        assert (change["id"], f"id: {change['seq']}") == ("a", id)


@pytest.mark.parametrize(
    "params",
    [
        {"feed": "often"},
        {"limit": "-1"},
        {"limit": "many"},
        {"descending": "perhaps"},
        {"heartbeat": "soon"},
        {"style": "fancy"},
        {"filter": "_selector"},
        {"filter": "_doc_ids"},
        {"filter": "_doc_ids", "doc_ids": '{"a":1}'},
        {"feed": "continuous", "descending": "true"},
    ],
)
async def test_parameters_that_make_no_sense_are_refused(http: httpx.AsyncClient, params: dict[str, str]) -> None:
    response = await http.get("_changes", params=params)
    assert response.status_code == 400, response.text
    assert set(response.json()) == {"error", "reason"}
