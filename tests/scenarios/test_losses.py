"""Documents and channels that are lost: what is told, to whom, and what is not."""

from __future__ import annotations

import pytest

from tests.model.timeline import Timeline
from tests.scenarios.told import told


@pytest.mark.parametrize("direct", [False, True], ids=["through the gateway", "straight to CouchDB"])
def test_a_document_that_left_its_channel_is_removed_for_clients_that_ask(t: Timeline, direct: bool) -> None:
    t.user("u", "A")
    t.write("d", "A")
    aware, stock = t.client("u"), t.client("u", revocations=False)
    aware.follow()
    stock.follow()
    hidden = t.write("d", "B", direct=direct)
    (row,) = aware.follow()
    assert (told([row]), row.revs) == (["3 d removed"], ())
    assert told(stock.follow()) == []
    assert t.fetch("u", "d", hidden) == [None]


def test_a_document_that_left_and_came_back_between_two_pages_is_a_change(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.write("d", "B")
    t.write("d", "A")
    assert told(client.follow()) == ["4 d"]
    client.check_copy()


def test_a_document_that_left_before_the_client_had_anything_is_not_told(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    t.write("d", "B")
    t.write("e", "A")
    assert told(t.page("u")) == ["4 e"]


def test_a_document_that_is_deleted_after_it_left_is_told_as_removed_only(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    client, stock = t.client("u"), t.client("u", revocations=False)
    client.follow()
    stock.follow()
    t.write("d", "B")
    t.delete("d", "B")
    assert told(client.follow()) == ["3 d removed"]
    assert told(stock.follow()) == []


def test_documents_of_a_lost_channel_that_changed_meanwhile_are_told_where_they_are(t: Timeline) -> None:
    t.user("u", "A")
    for doc in ("changed", "deleted", "left", "same"):
        t.write(doc, "A")
    client = t.client("u")
    client.follow()
    t.user("u")
    t.write("changed", "A")
    t.delete("deleted", "A")
    t.write("left")
    t.write("new", "A")
    assert told(client.follow(limit=1)) == [
        "6:5 same revoked",
        "6:7 changed revoked",
        "6:8 deleted revoked",
        "6:9 left revoked",
    ]
    client.check_copy()


@pytest.mark.parametrize("taken", range(4))
def test_a_revocation_goes_on_after_any_row(t: Timeline, taken: int) -> None:
    t.user("u", "A")
    for doc in ("a", "b", "c", "d"):
        t.write(doc, "A")
    client = t.client("u")
    client.follow()
    t.user("u")
    rows = [f"6:{number} {doc} revoked" for number, doc in enumerate(("a", "b", "c", "d"), 2)]
    assert told(client.step(keep=taken))[:taken] == rows[:taken]
    t.write("d", "A")
    t.write("e", "!")
    last = ["6:7 d revoked"] if taken < 4 else []
    assert told(client.follow(limit=1)) == [*rows[taken:3], *last, "8 e"]
    client.check_copy()


def test_a_channel_that_is_lost_and_regained_between_two_pages_is_filled_again(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.user("u")
    t.user("u", "A")
    assert told(client.follow()) == ["4:2 d"]


def test_a_document_that_moved_into_another_channel_of_the_user_is_not_lost_with_the_first(t: Timeline) -> None:
    t.user("u", "A B")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.write("d", "B")
    t.user("u", "B")
    assert told(client.follow()) == ["3 d"]
    t.user("u")
    assert told(client.follow()) == ["5:3 d revoked"]


def test_the_deletion_of_the_granting_document_reaches_who_had_access_only_through_it(t: Timeline) -> None:
    t.user("u")
    t.user("v", "A")
    t.write("d", "A")
    t.write("g", "A", grants="u:A")
    of_u, of_v = t.client("u", revocations=False), t.client("v", revocations=False)
    of_u.follow()
    of_v.follow()
    tombstone = t.delete("g")
    assert told(of_u.follow()) == told(of_v.follow()) == ["5 g deleted"]
    assert t.fetch("u", "g", tombstone) != [None]
    assert (of_u.holds("g"), of_v.holds("g")) == (None, None)


def test_the_deletion_of_the_document_that_gave_the_role_reaches_its_member(t: Timeline) -> None:
    t.role("r", "A")
    t.user("u")
    t.write("m", "A", roles="u:r")
    stock = t.client("u", revocations=False)
    stock.follow()
    t.delete("m", direct=True)
    assert told(stock.follow()) == ["4 m deleted"]


def test_the_purge_of_the_granting_document_takes_it_and_what_it_gave(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("g", "A", grants="u:A")
    client = t.client("u")
    client.follow()
    t.purge("g")
    assert told(client.follow()) == ["4:2 d revoked", "4 g removed"]
    client.check_copy()


def test_a_deletion_after_the_access_ended_is_told_as_a_loss_without_its_revision(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.user("u")
    tombstone = t.delete("d", "A")
    (row,) = client.follow()
    assert (told([row]), row.revs) == (["3:4 d revoked"], ())
    assert t.fetch("u", "d", tombstone) == [None]


def test_a_leaf_that_leaves_the_channel_resets_the_document(t: Timeline) -> None:
    t.user("u", "A")
    root = t.write("d", "A")
    longer = t.write("d", "A", onto=t.write("d", "A", onto=t.write("d", "A", onto=root)))
    other = t.write("d", "A", onto=root)
    aware, stock = t.client("u"), t.client("u", revocations=False)
    (row,) = aware.follow()
    assert (told([row]), set(row.revs)) == (["6 d"], {longer, other})
    stock.follow()
    t.write("d", "B", onto=other)
    (row,) = aware.follow()
    assert (told([row]), row.revs) == (["7 d reset"], (longer,))
    assert told(stock.follow()) == ["7 d"], "whoever did not ask would not know what it means"
    aware.check_copy()


def test_a_lost_channel_that_only_a_losing_branch_is_in_is_told_with_the_next_change(t: Timeline) -> None:
    t.user("u", "A B")
    root = t.write("d", "A")
    longer = t.write("d", "A", onto=t.write("d", "A", onto=root))
    branch = t.write("d", "B", onto=root)
    client = t.client("u")
    client.follow()
    t.user("u", "A")
    assert told(client.follow()) == []
    assert t.fetch("u", "d", branch) == [None]
    t.delete("d", onto=longer)
    assert told(client.follow()) == ["7 d removed"]
    assert client.holds("d") is None, "the branch does not win on the device"


def test_a_winner_that_may_not_be_read_hides_the_document_whatever_its_branches(t: Timeline) -> None:
    t.user("u", "A")
    root = t.write("d", "A")
    first = t.write("d", "B", onto=root, quiet=True)
    longer = t.write("d", "B", onto=first, quiet=True)
    t.write("d", "A", onto=root)
    client = t.client("u")
    assert told(client.follow()) == []
    t.delete("d", onto=longer)
    client.follow()
    client.check_copy()
    assert client.holds("d")


def test_a_purged_branch_resets_the_document(t: Timeline) -> None:
    t.user("u", "A")
    root = t.write("d", "A")
    longer = t.write("d", "A", onto=t.write("d", "A", onto=root))
    other = t.write("d", "A", onto=root)
    client = t.client("u")
    client.follow()
    assert client.holds("d") == longer
    t.purge("d", longer)
    assert told(client.follow()) == ["6 d reset"]
    assert client.holds("d") == other


def test_a_client_that_was_away_for_long_is_told_every_end_of_access(t: Timeline) -> None:
    t.user("u", "A B")
    t.write("a", "A")
    t.write("b", "B")
    client, in_small_steps = t.client("u"), t.client("u")
    client.follow()
    in_small_steps.follow()
    for channels in ("A", "B", "", "A B", "C"):
        t.user("u", channels)
    t.write("c", "C")
    assert told(client.follow()) == ["4:3 b revoked", "5:2 a revoked", "9 c"], "each document once in a page"
    assert told(in_small_steps.follow(limit=1)) == [
        "4:3 b revoked",
        "5:2 a revoked",
        "6:3 b revoked",
        "8:2 a revoked",
        "8:3 b revoked",
        "9 c",
    ]
    client.check_copy()
    assert told(t.page("u")) == ["9 c"], "who begins now has nothing to forget"


def test_two_devices_of_one_user_are_told_by_where_they_stand(t: Timeline) -> None:
    t.user("u", "A")
    t.write("a", "A")
    early, late = t.client("u"), t.client("u")
    early.follow()
    t.write("b", "A")
    late.follow()
    t.user("u")
    assert told(late.follow()) == ["4:2 a revoked", "4:3 b revoked"]
    assert told(early.follow()) == ["4:2 a revoked"]
