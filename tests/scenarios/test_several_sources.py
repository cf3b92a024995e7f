"""One channel from several sources: access ends with the last of them, and begins with the first."""

from __future__ import annotations

import itertools

import pytest

from tests.model.timeline import Timeline
from tests.scenarios.told import told


@pytest.mark.parametrize("order", list(itertools.permutations(("admin", "document", "role"))), ids="-".join)
def test_access_ends_with_the_last_source_whatever_it_is(t: Timeline, order: tuple[str, ...]) -> None:
    t.role("r", "A")
    t.user("u", "A")
    t.write("d", "A")
    t.write("g", grants="u:A")
    t.write("m", roles="u:r")
    client = t.client("u")
    client.follow()
    for number, source in enumerate(order):
        assert client.holds("d"), "a source is left"
        if source == "admin":
            t.user("u")
        elif source == "document":
            t.delete("g")
        else:
            t.drop_role("r")
        assert told(client.follow()) == (["8:3 d revoked"] if number == 2 else [])
    client.check_copy()


def test_a_second_source_fills_nothing_again(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.write("g", grants="u:A")
    t.role("r", "A")
    t.write("m", roles="u:r")
    assert told(client.follow()) == []


def test_two_documents_give_one_channel_to_two_users(t: Timeline) -> None:
    t.user("u")
    t.user("v")
    t.write("d", "A")
    t.write("g", grants="u:A v:A")
    t.write("h", grants="v:A")
    of_u, of_v = t.client("u"), t.client("v")
    assert (told(of_u.follow()), told(of_v.follow())) == (["4:3 d"], ["4:3 d"])
    t.delete("g")
    assert (told(of_u.follow()), told(of_v.follow())) == (["6:3 d revoked"], [])
    t.purge("h")
    assert told(of_v.follow()) == ["7:3 d revoked"]


def test_two_roles_with_one_channel_are_two_sources(t: Timeline) -> None:
    t.role("r", "A")
    t.role("s", "A B")
    t.user("u", roles="r s")
    t.write("a", "A")
    t.write("b", "B")
    client = t.client("u")
    client.follow()
    t.drop_role("s")
    assert told(client.follow()) == ["6:5 b revoked"]
    t.role("r", "B")
    assert told(client.follow()) == ["7:4 a revoked", "7:5 b"]


def test_a_document_of_two_channels_is_lost_with_the_second(t: Timeline) -> None:
    t.user("u", "A B")
    t.write("both", "A B")
    t.write("a", "A")
    client = t.client("u")
    client.follow()
    t.user("u", "B")
    assert told(client.follow()) == ["4:3 a revoked"]
    t.user("u")
    assert told(client.follow()) == ["5:2 both revoked"]


def test_a_document_that_leaves_one_of_its_channels_stays_through_the_other(t: Timeline) -> None:
    t.user("u", "A B")
    t.user("v", "A")
    t.write("d", "A B")
    of_u, of_v = t.client("u"), t.client("v")
    of_u.follow()
    of_v.follow()
    t.write("d", "B")
    assert (told(of_u.follow()), told(of_v.follow())) == (["4 d"], ["4 d removed"])
