"""Users and roles that come, go and come back."""

from __future__ import annotations

from tests.model.timeline import Timeline
from tests.scenarios.told import told


def test_a_role_that_is_created_after_its_grants_brings_them_all_at_its_creation(t: Timeline) -> None:
    t.user("u", roles="r")
    t.write("g", grants="role:r:B")
    t.write("a", "A")
    t.write("b", "B")
    client = t.client("u")
    assert told(client.follow()) == []
    t.role("r", "A")
    assert told(client.follow()) == ["5:3 a", "5:4 b"]


def test_a_role_that_is_deleted_and_created_without_channels_has_what_documents_give(t: Timeline) -> None:
    t.role("r", "A")
    t.user("u", roles="r")
    t.write("a", "A")
    t.write("b", "B")
    t.write("g", grants="role:r:B")
    client = t.client("u")
    client.follow()
    t.drop_role("r")
    assert told(client.follow()) == ["6:3 a revoked", "6:4 b revoked"]
    t.role("r")
    assert told(client.follow()) == ["7:4 b"]
    client.check_copy()


def test_what_happened_while_a_role_was_away_is_told_when_it_is_back(t: Timeline) -> None:
    t.role("r", "A")
    t.user("u", roles="r")
    for doc in ("moved", "deleted", "stays"):
        t.write(doc, "A")
    client = t.client("u")
    client.follow()
    t.drop_role("r")
    t.write("moved", "B")
    t.delete("deleted")
    t.write("new", "A")
    t.role("r", "A")
    assert told(client.follow(limit=1)) == ["6:7 moved revoked", "6:8 deleted revoked", "10:5 stays", "10:9 new"]
    client.check_copy()


def test_a_member_joins_and_leaves_while_the_role_is_away(t: Timeline) -> None:
    t.role("r", "A")
    t.user("u")
    t.write("d", "A")
    client = t.client("u")
    t.drop_role("r")
    t.user("u", roles="r")
    t.user("u")
    t.role("r", "A")
    assert told(client.follow()) == []
    t.user("u", roles="r")
    assert told(client.follow()) == ["8:3 d"]


def test_a_user_who_is_created_after_the_grants_has_them_from_the_creation(t: Timeline) -> None:
    t.role("r", "B")
    t.write("g", grants="u:A", roles="u:r")
    t.write("a", "A")
    t.write("b", "B")
    t.user("u", "C")
    t.write("c", "C")
    client = t.client("u")
    assert told(client.follow(limit=1)) == ["5:3 a", "5:4 b", "6 c"]


def test_a_user_who_comes_back_with_other_channels_loses_the_old_ones(t: Timeline) -> None:
    t.user("u", "A")
    t.write("a", "A")
    t.write("b", "B")
    client = t.client("u")
    client.follow()
    t.drop_user("u")
    t.user("u", "B")
    assert told(client.follow()) == ["4:2 a revoked", "5:3 b"]
    client.check_copy()


def test_a_grant_that_ended_while_the_user_was_away_is_lost(t: Timeline) -> None:
    t.user("u")
    t.write("d", "A")
    t.write("g", grants="u:A")
    client = t.client("u")
    client.follow()
    t.drop_user("u")
    t.delete("g")
    t.user("u")
    assert told(client.follow()) == ["4:2 d revoked"]


def test_two_lives_of_a_user_and_two_of_his_role_are_told_as_one_history(t: Timeline) -> None:
    t.role("r", "A")
    t.user("u", roles="r")
    t.write("d", "A")
    client = t.client("u")
    client.follow()
    t.drop_role("r")
    t.drop_user("u")
    t.role("r", "A")
    t.write("d", "A")
    t.user("u", roles="r")
    assert told(client.follow()) == ["8:7 d"]
    client.check_copy()
    t.drop_role("r")
    assert told(client.follow()) == ["9:7 d revoked"]


def test_a_new_user_of_an_old_name_is_not_told_what_the_old_one_lost(t: Timeline) -> None:
    t.user("u", "A")
    t.write("d", "A")
    t.drop_user("u")
    t.user("u")
    assert told(t.page("u")) == []
