"""The forms of resync: what is asked, on which port, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.queries import ResyncStart
from tests.http.conftest import ANN, Ports


@pytest.mark.parametrize(
    ("path", "body", "asked"),
    [
        ("_resync", None, ResyncStart()),
        ("_resync?action=start", None, ResyncStart()),
        ("_resync", {}, ResyncStart()),
        ("_resync", {"action": "start", "preview": True, "version": 3}, ResyncStart(preview=True, version=3)),
        ("_resync?preview=true", {"sync": "function () {}"}, ResyncStart(preview=True, source="function () {}")),
        ("_resync?version=2&accept_failures=true", None, ResyncStart(version=2, accept_failures=True)),
        ("_resync?action=stop", None, "stop"),
        ("_resync", {"action": "stop"}, "stop"),
    ],
)
async def test_a_resync_is_started_and_stopped_as_it_was_asked(
    gateway: Ports, path: str, body: Any, asked: Any
) -> None:
    answer = (
        await gateway.admin.post(f"/notes/{path}", json=body)
        if body is not None
        else await gateway.admin.post(f"/notes/{path}")
    )
    assert (answer.status_code, answer.json()) == (200, {"status": "none"})
    assert gateway.db.last("resync") == asked


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("documents", ["changed", None, 0, 100]),
        ("documents?kind=entered&channel=a%2Fb&startkey=7&limit=1000", ["entered", "a/b", 7, 1000]),
        ("channels?startkey=%22b%22&limit=1", ["b", 1]),
        ("access?startkey=12", [12, 100]),
    ],
)
async def test_a_list_is_asked_for_in_pages(gateway: Ports, path: str, asked: list[Any]) -> None:
    answer = await gateway.admin.get(f"/notes/_resync/{path}")
    assert (answer.status_code, answer.json()) == (200, {"asked": asked})


@pytest.mark.parametrize(
    ("method", "path", "body", "reason"),
    [
        ("POST", "_resync?action=pause", None, "start or stop"),
        ("POST", "_resync", {"preview": 1}, "true or false"),
        ("POST", "_resync", {"version": 0}, "an integer of 1 or more"),
        ("POST", "_resync", {"sync": 7}, "a string"),
        (
            "POST",
            "_resync?previev=true",
            None,
            "`previev` is not known here; known are accept_deletions, accept_failures",
        ),
        ("POST", "_resync", {"what": 7}, "'what' is not known"),
        ("POST", "_resync", [], "JSON object"),
        ("POST", "_resync", {"sync": "function () {}", "version": 1}, "not both"),
        ("POST", "_resync?action=stop&preview=true", None, "nothing else goes with stop"),
        ("GET", "_resync/documents?kind=all", None, "one of"),
        ("GET", "_resync/documents?kind=failed&channel=a", None, "entered and left"),
        ("GET", "_resync/documents?limit=1001", None, "RESYNC_ROWS_COUNT"),
        ("GET", "_resync/documents?startkey=%22a%22", None, "integer"),
        ("GET", "_resync/channels?startkey=1", None, "a JSON string"),
        ("GET", "_resync/access?limit=0", None, "an integer of 1 or more"),
    ],
)
async def test_what_makes_no_sense_is_refused(gateway: Ports, method: str, path: str, body: Any, reason: str) -> None:
    answer = await gateway.admin.request(method, f"/notes/{path}", json=body)
    assert answer.status_code == 400, answer.text
    assert reason in answer.json()["reason"]


async def test_a_resync_is_on_the_admin_port_only(gateway: Ports) -> None:
    for path in ("_resync", "_resync/documents", "_resync/channels", "_resync/access"):
        assert (await gateway.public.get(f"/notes/{path}", auth=ANN)).status_code in (400, 404)
    assert (await gateway.public.post("/notes/_resync", auth=ANN)).status_code == 404
    assert gateway.db.asked == []
