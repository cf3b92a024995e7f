"""The timelines of the routing rules by their numbers: each breaks something when its rule is missing."""

from __future__ import annotations

from gateway.feeds.page import Page, Row
from gateway.model.positions import START, Position
from tests.model.timeline import Timeline


def told(rows: list[Row] | Page) -> list[tuple[str, str, str]]:
    """(place, document, kind) of each row."""
    listed = rows.rows if isinstance(rows, Page) else rows
    return [(str(row.position), row.id, row.kind) for row in listed]


# A1


def test_a1_a_document_of_a_channel_that_was_lost_is_not_listed(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    t.user("u")
    assert told(t.page("u", revocations=False)) == []
    assert told(t.page("u", revocations=True)) == []


def test_a1_the_document_whose_change_ended_the_access_is_not_listed_at_the_end(t: Timeline) -> None:
    t.user("u")
    t.write("g", "A", grants="u:A")
    stock, aware = t.client("u", revocations=False), t.client("u")
    stock.follow()
    aware.follow()
    t.write("g", "A")
    assert told(stock.follow()) == []
    assert told(aware.follow()) == [("3:3", "g", "loss")]
    assert aware.holds("g") is None


# A2


def test_a2_a_document_of_two_channels_is_delivered_at_its_first_place(t: Timeline) -> None:
    t.user("u", "B")
    t.write("x", "A")
    t.write("d", "A B")
    t.write("g", grants="u:A")
    assert told(t.page("u")) == [("3", "d", "live"), ("4:2", "x", "live")]
    client = t.client("u", revocations=False)
    client.step(limit=1)
    client.step(limit=1)
    t.write("g")
    client.follow(limit=1)
    assert client.holds("d")


def test_a2_the_later_place_of_a_document_comes_to_a_client_that_is_past_the_first(t: Timeline) -> None:
    t.user("u", "B")
    t.write("d", "A B")
    client = t.client("u")
    client.follow()
    t.write("g", grants="u:A")
    assert told(client.follow()) == [("3:2", "d", "live")]


# A3


def test_a3a_a_document_that_left_a_channel_after_the_channel_was_lost_is_lost(t: Timeline) -> None:
    t.user("u")
    t.write("d", "B")
    t.write("g", grants="u:B")
    client = t.client("u")
    client.follow()
    assert client.holds("d")
    t.write("g")
    t.write("d")
    assert told(client.follow()) == [("4:5", "d", "loss")]
    assert client.holds("d") is None


def test_a3b_a_document_that_left_and_entered_again_after_the_channel_was_lost_is_lost(t: Timeline) -> None:
    t.user("u")
    t.write("d", "B")
    t.write("g", grants="u:B")
    client = t.client("u")
    client.follow()
    t.write("d")
    t.write("g")
    t.write("d", "B")
    assert told(client.follow()) == [("5:6", "d", "loss")]
    assert client.holds("d") is None


def test_a3c_documents_that_came_into_a_channel_after_it_was_lost_are_not_named(t: Timeline) -> None:
    t.user("u")
    t.write("d", "B")
    t.write("g", grants="u:B")
    client = t.client("u")
    client.follow()
    t.write("g")
    t.write("secret", "B")
    t.write("other", "B")
    t.delete("other")
    assert told(client.follow()) == [("4:2", "d", "loss")]


def test_a3_what_comes_into_a_channel_by_the_change_that_ends_the_access_was_not_had_there(t: Timeline) -> None:
    t.user("u", "B")
    t.write("d", "B", grants="u:A")
    client = t.client("u")
    client.follow()
    t.write("d", "A")
    assert told(client.follow()) == [("3", "d", "loss")]


# A4


def test_a4_what_left_a_channel_while_the_user_had_lost_it_is_lost_when_the_channel_is_back(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    t.write("stays", "A")
    client = t.client("u")
    client.follow()
    t.user("u")
    t.write("d")
    t.user("u", "A")
    assert told(client.follow()) == [("4:5", "d", "loss"), ("6:3", "stays", "live")]
    assert client.holds("d") is None
    assert client.holds("stays")


def test_a4_what_was_deleted_while_the_user_had_lost_the_channel_is_gone_when_it_is_back(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.user("u")
    t.delete("d", "A")
    t.user("u", "A")
    assert told(client.follow()) == [("3:4", "d", "deleted")]
    assert client.holds("d") is None


# A5


def test_a5_a_loss_is_told_although_the_client_stopped_while_the_channel_was_back(t: Timeline) -> None:
    t.user("u", "A")
    t.write("x", "A")
    t.write("d", "A")
    t.role("r", "A")
    client = t.client("u")
    client.follow()
    t.user("u")
    t.write("x")
    t.user("u", roles="r")
    assert told(client.step(limit=1)) == [("5:6", "x", "loss")]
    t.user("u")
    client.follow(limit=1)
    assert client.holds("d") is None


# A6


def test_a6_a_place_inside_a_loss_is_never_shortened(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    t.write("e", "A")
    t.write("f", "A")
    client = t.client("u")
    client.follow()
    t.user("u")
    for doc in ("f", "e", "d"):
        t.write(doc, "C")
    t.user("u", "B")
    t.write("new", "B")
    assert told(client.page(10)) == [
        ("5:6", "f", "loss"),
        ("5:7", "e", "loss"),
        ("5:8", "d", "loss"),
        ("10", "new", "live"),
    ]
    client.step(limit=1)
    assert str(client.since) == "5:6"
    assert t.on_the_wire(client.since) == Position(5, 6) < Position(5)
    client.follow(limit=1)
    assert client.contents() == t.visible("u")


# A7


def test_a7_a_deletion_reaches_a_client_although_the_tombstone_is_in_no_channel(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    client = t.client("u", revocations=False)
    client.follow()
    tombstone = t.delete("d")
    (row,) = client.follow()
    assert (row.kind, row.revs) == ("deleted", (tombstone,))
    assert client.holds("d") is None


def test_a7_a_later_member_of_the_channel_cannot_read_the_tombstone_of_what_he_never_had(t: Timeline) -> None:
    t.user("u", "A")
    t.user("v")
    t.write("d", "A")
    t.write("d", "A", branch=True)
    loser = next(rev for rev in t.tree("d").leaves() if rev != t.visible("u")["d"])
    tombstone = t.delete("d", onto=loser)
    t.user("v", "A")
    t.write("d", "A")  # the document's sequence moves past the grant, the tombstone's does not
    assert t.fetch("u", "d", tombstone) != [None]
    assert t.fetch("v", "d", tombstone) == [None]
    (row,) = t.page("v").rows
    assert row.revs == (t.visible("v")["d"],)


def test_a7_a_deletion_reaches_a_client_although_the_revision_before_was_never_routed(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    client = t.client("u", revocations=False)
    client.follow()
    t.write("d", "B", quiet=True)
    t.delete("d", "B", quiet=True)
    t.apply("d")
    assert [row.kind for row in client.follow()] == ["deleted"]
    assert client.holds("d") is None


def test_a7_a_tombstone_over_a_tombstone_stays_readable(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    client = t.client("u", revocations=False)
    client.follow()
    t.delete("d")
    second = t.delete("d")
    (row,) = client.follow()
    assert (row.kind, row.revs) == ("deleted", (second,))


def test_a7_a_tombstone_far_from_the_revision_that_it_replaces_stays_readable(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    client = t.client("u", revocations=False)
    client.follow()
    for _ in range(80):
        t.write("d", "B", quiet=True)
    t.delete("d")
    assert [row.kind for row in client.follow()] == ["deleted"]


def test_a7_the_deletion_of_the_granting_document_is_delivered(t: Timeline) -> None:
    t.user("u")
    t.write("g", "A", grants="u:A")
    client = t.client("u", revocations=False)
    client.follow()
    assert client.holds("g")
    t.delete("g")
    assert told(client.follow()) == [("3", "g", "deleted")]
    assert client.holds("g") is None


# A8


def test_a8_a_deletion_is_told_at_the_place_of_the_loss_although_its_tombstone_is_in_a_new_channel(
    t: Timeline,
) -> None:
    t.user("u", "A")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.user("u")
    t.write("g", grants="u:B")
    t.delete("d", "B")
    assert told(client.follow()) == [("3:5", "d", "deleted")]
    assert client.holds("d") is None


def test_a8_a_deletion_that_cannot_be_read_is_told_as_a_loss(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.user("u")
    t.delete("d")
    assert told(client.follow()) == [("3:4", "d", "loss")]
    assert client.holds("d") is None


# A9


def test_a9_the_tombstone_of_a_document_that_the_user_never_had_is_not_told(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("d")
    t.user("u", "A")
    client = t.client("u")
    client.follow()
    t.delete("d", "A")
    assert told(client.follow()) == []


def test_a9_a_new_client_is_not_told_what_was_deleted_before(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    t.write("e", "A")
    t.delete("d", "A")
    assert told(t.page("u")) == [("3", "e", "live")]
    assert told(t.page("u", revocations=False)) == [("3", "e", "live")]


# A10


def test_a10_documents_of_a_role_that_is_created_late_are_delivered_at_its_creation(t: Timeline) -> None:
    t.user("u")
    t.write("s", grants="role:s:A")
    t.write("g", roles="u:s")
    t.write("d", "A")
    client = t.client("u")
    assert told(client.follow()) == []
    t.role("s")
    assert told(client.follow()) == [("5:4", "d", "live")]


def test_a10_grants_to_a_user_who_does_not_exist_yet_count_from_the_creation(t: Timeline) -> None:
    t.write("g", grants="u:A")
    t.write("d", "A")
    assert t.is_gone("u")
    t.user("u")
    assert told(t.page("u")) == [("3:2", "d", "live")]


def test_a10_a_user_who_is_deleted_and_created_again_gets_everything_again(t: Timeline) -> None:
    t.write("g", grants="u:A")
    t.user("u")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.drop_user("u")
    assert t.is_gone("u")
    t.write("e", "A")
    t.write("d")
    t.user("u")
    assert told(client.follow()) == [("4:6", "d", "loss"), ("7:5", "e", "live")]
    client.check_copy()


def test_a10_a_role_that_is_deleted_and_created_again_takes_and_gives(t: Timeline) -> None:
    t.role("r", "A")
    t.user("u", roles="r")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.drop_role("r")
    assert told(client.follow()) == [("4:3", "d", "loss")]
    t.role("r", "A")
    assert told(client.follow()) == [("5:3", "d", "live")]
    assert client.holds("d")


def test_a10_access_that_moves_between_sources_at_one_sequence_is_no_trigger(t: Timeline) -> None:
    t.role("r", "A")
    t.user("u", "A")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.user("u", roles="r")
    assert t.oracle.intervals("u")["A"] == [[2, 10**15]]
    assert told(client.follow()) == []


# A11


def test_a11_a_purged_document_is_lost(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.purge("d")
    assert told(client.follow()) == [("3", "d", "loss")]
    assert client.holds("d") is None


def test_a11_a_document_created_again_after_its_purge_replaces_the_old_tree(t: Timeline) -> None:
    t.user("u", "A")
    for doc in ("a", "d"):
        t.write(doc, "A")
    t.write("d", "A")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.purge("d")
    for doc in ("b", "c"):
        t.write(doc, "A")
    again = t.write("d", "A")
    rows = client.follow(limit=1)
    assert [(row.id, row.reset) for row in rows] == [("b", False), ("c", False), ("d", True)]
    assert client.holds("d") == again
    assert again.startswith("1-")


def test_a11_a_purge_and_creation_in_one_read_replace_the_old_tree(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A", digest="same")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.purge("d", quiet=True)
    again = t.write("d", "A", digest="same")
    client.follow()
    assert client.holds("d") == again == "1-same"


def test_a11_a_purge_takes_the_grants_of_the_document(t: Timeline) -> None:
    t.user("u")
    t.write("g", grants="u:A")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.purge("g")
    assert told(client.follow()) == [("4:3", "d", "loss")]


# A12


def test_a12_a_branch_that_ended_unseen_does_not_stay_alive_in_the_clients_tree(t: Timeline) -> None:
    t.user("u", "A")
    root = t.write("d", "A")
    mine = t.write("d", "A")
    client = t.client("u")
    client.follow()
    assert client.holds("d") == mine
    t.write("d", onto=mine)
    t.delete("d")
    t.delete("d", "A", onto=root)
    (row,) = client.follow()
    assert (row.kind, row.reset, len(row.revs)) == ("deleted", True, 1)
    assert client.holds("d") is None


def test_a12_the_servers_winner_is_the_clients_although_a_longer_branch_ended_out_of_sight(t: Timeline) -> None:
    t.user("u", "A")
    root = t.write("d", "A")
    second = t.write("d", "A", onto=root)
    winner = t.write("d", "A", onto=second)
    branch = t.write("d", "A", onto=second)
    longer = t.write("d", "A", onto=branch)
    client = t.client("u")
    client.follow()
    assert client.holds("d") == longer
    hidden = t.write("d", "B", onto=longer)
    t.delete("d", "B", onto=hidden)
    client.follow()
    assert client.holds("d") == winner == t.visible("u")["d"]


# A13


def test_a13_a_losing_branch_that_wins_brings_its_channels_and_grants(t: Timeline) -> None:
    t.user("u")
    t.write("x", "A")
    first = t.write("d", "B")
    winner = t.write("d", "B", onto=first)
    loser = t.write("d", "C", grants="u:A u:C", branch=True)
    assert told(t.page("u")) == []
    t.delete("d", onto=winner)
    assert told(t.page("u")) == [("6:2", "x", "live"), ("6", "d", "live")]
    assert t.visible("u")["d"] == loser


def test_a13_a_partial_purge_that_switches_the_winner_brings_its_channels_and_grants(t: Timeline) -> None:
    t.user("u")
    t.write("x", "A")
    first = t.write("d", "B", grants="u:B")
    winner = t.write("d", "B", grants="u:B", onto=first)
    loser = t.write("d", "C", grants="u:A", branch=True)
    client = t.client("u")
    client.follow()
    assert client.holds("d") == winner
    t.purge("d", winner)
    client.follow()
    assert client.contents() == {"x": t.visible("u")["x"]}
    assert t.tree("d").leaves() == [loser]


# A14


def test_a14_a_holder_of_everything_filters_by_channel(t: Timeline) -> None:
    t.user("u", "*")
    t.write("d", "A")
    t.write("e", "B")
    t.write("f")
    assert [row.id for row in t.page("u").rows] == ["d", "e", "f"]
    assert [row.id for row in t.page("u", channels=["A"]).rows] == ["d"]
    assert [row.id for row in t.page("u", channels=["A", "unknown"]).rows] == ["d"]
    client = t.client("u", channels="A")
    client.follow()
    t.write("d", "B")
    assert told(client.follow()) == [("5", "d", "loss")]


def test_a14_what_a_row_lists_is_not_narrowed_by_the_filter(t: Timeline) -> None:
    t.user("u", "A B")
    t.write("d", "A")
    t.write("d", "B", branch=True)
    (row,) = t.page("u", channels=["A", "B"]).rows
    channel = "A" if t.oracle.documents["d"].leaves[row.revs[0]].said.channels == {"A"} else "B"
    (filtered,) = t.page("u", channels=[channel]).rows
    assert filtered.revs == row.revs
    assert len(row.revs) == 2


# A15


def test_a15_intervals_of_access_are_never_merged(t: Timeline) -> None:
    t.user("u")
    t.role("r", "A")
    t.user("u", "A")
    t.user("u")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.user("u", roles="r")
    assert t.oracle.intervals("u")["A"] == [[3, 4], [6, 10**15]]
    assert told(client.follow()) == [("6:5", "d", "live")]


def test_a15_no_position_is_ever_too_old(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    for _ in range(15):
        t.user("u")
        t.user("u", "A")
        t.write("d")
        t.write("d", "A")
    t.write("d")
    assert len(t.oracle.intervals("u")["A"]) == 16
    client.follow(limit=1)
    assert client.holds("d") is None


# A16


def test_a16_a_position_of_another_database_or_of_the_future_starts_over(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    state = t.state()
    since = t.on_the_wire(Position(2))
    assert since == Position(2)
    assert t.on_the_wire(Position(3)) == START
    assert t.on_the_wire(Position(2, 9)) == Position(2, 9)
    assert state.epoch


# A17


def test_a17_a_transaction_names_every_user_whose_access_it_changed(t: Timeline) -> None:
    t.role("r", "A")
    t.user("u", roles="r")
    t.user("v")
    t.role("r", "A B")
    assert t.new()[0].users == {"u"}
    t.write("g", grants="v:A role:r:C", roles="v:r")
    assert t.new()[0].users == {"u", "v"}
    t.drop_role("r")
    assert t.new()[0].users == {"u", "v"}
    t.write("g", grants="v:A role:r:C", roles="v:r")
    assert t.new()[0].users == frozenset()


# A18


def test_a18_a_loss_names_no_revision(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    t.write("e", "A")
    client = t.client("u")
    client.follow()
    t.write("d", "B")
    t.user("u")
    rows = client.follow()
    assert {row.id: (row.kind, row.revs, row.reset) for row in rows} == {
        "d": ("loss", (), False),
        "e": ("loss", (), False),
    }


# A19


def test_a19_a_listed_revision_stays_readable_when_the_document_moves_before_it_is_fetched(t: Timeline) -> None:
    t.user("u", "A")
    rev = t.write("d", "A")
    client = t.client("u")
    client.ask()
    t.write("d", "B")
    client.receive()
    assert client.holds("d") == rev
    assert told(client.follow()) == [("3", "d", "loss")]
    assert client.holds("d") is None


def test_a19_a_tombstone_stays_readable_when_the_document_is_written_again_before_it_is_fetched(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.delete("d")
    client.ask()
    t.write("d")
    client.receive()
    client.follow()
    assert client.holds("d") is None


def test_a19_a_client_asks_again_when_a_listed_revision_is_missing_after_the_grace_time(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.delete("d")
    client.ask()
    t.write("d")
    t.forget_superseded()
    client.receive()
    client.follow()
    assert client.holds("d") is None


def test_a19_a_superseded_revision_is_readable_by_its_own_routing_only(t: Timeline) -> None:
    t.user("u", "A")
    t.user("v", "B")
    rev = t.write("d", "A")
    t.write("d", "B")
    assert t.fetch("u", "d", rev) != [None]
    assert t.fetch("v", "d", rev) == [None]
    t.user("u")
    assert t.fetch("u", "d", rev) == [None]


# A20


def test_a20_a_backfill_lists_what_is_alive_only(t: Timeline) -> None:
    t.user("u")
    for doc in ("a", "b", "c", "d"):
        t.write(doc, "A")
    t.delete("a", "A")
    t.write("b")
    t.purge("c")
    t.user("u", "A")
    assert told(t.page("u")) == [("9:5", "d", "live")]


# W9, W12


def test_w9_an_old_row_changes_nothing(t: Timeline) -> None:
    t.user("u", "A")
    first = t.write("d", "A")
    second = t.write("d", "A")
    other = t.write("d", "A", branch=True)
    tombstone = t.delete("d", onto=second)
    for leaves in ([first], [second], [second, other], [first, other], [other, tombstone]):
        t.replay("d", leaves)


def test_w12_access_of_several_sources_ends_with_the_last_of_them(t: Timeline) -> None:
    t.user("u", "A")
    t.write("g", grants="u:A")
    t.write("h", grants="u:A")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.user("u")
    t.write("g")
    assert told(client.follow()) == []
    t.write("h")
    assert told(client.follow()) == [("7:4", "d", "loss")]
    t.user("u", "A")
    assert told(client.follow()) == [("8:4", "d", "live")]
