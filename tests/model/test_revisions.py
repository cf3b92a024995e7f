from __future__ import annotations

import itertools

import pytest

from gateway.model.revisions import (
    generation,
    history,
    next_rev,
    parse_rev,
    revisions_object,
    winner_first,
    wins,
)


def test_an_empty_new_document_has_the_revision_that_couchdb_gives_it_everywhere() -> None:
    assert next_rev(None, {}, deleted=False) == "1-967a00dff5e02add41819138abb3284d"


def test_its_deletion_has_the_revision_that_couchdb_gives_it() -> None:
    assert (
        next_rev("1-967a00dff5e02add41819138abb3284d", {}, deleted=True)
        == "2-eec205a9d413992850a6e32678485900"
    )  # fmt: skip


def test_equal_writes_make_equal_revisions_and_others_make_others() -> None:
    bodies: list[dict[str, object]] = [
        {},
        {"a": 1},
        {"a": 1.0},
        {"a": -1},
        {"a": 300},
        {"a": 2**40},
        {"a": "1"},
        {"a": None},
        {"a": True},
        {"a": False},
        {"a": []},
        {"a": [1]},
        {"a": [1, 2, 300]},
        {"a": {}},
        {"a": {"b": "é\u0000🙂"}},
        {"b": 1, "a": 1},
        {"a": 1, "b": 1},
    ]
    made = [next_rev("1-abc", body, deleted=False) for body in bodies]
    assert made == [next_rev("1-abc", body, deleted=False) for body in bodies]
    assert len(set(made)) == len(bodies)
    assert all(rev.startswith("2-") and len(rev) == 34 for rev in made)
    assert next_rev("1-abd", {}, deleted=False) != made[0] != next_rev("1-abc", {}, deleted=True)
    assert next_rev("1-abc", {}, deleted=False, attachments=[("a", "text/plain", b"0" * 16)]) != made[0]


def test_digests_of_32_hexadecimal_digits_compare_as_the_bytes_they_stand_for() -> None:
    # 0xaa is more than "z" (0x7a), though "a" is less.
    leaves = [(f"1-{'z' * 33}", False), (f"1-{'a' * 32}", False), (f"1-{'3' * 32}", False)]
    assert winner_first(leaves) == [leaves[1], leaves[0], leaves[2]]
    assert wins(f"1-{'a' * 32}", False, "1-z", False)
    assert not wins(f"1-{'3' * 32}", False, "1-4", False)


def test_a_live_leaf_wins_over_a_deleted_one_then_the_longer_then_the_greater() -> None:
    order = [("2-a", False), ("1-f", False), ("1-b", False), ("10-a", True), ("9-f", True), ("9-a", True)]
    for leaves in itertools.permutations(order):
        assert winner_first(leaves) == order
    for (rev, deleted), (other, other_deleted) in itertools.combinations(order, 2):
        assert wins(rev, deleted, other, other_deleted)
        assert not wins(other, other_deleted, rev, deleted)


def test_generations_are_compared_as_numbers() -> None:
    assert wins("10-a", False, "9-f", False)
    assert generation("10-a") == 10


@pytest.mark.parametrize("rev", ["1-a", "3-967a00dff5e02add41819138abb3284d", "9999999999-Z"])
def test_a_well_formed_revision_is_taken(rev: str) -> None:
    number, digest = parse_rev(rev)
    assert f"{number}-{digest}" == rev


@pytest.mark.parametrize(
    "rev", [None, 1, "", "1", "1-", "-a", "0-a", "01-a", "1-a-b", "1-é", "1-a\n", " 1-a", "a-1", "1-" + "a" * 65]
)
def test_a_malformed_revision_is_refused(rev: object) -> None:
    with pytest.raises(ValueError, match="Invalid rev format"):
        parse_rev(rev)


def test_a_history_is_read_newest_first_and_written_back() -> None:
    revisions = {"start": 3, "ids": ["c", "b"]}
    assert history(revisions) == ["3-c", "2-b"]
    assert revisions_object(["3-c", "2-b"]) == revisions


@pytest.mark.parametrize(
    "revisions",
    [
        None,
        [],
        {},
        {"start": 1},
        {"ids": ["a"]},
        {"start": 0, "ids": ["a"]},
        {"start": True, "ids": ["a"]},
        {"start": "1", "ids": ["a"]},
        {"start": 1.0, "ids": ["a"]},
        {"start": 1, "ids": []},
        {"start": 1, "ids": "a"},
        {"start": 1, "ids": ["b", "a"]},
        {"start": 2, "ids": ["b", 1]},
        {"start": 2, "ids": ["b", ""]},
        {"start": 2, "ids": ["b", "a-a"]},
    ],
)
def test_a_malformed_history_is_refused(revisions: object) -> None:
    with pytest.raises(ValueError, match="rev"):
        history(revisions)
