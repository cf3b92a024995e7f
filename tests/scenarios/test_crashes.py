"""A gateway that is killed and started again: positions, history and what was written meanwhile."""

from __future__ import annotations

from tests.model.timeline import Timeline
from tests.scenarios.told import told


def test_what_was_written_while_the_gateway_was_dead_is_routed_in_its_order(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    t.write("e", "B")
    client = t.client("u")
    client.follow()
    t.write("d", "C", quiet=True)
    t.write("g", quiet=True)
    t.write("g", grants="u:B", quiet=True)
    t.write("f", "B", quiet=True)
    t.crash("d", "g", "f")
    assert told(client.follow()) == ["4 d removed", "5:3 e", "6 f"]
    client.check_copy()


def test_a_backfill_and_a_revocation_go_on_after_a_crash(t: Timeline) -> None:
    t.user("u", "B")
    for doc, channel in (("a1", "A"), ("a2", "A"), ("b1", "B"), ("b2", "B")):
        t.write(doc, channel)
    client = t.client("u")
    client.follow()
    t.user("u", "A")
    assert told(client.step(limit=1)) == ["6:2 a1"]
    t.crash()
    assert told(client.step(limit=2)) == ["6:3 a2", "6:4 b1 revoked"]
    t.drop_user("u")
    t.crash()
    t.user("u", "B")
    assert told(client.follow(limit=1)) == ["7:2 a1 revoked", "7:3 a2 revoked", "8:4 b1", "8:5 b2"]
    client.check_copy()
