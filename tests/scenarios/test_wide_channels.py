"""The channels `!`, which everybody has, and `*`, which every document is in."""

from __future__ import annotations

from tests.model.timeline import Timeline
from tests.scenarios.told import told


def test_a_public_document_comes_to_everybody_from_the_beginning_of_his_life(t: Timeline) -> None:
    t.user("u")
    t.write("d", "!")
    t.user("v")
    of_u, of_v = t.client("u"), t.client("v")
    assert (told(of_u.follow()), told(of_v.follow())) == (["2 d"], ["3:2 d"])


def test_a_document_that_is_not_public_any_more_is_removed(t: Timeline) -> None:
    t.user("u")
    t.user("v", "A")
    t.write("d", "!")
    of_u, of_v = t.client("u"), t.client("v")
    of_u.follow()
    of_v.follow()
    t.write("d", "A")
    assert (told(of_u.follow()), told(of_v.follow())) == (["4 d removed"], ["4 d"])
    t.write("d", "!")
    assert (told(of_u.follow()), told(of_v.follow())) == (["5 d"], ["5 d"])


def test_a_public_document_stays_when_every_other_channel_is_lost(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A !")
    t.write("e", "A")
    client = t.client("u")
    client.follow()
    t.user("u")
    assert told(client.follow()) == ["4:3 e revoked"]


def test_the_deletion_of_a_public_document_is_told_to_everybody(t: Timeline) -> None:
    t.user("u")
    t.write("d", "!")
    aware, stock = t.client("u"), t.client("u", revocations=False)
    aware.follow()
    stock.follow()
    t.delete("d")
    assert told(aware.follow()) == told(stock.follow()) == ["3 d deleted"]
    assert stock.holds("d") is None


def test_everything_that_is_given_brings_documents_of_no_channel(t: Timeline) -> None:
    t.user("u", "A")
    t.write("a", "A")
    t.write("none")
    t.write("b", "B")
    client = t.client("u")
    client.follow()
    t.user("u", "*")
    assert told(client.follow()) == ["5:2 a", "5:3 none", "5:4 b"]
    t.write("none")
    assert told(client.follow()) == ["6 none"]
    client.check_copy()


def test_everything_that_is_taken_leaves_what_other_channels_give(t: Timeline) -> None:
    t.user("u", "A *")
    t.write("a", "A")
    t.write("b", "B")
    t.write("none")
    client = t.client("u")
    client.follow()
    t.user("u", "A")
    assert told(client.follow()) == ["5:3 b revoked", "5:4 none revoked"]
    client.check_copy()


def test_one_channel_that_is_taken_from_who_has_everything_is_no_loss(t: Timeline) -> None:
    t.user("u", "A *")
    t.write("a", "A")
    client = t.client("u")
    client.follow()
    t.user("u", "*")
    t.write("a", "B")
    assert told(client.follow()) == ["4 a"]


def test_a_document_and_a_role_may_give_everything(t: Timeline) -> None:
    t.role("r", "*")
    t.user("u")
    t.write("d", "A")
    client = t.client("u")
    t.write("g", grants="u:*")
    assert told(client.follow()) == ["4:3 d", "4 g"]
    t.write("m", roles="u:r")
    t.delete("g")
    assert told(client.follow()) == ["5 m", "6 g deleted"]
    t.delete("m")
    assert told(client.follow()) == ["7:3 d revoked", "7 m deleted"]


def test_a_channel_filter_narrows_what_a_holder_of_everything_gains_and_loses(t: Timeline) -> None:
    t.user("u")
    t.write("a", "A")
    t.write("b", "B")
    client = t.client("u", channels="A")
    t.user("u", "*")
    assert told(client.follow()) == ["4:2 a"]
    t.user("u", "B")
    assert told(client.follow()) == ["5:2 a revoked"]


def test_a_channel_filter_of_a_holder_of_everything_awaits_channels_that_do_not_exist_yet(t: Timeline) -> None:
    t.user("u", "*")
    client = t.client("u", channels="A new")
    t.write("other", "B")
    t.write("d", "new")
    assert told(client.follow()) == ["3 d"]
    t.write("e", "A B")
    assert told(client.follow()) == ["4 e"]
    t.write("d", "B")
    assert told(client.follow()) == ["5 d removed"]


def test_the_guest_gains_and_loses_channels_as_a_user_does(t: Timeline) -> None:
    t.user("GUEST", "A")
    t.write("a", "A")
    t.write("b", "B")
    client = t.client("GUEST")
    assert told(client.follow()) == ["2 a"]
    t.user("GUEST", "B")
    assert told(client.follow()) == ["4:2 a revoked", "4:3 b"]
    t.write("g", grants="GUEST:A")
    t.write("b", "!")
    assert told(client.follow()) == ["5:2 a", "6 b"]
