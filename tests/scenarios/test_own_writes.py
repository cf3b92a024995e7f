"""Users who change their own access with the write they make."""

from __future__ import annotations

from tests.model.timeline import Timeline
from tests.scenarios.told import told


def test_a_user_takes_his_own_access_by_an_edit(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("g", "A", grants="u:A")
    client, stock = t.client("u"), t.client("u", revocations=False)
    client.follow()
    stock.follow()
    t.write("g", "A", by="u")
    assert told(client.follow()) == ["4:2 d revoked", "4:4 g revoked"]
    assert told(stock.follow()) == []
    client.check_copy()


def test_a_user_takes_his_own_access_by_a_deletion_that_he_is_told_of(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("g", "A", grants="u:A")
    client, stock = t.client("u"), t.client("u", revocations=False)
    client.follow()
    stock.follow()
    t.delete("g", by="u")
    assert told(client.follow()) == ["4:2 d revoked", "4 g deleted"]
    assert told(stock.follow()) == ["4 g deleted"]
    assert stock.holds("g") is None
    client.check_copy()


def test_a_user_leaves_his_role_by_an_edit(t: Timeline) -> None:
    t.role("r", "A")
    t.user("u")
    t.write("m", "A", roles="u:r")
    client = t.client("u")
    client.follow()
    t.write("m", "A", by="u")
    assert told(client.follow()) == ["4:4 m revoked"]


def test_a_user_moves_a_document_out_of_his_reach(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    client, stock = t.client("u"), t.client("u", revocations=False)
    client.follow()
    stock.follow()
    mine = t.write("d", "B", by="u")
    assert told(client.follow()) == ["3 d removed"]
    assert told(stock.follow()) == []
    assert t.fetch("u", "d", mine) == [None]


def test_a_user_gives_himself_a_channel(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    client = t.client("u")
    t.write("g", grants="u:A", by="u")
    assert told(client.follow()) == ["3:2 d"]


def test_a_user_passes_his_access_on_and_loses_it(t: Timeline) -> None:
    t.user("u")
    t.user("v")
    t.write("d", "A")
    t.write("g", "A", grants="u:A")
    of_u, of_v = t.client("u"), t.client("v")
    of_u.follow()
    t.write("g", "A", grants="v:A", by="u")
    assert told(of_u.follow()) == ["5:3 d revoked", "5:5 g revoked"]
    assert told(of_v.follow()) == ["5:3 d", "5 g"]
