"""`_changes` of administrators: the upstream's own answer, in whole lines."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.http.conftest import Ports
from tests.http.fake import Streamed, upstream_answer

LISTING = (
    b'{"results":[\n{"seq":"3-up","id":"_design/x","changes":[{"rev":"1-a"}]}\n],\n"last_seq":"3-up","pending":0}\n'
)


async def test_an_administrator_gets_the_upstreams_own_feed(gateway: Ports) -> None:
    gateway.db.upstream = upstream_answer(200, LISTING, {"content-type": "application/json", "etag": '"x"'})
    answer = await gateway.admin.get("/notes/_changes?filter=_design&since=2-up")
    assert (answer.content, answer.headers["ETag"]) == (LISTING, '"x"')
    assert gateway.db.last("upstream_request")[:3] == ("GET", "/_changes", "filter=_design&since=2-up")
    body = {"selector": {"a": 1}}
    gateway.db.upstream = upstream_answer(200, LISTING)
    await gateway.admin.post("/notes/_changes?filter=_selector", json=body)
    assert json.loads(gateway.db.last("upstream_request")[4]) == body


async def test_the_upstreams_errors_pass(gateway: Ports) -> None:
    gateway.db.upstream = upstream_answer(404, {"error": "not_found", "reason": "missing json key: filters"})
    answer = await gateway.admin.get("/notes/_changes?filter=a/b&feed=continuous")
    assert (answer.status_code, answer.json()["reason"]) == (404, "missing json key: filters")


@pytest.mark.parametrize(
    "asked",
    ["filter=sync_gateway/bychannel&channels=a", "active_only=true", "revocations=true", "channels=a"],
)
async def test_what_only_the_gateway_knows_is_answered_by_its_own_feed(gateway: Ports, asked: str) -> None:
    assert (await gateway.admin.get(f"/notes/_changes?{asked}")).status_code == 200
    assert gateway.db.last("changes")[0].is_admin


@pytest.mark.parametrize("feed", ["continuous", "live", "eventsource", "longpoll"])
async def test_a_feed_comes_as_the_upstream_writes_it_whatever_its_pieces(gateway: Ports, feed: str) -> None:
    gateway.db.upstream = upstream_answer(200, b"")
    content = Streamed([b'{"seq":1}', b'\n{"se', b'q":2}\n\n{"last', b'_seq":2}'])
    gateway.db.upstream.content = content
    answer = await gateway.admin.get(f"/notes/_changes?feed={feed}")
    assert answer.content == b'{"seq":1}\n{"seq":2}\n\n{"last_seq":2}'
    assert content.released.is_set()


async def test_a_feed_that_breaks_says_so_in_its_last_line_or_breaks_off(gateway: Ports) -> None:
    gateway.db.upstream = upstream_answer(200, b"")
    gateway.db.upstream.content = Streamed([b'{"seq":1}\n{"se', OSError("gone")])
    answer = await gateway.admin.get("/notes/_changes?feed=continuous")
    first, last = answer.content.splitlines()
    assert (first, set(json.loads(last))) == (b'{"seq":1}', {"error", "reason", "code"})
    gateway.db.upstream.content = Streamed([b'{"results":[\n', OSError("gone")])
    with pytest.raises(httpx.RemoteProtocolError):
        await gateway.admin.get("/notes/_changes?feed=longpoll")


async def test_the_names_of_options_may_be_written_in_any_case(gateway: Ports) -> None:
    gateway.db.upstream = upstream_answer(200, b"")
    gateway.db.upstream.content = Streamed([b'{"seq":1}\n', OSError("gone")])
    answer = await gateway.admin.get("/notes/_changes?FEED=continuous")
    assert set(json.loads(answer.content.splitlines()[-1])) == {"error", "reason", "code"}
