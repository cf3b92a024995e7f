"""Channels and roles that an administrator gives and takes, through the API and the config file."""

from __future__ import annotations

from tests.model.timeline import Timeline
from tests.scenarios.told import told


def test_a_channel_that_is_given_is_filled_at_that_moment(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("e", "B")
    client = t.client("u")
    assert told(client.follow()) == []
    t.user("u", "A")
    assert told(client.follow()) == ["4:2 d"]
    client.check_copy()


def test_a_channel_that_is_taken_is_told_to_clients_that_ask(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    aware, stock = t.client("u"), t.client("u", revocations=False)
    aware.follow()
    stock.follow()
    t.user("u")
    assert told(aware.follow()) == ["3:2 d revoked"]
    assert told(stock.follow()) == []
    assert aware.holds("d") is None
    assert stock.holds("d")


def test_channels_that_are_exchanged_are_told_in_one_order(t: Timeline) -> None:
    t.user("u", "A")
    for doc, channel in (("a1", "A"), ("b1", "B"), ("a2", "A"), ("b2", "B")):
        t.write(doc, channel)
    client = t.client("u")
    client.follow()
    t.user("u", "B")
    assert told(client.follow()) == ["6:2 a1 revoked", "6:3 b1", "6:4 a2 revoked", "6:5 b2"]
    client.check_copy()


def test_what_is_given_again_as_it_was_changes_nothing(t: Timeline) -> None:
    t.user("u", "A", "r")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.user("u", "A", "r")
    assert t.oracle.seq == 2
    assert told(client.follow()) == []


def test_a_channel_that_stays_is_not_told_again_when_others_come_and_go(t: Timeline) -> None:
    t.user("u", "A B")
    for doc, channel in (("a", "A"), ("b", "B"), ("c", "C")):
        t.write(doc, channel)
    client = t.client("u")
    client.follow()
    t.user("u", "A C")
    assert told(client.follow()) == ["5:3 b revoked", "5:4 c"]


def test_a_role_that_is_given_and_taken_brings_its_channels_and_takes_them(t: Timeline) -> None:
    t.role("r", "A B")
    t.user("u")
    t.write("a", "A")
    t.write("b", "B")
    client = t.client("u")
    client.follow()
    t.user("u", roles="r")
    assert told(client.follow()) == ["5:3 a", "5:4 b"]
    t.user("u")
    assert told(client.follow()) == ["6:3 a revoked", "6:4 b revoked"]


def test_a_change_of_a_roles_channels_reaches_every_member(t: Timeline) -> None:
    t.role("r", "A")
    t.user("u", roles="r")
    t.user("v", "A", roles="r")
    t.write("a", "A")
    t.write("b", "B")
    of_u, of_v = t.client("u"), t.client("v")
    of_u.follow()
    of_v.follow()
    t.role("r", "B")
    assert told(of_u.follow()) == ["6:4 a revoked", "6:5 b"]
    assert told(of_v.follow()) == ["6:5 b"], "A is his own, too"


def test_a_grant_between_two_pages_is_told_before_the_page_goes_on(t: Timeline) -> None:
    t.user("u", "B")
    t.write("a", "A")
    for doc in ("b1", "b2", "b3"):
        t.write(doc, "B")
    client = t.client("u")
    assert told(client.step(limit=1)) == ["3 b1"]
    t.user("u", "A B")
    assert told(client.follow(limit=1)) == ["4 b2", "5 b3", "6:2 a"]


def test_a_reload_of_the_config_file_gives_and_takes_channels(in_the_file: Timeline) -> None:
    t = in_the_file
    t.user("u", "A", file=True)
    t.write("a", "A")
    t.write("b", "B")
    client = t.client("u")
    client.follow()
    t.user("u", "B", file=True)
    assert told(client.follow()) == ["4:2 a revoked", "4:3 b"]
    client.check_copy()


def test_a_role_of_the_config_file_that_changes_and_ends_is_told_to_its_members(in_the_file: Timeline) -> None:
    t = in_the_file
    t.role("r", "A", file=True)
    t.user("u", "C", roles="r", file=True)
    t.write("a", "A")
    t.write("b", "B")
    client = t.client("u")
    client.follow()
    t.role("r", "A B", file=True)
    assert told(client.follow()) == ["5:4 b"]
    t.drop_role("r", file=True)
    assert told(client.follow()) == ["6:3 a revoked", "6:4 b revoked"]


def test_a_user_who_leaves_the_config_file_and_comes_back_begins_a_new_life(in_the_file: Timeline) -> None:
    t = in_the_file
    t.user("u", "A", file=True)
    t.write("a", "A")
    t.write("b", "A")
    client = t.client("u")
    client.follow()
    t.drop_user("u", file=True)
    assert t.is_gone("u")
    t.write("a")
    t.user("u", "A", file=True)
    assert told(client.follow()) == ["4:5 a revoked", "6:3 b"]
    client.check_copy()


def test_the_config_file_wins_over_what_the_api_changed(in_the_file: Timeline) -> None:
    t = in_the_file
    t.user("u", "A", file=True)
    t.write("b", "B")
    client = t.client("u")
    t.user("u", "A B")
    assert told(client.follow()) == ["3:2 b"]
    t.user("u", "A", file=True)
    assert told(client.follow()) == ["4:2 b revoked"]


def test_what_the_config_file_takes_stays_where_a_document_gives_it(in_the_file: Timeline) -> None:
    t = in_the_file
    t.user("u", "A", file=True)
    t.write("a", "A")
    t.write("g", grants="u:A")
    client = t.client("u")
    client.follow()
    t.user("u", file=True)
    assert told(client.follow()) == []
    t.delete("g")
    assert told(client.follow()) == ["5:2 a revoked"]
