"""Channels and roles that documents give, by `access()` and `role()`, in every way that they come and go."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.model.timeline import Timeline
from tests.scenarios.told import told


@pytest.mark.parametrize("direct", [False, True], ids=["through the gateway", "straight to CouchDB"])
def test_a_document_that_appears_gives_access(t: Timeline, direct: bool) -> None:
    t.user("u")
    t.write("d", "A")
    client = t.client("u")
    t.write("g", grants="u:A", direct=direct)
    assert told(client.follow()) == ["3:2 d"]
    client.check_copy()


def _conflict(t: Timeline) -> None:
    """A longer branch without the grant wins."""
    root = t.tree("g").path(t.tree("g").leaves()[0])[-1]
    branch = t.write("g", onto=root, quiet=True)
    branch = t.write("g", onto=branch, quiet=True)
    t.write("g", onto=branch)


WAYS: dict[str, Callable[[Timeline], object]] = {
    "an edit": lambda t: t.write("g"),
    "an edit straight to CouchDB": lambda t: t.write("g", direct=True),
    "a deletion": lambda t: t.delete("g"),
    "a deletion straight to CouchDB": lambda t: t.delete("g", direct=True),
    "a purge": lambda t: t.purge("g"),
    "a conflict": _conflict,
    "a change of the grant's user": lambda t: t.write("g", grants="v:A", roles="v:r"),
    "a change of the grant's channel": lambda t: t.write("g", grants="u:Z"),
}


@pytest.mark.parametrize("way", WAYS)
def test_access_that_a_document_gave_ends(t: Timeline, way: str) -> None:
    t.user("u")
    t.user("v")
    t.write("d", "A")
    t.write("g", grants="u:A")
    t.write("g", grants="u:A")
    client = t.client("u")
    assert told(client.follow()) == ["4:3 d"]
    WAYS[way](t)
    assert told(client.follow()) == ["6:3 d revoked"]
    client.check_copy()


@pytest.mark.parametrize("way", WAYS)
def test_a_role_that_a_document_gave_ends(t: Timeline, way: str) -> None:
    t.user("u")
    t.role("r", "A B")
    t.write("a", "A")
    t.write("b", "B")
    t.write("g", roles="u:r")
    t.write("g", roles="u:r")
    client = t.client("u")
    assert told(client.follow()) == ["5:3 a", "5:4 b"]
    WAYS[way](t)
    assert told(client.follow()) == ["7:3 a revoked", "7:4 b revoked"]
    client.check_copy()


@pytest.mark.slow
def test_access_that_a_document_gave_ends_with_a_purge_straight_to_couchdb(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("g", grants="u:A")
    client = t.client("u")
    client.follow()
    t.purge("g", direct=True)
    assert told(client.follow()) == ["4:2 d revoked"]


def test_a_grant_that_moves_to_another_document_without_a_gap_is_no_change(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("g", grants="u:A")
    client = t.client("u")
    client.follow()
    t.write("h", grants="u:A")
    t.write("g")
    assert told(client.follow()) == []
    t.delete("h")
    assert told(client.follow()) == ["6:2 d revoked"]


def test_a_grant_that_moves_to_another_document_with_a_gap_fills_the_channel_again(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("g", grants="u:A")
    prompt, late = t.client("u"), t.client("u")
    prompt.follow()
    late.follow()
    t.write("g")
    assert told(prompt.follow()) == ["4:2 d revoked"]
    t.write("h", grants="u:A")
    assert told(prompt.follow()) == ["5:2 d"]
    assert told(late.follow()) == ["5:2 d"], "what is readable again is not told to be lost"


def test_a_grant_that_changes_its_channel_takes_the_one_and_fills_the_other(t: Timeline) -> None:
    t.user("u")
    t.write("a", "A")
    t.write("b", "B")
    t.write("both", "A B")
    t.write("g", grants="u:A")
    client = t.client("u")
    assert told(client.follow()) == ["5:2 a", "5:4 both"]
    t.write("g", grants="u:B")
    assert told(client.follow()) == ["6:2 a revoked", "6:3 b", "6:4 both"]
    client.check_copy()


def test_a_grant_that_changes_its_user_takes_from_the_one_and_gives_to_the_other(t: Timeline) -> None:
    t.user("u")
    t.user("v")
    t.write("d", "A")
    t.write("g", grants="u:A")
    of_u, of_v = t.client("u"), t.client("v")
    assert (told(of_u.follow()), told(of_v.follow())) == (["4:3 d"], [])
    t.write("g", grants="v:A")
    assert (told(of_u.follow()), told(of_v.follow())) == (["5:3 d revoked"], ["5:3 d"])


def test_one_document_gives_several_channels_and_roles_at_one_moment(t: Timeline) -> None:
    t.user("u")
    t.role("r", "C")
    for doc, channel in (("c", "C"), ("b", "B"), ("a", "A"), ("d", "D")):
        t.write(doc, channel)
    client = t.client("u")
    t.write("g", grants="u:A u:B", roles="u:r")
    assert told(client.follow(limit=1)) == ["7:3 c", "7:4 b", "7:5 a"]


def test_a_document_gives_a_channel_to_a_role_and_so_to_its_members(t: Timeline) -> None:
    t.role("r")
    t.user("u", roles="r")
    t.user("v")
    t.write("d", "A")
    of_u, of_v = t.client("u"), t.client("v")
    t.write("g", grants="role:r:A")
    assert (told(of_u.follow()), told(of_v.follow())) == (["5:4 d"], [])
    t.write("m", roles="v:r")
    assert (told(of_u.follow()), told(of_v.follow())) == ([], ["6:4 d"])
    t.write("g")
    assert (told(of_u.follow()), told(of_v.follow())) == (["7:4 d revoked"], ["7:4 d revoked"])


def test_a_losing_branch_gives_nothing_until_it_wins(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    root = t.write("g")
    winner = t.write("g", onto=t.write("g", onto=root))
    client = t.client("u")
    t.write("g", grants="u:A", onto=root)
    assert told(client.follow()) == []
    t.delete("g", onto=winner)
    assert told(client.follow()) == ["7:2 d"]


def test_access_comes_back_when_the_branch_that_took_it_is_purged(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    root = t.write("g", grants="u:A")
    first = t.write("g", onto=root, quiet=True)
    longer = t.write("g", onto=first, quiet=True)
    t.write("g", grants="u:A", onto=root)
    client = t.client("u")
    assert told(client.follow()) == []
    t.purge("g", longer)
    assert told(client.follow()) == ["5:2 d"]


def test_a_deleted_document_that_is_written_again_gives_again(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("g", grants="u:A")
    client = t.client("u")
    client.follow()
    t.delete("g")
    assert told(client.follow()) == ["4:2 d revoked"]
    t.write("g", grants="u:A")
    assert told(client.follow()) == ["5:2 d"]
    client.check_copy()


def test_a_tombstone_gives_what_its_body_says(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("g", grants="u:A")
    client = t.client("u")
    client.follow()
    t.write("g", grants="u:A", deleted=True)
    assert told(client.follow()) == []
    t.purge("g")
    assert told(client.follow()) == ["5:2 d revoked"]


def test_a_grant_and_the_document_that_it_opens_may_be_one(t: Timeline) -> None:
    t.user("u")
    client = t.client("u")
    t.write("g", "A", grants="u:A")
    assert told(client.follow()) == ["2 g"]
    t.write("g", "B", grants="u:B")
    assert told(client.follow()) == ["3 g"]
    t.write("g", "B")
    assert told(client.follow()) == ["4:4 g revoked"]


def test_grants_straight_to_couchdb_by_a_conflict_count_by_the_winner(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    root = t.write("g")
    first = t.write("g", onto=root, quiet=True)
    longer = t.write("g", grants="u:A", onto=first, direct=True)
    client = t.client("u")
    assert told(client.follow()) == ["4:2 d"]
    assert t.tree("g").leaves() == [longer]
    t.delete("g", onto=longer, direct=True)
    assert told(client.follow()) == ["5:2 d revoked"]
