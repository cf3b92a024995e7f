"""APPLY of the routing rules: what one document's change writes."""

from __future__ import annotations

import pytest

from gateway import limits
from gateway.model.apply import Found, Recorded, apply, is_known, is_stale
from gateway.model.leaves import Leaf, LeafRouting

A, B, C, STAR = 1, 2, 3, 9


def leaf(rev: str, *channels: int, deleted: bool = False, ancestors: tuple[str, ...] = (), seq: int = 1) -> Leaf:
    return Leaf(rev, deleted, seq, LeafRouting(frozenset(channels)), ancestors=ancestors)


def found(rev: str, *channels: int, deleted: bool = False, ancestors: tuple[str, ...] = ()) -> Found:
    return Found(rev, deleted, ancestors, LeafRouting(frozenset(channels)))


def recorded(*leaves: Leaf, member: set[int] | None = None, spanned: set[int] | None = None) -> Recorded:
    return Recorded({one.rev: one for one in leaves}, frozenset(member or ()), frozenset(spanned or ()))


def test_a_new_document_opens_spans_in_its_channels() -> None:
    update = apply([found("1-a", A)], Recorded(), 7, STAR)
    assert update.live == update.open_spans == {A, STAR}
    assert update.deleted == update.removed == update.close_spans == frozenset()
    assert update.winner is not None
    assert update.winner.seq == update.seq == 7


def test_a_move_closes_what_was_left_and_leaves_open_what_stays() -> None:
    before = recorded(leaf("1-a", A, B), member={A, B, STAR}, spanned={A, B, STAR})
    update = apply([found("2-a", B, C, ancestors=("1-a",))], before, 7, STAR)
    assert update.live == {B, C, STAR}
    assert update.removed == update.close_spans == {A}
    assert update.open_spans == {C}
    assert update.superseded == ("1-a",)


def test_a_deletion_closes_every_span() -> None:
    before = recorded(leaf("1-a", A, B), member={A, B, STAR}, spanned={A, B, STAR})
    update = apply([found("2-a", B, deleted=True, ancestors=("1-a",))], before, 7, STAR)
    assert update.live == update.open_spans == frozenset()
    assert update.deleted == {B, STAR}
    assert update.removed == {A}
    assert update.close_spans == {A, B, STAR}
    assert update.added[0].inherited == {(A, 7), (B, 7), (STAR, 7)}


def test_a_purge_of_everything_removes_it_from_everywhere() -> None:
    before = recorded(leaf("1-a", A), member={A, STAR}, spanned={A, STAR})
    update = apply([], before, 7, STAR)
    assert update.winner is None
    assert update.removed == update.close_spans == {A, STAR}
    assert update.superseded == ("1-a",)
    assert update.live == update.deleted == frozenset()


def test_only_the_winner_gives_channels() -> None:
    update = apply([found("1-a", A), found("1-b", B), found("9-z", C, deleted=True)], Recorded(), 7, STAR)
    assert [one.rev for one in update.leaves] == ["1-b", "1-a", "9-z"]
    assert update.live == {B, STAR}


def test_a_recorded_leaf_keeps_its_routing_and_sequence() -> None:
    before = recorded(leaf("1-a", A, seq=3), member={A, STAR}, spanned={A, STAR})
    update = apply([found("1-a", C), found("1-b", B)], before, 7, STAR)
    kept, added = sorted(update.leaves, key=lambda one: one.rev)
    assert (kept.rev, kept.seq, sorted(kept.routing.channels)) == ("1-a", 3, [A])
    assert (added.rev, added.seq, sorted(added.routing.channels)) == ("1-b", 7, [B])
    assert [one.rev for one in update.added] == ["1-b"]


def test_a_tombstone_inherits_only_from_leaves_it_descends_from() -> None:
    before = recorded(leaf("2-a", A), leaf("2-b", B))
    tombstone = found("4-a", C, deleted=True, ancestors=("3-a", "2-a", "1-a"))
    (added,) = apply([tombstone, Found("2-b", False, (), None)], before, 7, STAR).added
    assert added.inherited == {(A, 7), (STAR, 7)}


def test_a_tombstone_over_a_tombstone_inherits_what_that_one_inherited() -> None:
    older = Leaf("2-a", True, 4, LeafRouting(frozenset({B})), frozenset({(A, 4), (STAR, 4)}), ("1-a",))
    (added,) = apply([found("3-a", deleted=True, ancestors=("2-a", "1-a"))], recorded(older), 7, STAR).added
    assert added.inherited == {(A, 4), (STAR, 4), (B, 7), (STAR, 7)}


def test_a_tombstone_inherits_from_far_ancestors_but_keeps_the_near_ones_only() -> None:
    ancestors = tuple(f"{at}-a" for at in range(limits.LEAF_ANCESTORS_COUNT + 20, 0, -1))
    (added,) = apply([found("99-a", deleted=True, ancestors=ancestors)], recorded(leaf("1-a", A)), 7, STAR).added
    assert added.inherited == {(A, 7), (STAR, 7)}
    assert added.ancestors == ancestors[: limits.LEAF_ANCESTORS_COUNT]


def test_a_live_leaf_inherits_nothing() -> None:
    (added,) = apply([found("2-a", B, ancestors=("1-a",))], recorded(leaf("1-a", A)), 7, STAR).added
    assert added.inherited == frozenset()


def test_a_new_leaf_needs_a_routing() -> None:
    with pytest.raises(ValueError, match="2-a has no routing"):
        apply([Found("2-a", False, (), None)], Recorded(), 7, STAR)


BEFORE = recorded(leaf("3-a", ancestors=("2-a", "1-a")), leaf("2-b", ancestors=("1-a",)))


@pytest.mark.parametrize(
    ("revs", "known", "stale"),
    [
        (("3-a", "2-b"), True, False),
        (("2-b", "3-a"), True, False),
        (("2-a",), False, True),
        (("1-a",), False, True),
        (("2-a", "2-b"), False, True),
        (("3-a", "1-a"), False, True),
        (("4-a", "2-b"), False, False),
        (("3-a", "2-b", "2-c"), False, False),
        (("2-a", "2-c"), False, False),
        (("3-a",), False, False),  # one branch was purged
        ((), False, False),  # all was purged
    ],
)
def test_an_older_state_is_told_from_news(revs: tuple[str, ...], known: bool, stale: bool) -> None:
    leaves = [Found(rev, False, (), None) for rev in revs]
    assert is_known(leaves, BEFORE) is known
    assert is_stale(leaves, BEFORE) is stale
