"""The forms of explain: what is asked, on which port, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.http.conftest import ANN, Ports


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("_access?user=ann&doc=d", ["explain", "ann", "d", None]),
        ("_access?user=a%26b&doc=%22d%22%2Fe%20%2B&rev=1-a", ["explain", "a&b", '"d"/e +', "1-a"]),
        ("_access?doc=d", ["readers", "d", "", 100]),
        ("_access?doc=d&startkey=%22bob%22&limit=7", ["readers", "d", "bob", 7]),
        ("_access?user=ann", ["documents", "ann", "", 0, 100]),
        ("_access?user=ann&since=12&limit=1000&startkey=%22b%22", ["documents", "ann", "b", 12, 1000]),
        ("_channels", ["channels", "", "", 100]),
        ("_channels/?prefix=a&startkey=%22ab%22&limit=1", ["channels", "a", "ab", 1]),
        ("_channels/a%2Fb?startkey=%22role%3Ax%22", ["channel", "a/b", "role:x", 100]),
        ("_channels/_x", ["channel", "_x", "", 100]),
        ("_channels/*", ["channel", "*", "", 100]),
    ],
)
async def test_a_question_is_put_as_it_was_asked(gateway: Ports, path: str, asked: list[Any]) -> None:
    answer = await gateway.admin.get(f"/notes/{path}")
    assert (answer.status_code, answer.json()) == (200, {"asked": asked})
    assert (await gateway.admin.head(f"/notes/{path}")).status_code == 200


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("_access", "`user`, `doc` or both must be given"),
        ("_access?user=", "`user` must not be empty"),
        ("_access?doc=&user=ann", "`doc` must not be empty"),
        ("_access?user=ann&doc=d&rev=x", "Invalid rev format"),
        ("_access?doc=d&limit=0", "an integer of 1 or more"),
        ("_access?user=ann&limit=x", "an integer of 1 or more"),
        ("_access?user=ann&since=-1", "a non-negative integer"),
        ("_access?user=ann&since=12-3f2a", "a non-negative integer"),
        ("_channels?limit=1001", "EXPLAIN_ROWS_COUNT"),
        ("_channels/a?limit=-1", "an integer of 1 or more"),
        ("_channels/a?startkey=%FF", "UTF-8"),
        ("_channels/a?startkey=ann", "JSON"),
        ("_access?doc=d&startkey=1", "a JSON string"),
        ("_channels?startkey=null", "a JSON string"),
    ],
)
async def test_a_wrong_question_is_refused(gateway: Ports, path: str, reason: str) -> None:
    answer = await gateway.admin.get(f"/notes/{path}")
    assert answer.status_code == 400
    assert reason in answer.json()["reason"]
    assert not gateway.db.asked


@pytest.mark.parametrize("path", ["_access?user=ann&doc=d", "_access?user=ann", "_channels", "_channels/a"])
async def test_nobody_is_answered_on_the_public_port(gateway: Ports, path: str) -> None:
    for auth in (None, ANN):
        answer = await gateway.public.get(f"/notes/{path}", auth=auth)
        assert answer.status_code in (401, 404)
    assert not gateway.db.asked
    for method in ("PUT", "POST", "DELETE"):
        assert (await gateway.admin.request(method, f"/notes/{path}", json={})).status_code == 405
