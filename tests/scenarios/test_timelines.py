"""The timelines of the routing rules by their numbers, A1 to A10: each breaks something when its rule is missing."""

from __future__ import annotations

from gateway.model.positions import Position
from tests.feeds.told import told
from tests.model.timeline import Timeline

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
