"""Backfill: the older documents of a channel that was gained, at the moment it was gained."""

from __future__ import annotations

import pytest

from tests.model.timeline import Timeline
from tests.scenarios.told import told

FIVE = ("a", "b", "c", "d", "e")


@pytest.mark.parametrize("taken", range(5))
def test_a_backfill_goes_on_after_any_row(t: Timeline, taken: int) -> None:
    t.user("u")
    for doc in FIVE:
        t.write(doc, "A")
    t.user("u", "A")
    rows = [f"7:{number} {doc}" for number, doc in enumerate(FIVE, 2)]
    client = t.client("u")
    assert told(client.step(keep=taken))[:taken] == rows[:taken]
    t.write("a", "A")
    t.write("new", "A")
    expected = [row for row in rows[taken:] if row != "7:2 a"]
    assert told(client.follow(limit=2)) == [*expected, "8 a", "9 new"]
    client.check_copy()


def test_a_backfill_that_is_lost_in_its_middle_is_lost_whole(t: Timeline) -> None:
    t.user("u")
    for doc in ("a", "b", "c"):
        t.write(doc, "A")
    t.user("u", "A")
    client = t.client("u")
    client.step(limit=1)
    t.user("u")
    assert told(client.follow()) == ["6:2 a revoked", "6:3 b revoked", "6:4 c revoked"]
    client.check_copy()


def test_a_second_backfill_begins_in_the_middle_of_the_first(t: Timeline) -> None:
    t.user("u")
    for doc, channel in (("a1", "A"), ("b1", "B"), ("a2", "A")):
        t.write(doc, channel)
    t.user("u", "A")
    client = t.client("u")
    assert told(client.step(limit=1)) == ["5:2 a1"]
    t.user("u", "A B")
    assert told(client.follow(limit=1)) == ["5:4 a2", "6:3 b1"]


def test_a_document_that_leaves_during_the_backfill_is_removed_or_never_told(t: Timeline) -> None:
    t.user("u")
    for doc in ("a", "b", "c"):
        t.write(doc, "A")
    t.user("u", "A")
    aware, stock = t.client("u"), t.client("u", revocations=False)
    aware.step(limit=1)
    stock.step(limit=1)
    t.write("b", "B")
    assert told(stock.follow()) == ["5:4 c"]
    assert told(aware.follow()) == ["5:4 c", "6 b removed"]


def test_tombstones_of_documents_that_were_never_held_are_not_filled_in(t: Timeline) -> None:
    t.user("u")
    for doc in ("a", "b", "c"):
        t.write(doc, "A")
    t.delete("a", "A")
    t.delete("b")
    client, stock = t.client("u"), t.client("u", revocations=False)
    t.write("g", grants="u:A")
    assert told(client.follow()) == told(stock.follow()) == ["7:4 c"]
    t.delete("c")
    assert told(client.follow()) == told(stock.follow()) == ["8 c deleted"]


def test_a_document_that_enters_a_channel_is_told_as_a_change(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "B")
    client = t.client("u")
    client.follow()
    t.write("d", "A B")
    assert told(client.follow()) == ["3 d"]


def test_what_the_user_has_through_another_channel_comes_once_more(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A B")
    t.write("e", "B")
    client, fresh = t.client("u"), t.client("u")
    client.follow()
    t.user("u", "A B")
    assert told(client.follow()) == ["4:2 d", "4:3 e"]
    assert told(fresh.follow()) == ["2 d", "4:3 e"]


def test_a_conflicted_document_is_filled_in_with_the_leaves_that_may_be_read(t: Timeline) -> None:
    t.user("u")
    root = t.write("d", "A")
    longer = t.write("d", "A", onto=t.write("d", "A", onto=root))
    branch = t.write("d", "B", onto=root)
    client = t.client("u")
    t.user("u", "A")
    (row,) = client.follow()
    assert (told([row]), row.revs) == (["6:5 d reset"], (longer,))
    t.user("u", "A B")
    assert told(client.follow()) == [], "a losing branch gives no access, so its channel has nothing to fill in"
    assert t.fetch("u", "d", branch) != [None]
    newer = t.write("d", "A", onto=longer)
    (row,) = client.follow()
    assert (told([row]), row.revs) == (["8 d"], (newer, branch))


def test_a_filtered_feed_is_filled_only_through_its_channels(t: Timeline) -> None:
    t.user("u")
    for doc, channel in (("a", "A"), ("b", "B"), ("both", "A B")):
        t.write(doc, channel)
    client = t.client("u", channels="B")
    t.write("g", grants="u:A u:B")
    assert told(client.follow(limit=1)) == ["5:3 b", "5:4 both"]
    t.write("g", grants="u:A")
    assert told(client.follow(limit=1)) == ["6:3 b revoked", "6:4 both revoked"]
    client.check_copy()


def test_a_feed_of_some_documents_is_filled_with_these(t: Timeline) -> None:
    t.user("u")
    for doc in ("a", "b", "c"):
        t.write(doc, "A")
    t.user("u", "A")
    assert told(t.page("u", doc_ids=["b", "c", "unknown"])) == ["5:3 b", "5:4 c"]
    at = t.page("u", doc_ids=["b", "c"], limit=1).last
    t.user("u")
    assert told(t.page("u", at, doc_ids=["b", "c"])) == ["6:3 b revoked", "6:4 c revoked"]
    assert told(t.page("u", at, doc_ids=["b", "c"], revocations=False)) == []
