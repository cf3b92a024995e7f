"""The timelines of the routing rules by their numbers, A11 to A20, W9 and W12."""

from __future__ import annotations

from gateway.model.positions import START, Position
from tests.feeds.told import told
from tests.model.timeline import Timeline

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
