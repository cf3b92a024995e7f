"""What a write replaces, decided from the leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Conflict
from gateway.model.drafts import draft
from gateway.model.revisions import next_rev, wins
from gateway.routing.plans import CurrentLeaf, Plan, is_new, plan, winner_of
from tests.routing.world import grafted

REVS = st.builds("{}-{}".format, st.integers(1, 4), st.sampled_from("abc"))


def edited(leaves: list[CurrentLeaf], rev: str | None = None, **body: Any) -> Plan:
    return plan(draft({"_id": "d", **({"_rev": rev} if rev else {}), **body}, new_edits=True), leaves)


def test_a_new_document_replaces_nothing_and_its_revision_is_foreseen() -> None:
    found = edited([], v=1)
    assert (found.base, found.old, found.also) == (None, None, None)
    assert found.rev == next_rev(None, {"v": 1}, deleted=False)


def test_a_revision_with_attachments_cannot_be_foreseen() -> None:
    assert edited([], _attachments={"f": {"data": ""}}).rev is None


@pytest.mark.parametrize("rev", [None, "1-a", "9-x"])
def test_an_edit_of_what_is_no_leaf_conflicts(rev: str | None) -> None:
    with pytest.raises(Conflict):
        edited([CurrentLeaf("2-b", False)], rev)


def test_a_document_written_without_a_revision_extends_its_tombstone() -> None:
    tombstone = CurrentLeaf("2-b", True)
    found = edited([tombstone], v=1)
    assert found.base == found.old == tombstone
    assert found.rev == next_rev("2-b", {"v": 1}, deleted=False)


@given(
    leaves=st.lists(st.builds(CurrentLeaf, REVS, st.booleans()), max_size=4, unique_by=lambda leaf: leaf.rev),
    path=st.lists(st.sampled_from("abcx"), min_size=1, max_size=4),
    deleted=st.booleans(),
)
def test_whoever_wins_over_a_leaf_has_been_shown_it_whatever_history_he_invents(
    leaves: list[CurrentLeaf], path: list[str], deleted: bool
) -> None:
    revs = [f"{len(path) - at}-{digest}" for at, digest in enumerate(path)]
    doc = grafted("d", *revs, **({"_deleted": True} if deleted else {}))
    found = plan(draft(doc, new_edits=False), leaves)
    winner = winner_of(leaves)
    shown = {leaf.rev for leaf in (found.old, found.also) if leaf is not None}
    if winner is None:
        assert not shown
    elif winner.rev != revs[0] and wins(revs[0], deleted, winner.rev, winner.deleted):
        assert winner.rev in shown
    if found.base is not None:
        assert found.base.rev in revs[1:]
    if is_new(revs[0], leaves):
        assert all(int(leaf.rev[0]) < len(path) for leaf in leaves)
