"""The lists of explain: what is on a page, what is counted, what goes on where."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import limits
from gateway.explain.explaining import Explaining
from gateway.feeds.viewers import Viewers
from gateway.store.protocol import PrincipalChange
from tests.model.timeline import Timeline


def lists(t: Timeline) -> Explaining:
    return Explaining(t.store, Viewers())


def names(rows: list[dict[str, Any]], member: str) -> list[str]:
    return [row[member] for row in rows]


def test_readers_are_told_with_the_channel_that_gives_it(t: Timeline) -> None:
    t.user("ann", "A")
    t.role("crew", "B")
    t.user("bob", "", "crew")
    t.user("eve", "*")
    t.user("tom", "C")
    rev = t.write("d", "A B")
    assert t.run(lists(t).readers("d", "", 10)) == {
        "doc": "d",
        "rev": rev,
        "deleted": False,
        "channels": ["A", "B"],
        "readers": [
            {"user": "ann", "channel": "A", "kind": "open", "since": 1},
            {"user": "bob", "channel": "B", "kind": "open", "since": 3},
            {"user": "eve", "channel": "*", "kind": "open", "since": 4},
        ],
        "next": None,
    }
    page = t.run(lists(t).readers("d", "b", 1))
    assert (names(page["readers"], "user"), page["next"]) == (["bob"], "eve")


def test_disabled_users_read_nothing_and_are_said_to_be_disabled(t: Timeline) -> None:
    t.user("ann", "A")
    t.user("bob", "A")
    t.write("d", "A")
    t.run(t.store.put_principal("user", "ann", PrincipalChange({"disabled": True})))
    assert names(t.run(lists(t).readers("d", "", 10))["readers"], "user") == ["bob"]
    told = t.run(lists(t).documents("ann", start="", since=0, limit=10))
    assert (told["disabled"], told["documents"]) == (True, [])
    assert names(told["channels"], "channel") == ["!", "A"]
    holders = t.run(lists(t).channel("A", "", 10))["holders"]
    assert [(one["user"], one.get("disabled")) for one in holders] == [("ann", True), ("bob", None)]


def test_documents_of_a_user_go_on_by_sequence_and_channels_by_name(t: Timeline) -> None:
    t.user("ann", "A B")
    for doc in ("z", "y", "x"):
        t.write(doc, "A")
    t.write("w", "A B C")
    t.delete("x", "A")
    first = t.run(lists(t).documents("ann", start="", since=0, limit=2))
    assert first["channels"] == [
        {"channel": "!", "since": 1, "documents": 0},
        {"channel": "A", "since": 1, "documents": 3},
    ]
    assert (names(first["documents"], "id"), first["next"], first["next_since"]) == (["z", "y"], "B", 3)
    t.write("z", "A")
    second = t.run(lists(t).documents("ann", start="B", since=3, limit=2))
    assert names(second["documents"], "id") == ["w", "z"], "what changed meanwhile comes later and is not missed"
    assert [one["channels"] for one in second["documents"]] == [["A", "B"], ["A"]]
    assert second["channels"] == [{"channel": "B", "since": 1, "documents": 1}]
    assert (second["next"], second["next_since"]) == (None, None)


def test_counts_end_at_a_limit_and_one_more_says_so(t: Timeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHANNELS_COUNTED_COUNT", 2)
    for at in range(4):
        t.user(f"u{at}", "A")
        t.write(f"d{at}", "A")
    (told,) = t.run(lists(t).channels("A", "", 10))["channels"]
    assert told == {"channel": "A", "documents": 3, "users": 3}
    assert t.run(lists(t).documents("u0", start="A", since=0, limit=1))["channels"][0]["documents"] == 3
    whole = t.run(lists(t).channel("A", "", 1))
    assert (whole["documents"], whole["users"]) == (4, 4)


def test_a_page_of_holders_that_ends_with_the_roles_goes_on_with_the_users(t: Timeline) -> None:
    t.role("r", "A")
    t.role("s", "A")
    t.user("ann", "A")
    pages, start = [], ""
    while True:
        page = t.run(lists(t).channel("A", start, 2))
        pages.append([one.get("role") or one["user"] for one in page["holders"]])
        if page["next"] is None:
            break
        start = page["next"]
    assert pages == [["r", "s"], ["ann"]]
    assert start == "ann"
    assert t.run(lists(t).channel("A", "", 1))["next"] == "role:s"
    t.drop_user("ann")
    assert t.run(lists(t).channel("A", "", 2))["next"] is None


def test_who_is_told_of_a_deletion_is_looked_for_a_piece_at_a_time(
    t: Timeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "READERS_EXAMINED_COUNT", 2)
    for name in ("a", "b", "c", "d", "e"):
        t.user(name, "A" if name in "ade" else "B")
    t.write("doc", "A")
    t.user("a")
    t.delete("doc")
    page = t.run(lists(t).readers("doc", "", 10))
    assert (names(page["readers"], "user"), page["next"]) == ([], "c"), "an empty page that says where to go on"
    page = t.run(lists(t).readers("doc", "c", 10))
    assert (names(page["readers"], "user"), page["next"]) == (["d"], "e")
    assert names(t.run(lists(t).readers("doc", "e", 10))["readers"], "user") == ["e"]
