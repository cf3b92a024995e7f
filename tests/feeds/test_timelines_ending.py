"""Access that ends by itself: what feeds tell of it, as timelines."""

from __future__ import annotations

from tests.feeds.told import told
from tests.model.timeline import Timeline


def test_the_end_of_a_grant_is_a_loss_like_any_other(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("g", grants="u:A@1500")
    stock, aware = t.client("u", revocations=False), t.client("u")
    stock.follow()
    assert told(aware.follow()) == [("3:2", "d", "live")]
    t.wait(1600)
    assert told(aware.follow()) == []
    assert aware.holds("d")
    t.expire()
    assert told(aware.follow()) == [("4:2", "d", "loss")]
    assert told(stock.follow()) == []
    assert told(t.page("u", revocations=False)) == []


def test_a_document_that_came_after_the_end_is_never_told(t: Timeline) -> None:
    t.user("u")
    t.write("g", grants="u:A@1500")
    client = t.client("u")
    client.follow()
    t.expire(1500)
    t.write("d", "A")
    assert told(client.follow()) == []


def test_longer_access_tells_nothing_and_ends_at_its_new_time(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("g", grants="u:A@1500")
    client = t.client("u")
    client.follow()
    t.write("g", grants="u:A@2000")
    t.expire(1700)
    assert told(client.follow()) == []
    t.expire(2000)
    assert told(client.follow()) == [("5:2", "d", "loss")]


def test_access_that_is_renewed_after_its_end_is_a_new_grant(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("g", grants="u:A@1500")
    client = t.client("u")
    client.follow()
    t.expire(1500)
    t.write("g", grants="u:A@2000")
    assert told(client.follow()) == [("5:2", "d", "live")]
    assert client.holds("d")


def test_access_with_several_sources_ends_with_the_last(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    t.write("g", grants="u:A@1500")
    t.write("h", grants="u:A@1700")
    client = t.client("u")
    client.follow()
    t.user("u")
    t.expire(1500)
    assert told(client.follow()) == []
    t.expire(1700)
    assert told(client.follow()) == [("7:2", "d", "loss")]


def test_a_membership_and_what_a_role_has_end_too(t: Timeline) -> None:
    t.role("r", "A")
    t.role("s")
    t.user("u")
    t.user("v", "", "s")
    t.write("d", "A")
    t.write("g", grants="role:s:A@1500", roles="u:r@1500")
    first, second = t.client("u"), t.client("v")
    assert told(first.follow()) == told(second.follow()) == [("6:5", "d", "live")]
    t.expire(1500)
    assert told(first.follow()) == told(second.follow()) == [("7:5", "d", "loss")]


def test_a_grant_that_is_over_when_its_document_comes_is_none(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.wait(1500)
    t.write("g", grants="u:A@1500")
    assert told(t.page("u")) == []


def test_a_losing_revision_that_wins_after_its_end_gives_nothing(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("g", grants="u:A@1500", digest="a")
    winner = t.write("g", branch=True, digest="b")
    client = t.client("u")
    assert told(client.follow()) == []
    t.wait(1500)
    t.delete("g", onto=winner)
    assert told(client.follow()) == []


def test_a_losing_revision_that_wins_before_its_end_gives_until_then(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("g", grants="u:A@1500", digest="a")
    winner = t.write("g", branch=True, digest="b")
    t.delete("g", onto=winner)
    client = t.client("u")
    assert told(client.follow()) == [("5:2", "d", "live")]
    t.expire(1500)
    assert told(client.follow()) == [("6:2", "d", "loss")]


def test_what_is_over_does_not_come_back_with_a_change_of_another_branch(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("g", grants="u:A@1500", digest="b")
    client = t.client("u")
    client.follow()
    t.expire(1500)
    t.write("g", "B", branch=True, digest="a")
    assert told(client.follow()) == [("4:2", "d", "loss")]
    assert client.holds("d") is None


def test_the_deletion_of_the_granting_document_reaches_those_whose_access_is_not_over(t: Timeline) -> None:
    t.user("u")
    t.write("g", "A", grants="u:A@1500")
    client = t.client("u", revocations=False)
    client.follow()
    t.delete("g")
    assert told(client.follow()) == [("3", "g", "deleted")]


def test_several_grants_end_at_one_sequence(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("e", "B")
    t.write("g", grants="u:A@1400 u:B@1500 u:C@1600")
    client = t.client("u")
    client.follow()
    t.expire(1500)
    assert told(client.follow(limit=1)) == [("5:2", "d", "loss"), ("5:3", "e", "loss")]
