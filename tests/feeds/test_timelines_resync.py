"""Timelines in which another sync function comes in force: what clients that follow are told, and what nobody is."""

from __future__ import annotations

from collections.abc import Callable

from tests.feeds.told import told
from tests.model.oracle import Said
from tests.model.timeline import Timeline, said


def anew(t: Timeline, **documents: Said) -> Callable[[str, str], Said]:
    """A function that says this of all revisions of these documents, and of others what the one before said."""
    before = {(doc, rev): one.said for doc, tree in t.trees.items() for rev, one in tree.revisions.items()}
    return lambda doc, rev: documents.get(doc, before.get((doc, rev), Said()))


def test_documents_that_enter_and_leave_are_told_in_the_order_of_their_sequences(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    t.write("e", "B")
    t.write("f", "A")
    client = t.client("u")
    client.follow()
    t.resync(anew(t, e=said("A"), d=said("B")))
    assert told(client.follow()) == [("6", "d", "loss"), ("7", "e", "live")]
    assert client.holds("f"), "it was not sent again, for nothing of it changed"
    client.check_copy()


def test_a_resync_that_changes_nothing_takes_no_sequence(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    t.resync(anew(t))
    assert t.state().last_seq == 2


def test_a_grant_that_moves_to_another_document_neither_begins_nor_ends(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("g", grants="u:A")
    t.write("h")
    client = t.client("u")
    client.follow()
    t.resync(anew(t, g=said(), h=said(grants="u:A")))
    assert client.follow() == []
    assert client.holds("d")
    client.check_copy()


def test_a_grant_that_the_admin_gives_too_does_not_end(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    t.write("g", grants="u:A")
    client = t.client("u")
    client.follow()
    t.resync(anew(t, g=said()))
    assert client.follow() == []
    assert client.holds("d")


def test_what_is_granted_and_enters_by_the_same_function_is_told_once(t: Timeline) -> None:
    t.user("u")
    t.write("d", "B")
    t.write("e", "A")
    t.write("g")
    client = t.client("u")
    client.follow(limit=1)
    t.resync(anew(t, g=said(grants="u:A"), d=said("A")))
    assert told(client.follow(limit=1)) == [("5:3", "e", "live"), ("6", "d", "live")]
    client.check_copy()


def test_no_id_is_told_of_what_enters_a_channel_that_is_lost_by_the_same_function(t: Timeline) -> None:
    t.user("u")
    t.write("d", "B")
    t.write("e", "A")
    t.write("g", grants="u:A")
    client = t.client("u")
    client.follow()
    t.resync(anew(t, g=said(), d=said("A")))
    assert told(client.follow(limit=1)) == [("5:3", "e", "loss")]
    client.check_copy()


def test_no_id_is_told_of_what_leaves_a_channel_that_is_granted_by_the_same_function(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("g")
    client = t.client("u")
    client.follow()
    t.resync(anew(t, g=said(grants="u:A"), d=said("B")))
    assert client.follow(limit=1) == []


def test_a_tombstone_is_not_read_in_a_channel_that_is_lost_by_the_function_that_puts_it_there(t: Timeline) -> None:
    t.user("u")
    t.write("d", "B")
    t.write("g", grants="u:A")
    rev = t.delete("d", "B")
    t.resync(anew(t, g=said(), d=said("A")))
    assert t.fetch("u", "d", rev) == [None]


def test_who_held_a_deleted_document_hears_of_that_although_its_tombstone_moved(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    stock, aware = t.client("u", revocations=False), t.client("u")
    stock.follow()
    aware.follow()
    t.delete("d", "A")
    t.resync(anew(t, d=said("B")))
    assert told(stock.follow()) == [("3", "d", "deleted")]
    assert told(aware.follow()) == [("3", "d", "deleted")]
    assert (stock.holds("d"), aware.holds("d")) == (None, None)


def test_a_client_in_the_middle_of_the_changes_is_told_when_it_loses_what_it_has_got_of_them(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "B")
    t.write("e", "B")
    client = t.client("u")
    client.follow()
    t.resync(anew(t, d=said("A"), e=said("A")))
    client.step(limit=1)
    assert client.holds("d")
    t.write("d", "B")
    assert told(client.follow()) == [("6", "e", "live"), ("7", "d", "loss")]
    client.check_copy()


def test_a_losing_revision_that_moves_is_told_with_its_document(t: Timeline) -> None:
    t.user("u", "A")
    low = t.write("d", "A", digest="1")
    t.write("d", "A", branch=True, digest="2")
    client = t.client("u")
    client.follow()
    other = t.tree("d").leaves()[1]
    before = anew(t)
    t.resync(lambda doc, rev: said("B") if rev == low else before(doc, rev))
    (row,) = client.follow()
    assert (row.id, row.revs, row.reset) == ("d", (other,), True)
    client.check_copy()


def test_documents_written_after_a_resync_are_applied_to_what_it_left(t: Timeline) -> None:
    t.user("u", "A")
    t.user("v", "B")
    t.write("d", "A", grants="v:C")
    t.write("e", "C")
    mine, theirs = t.client("u"), t.client("v")
    mine.follow()
    theirs.follow()
    t.resync(anew(t, d=said("B", "u:C")))
    t.write("d", "A")
    mine.follow()
    theirs.follow()
    mine.check_copy()
    theirs.check_copy()
    assert (mine.holds("e"), theirs.holds("e")) == (None, None)
