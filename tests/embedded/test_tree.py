from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gateway.embedded.tree import NO_BODY, Merged, Node, Tree
from gateway.model.revisions import winner_first

DIGESTS = "abcd"


def add(tree: Tree, *path: str, deleted: bool = False, body: int = 1) -> Merged:
    """Merge a path, newest first, and give its newest revision a body, as a write does."""
    merged = tree.merge(path, deleted=deleted)
    if merged is not Merged.KNOWN:
        tree.nodes[path[0]].body = body
    return merged


# Whole histories of a random true tree: each revision has one parent, as honest replication sends it.
@st.composite
def histories(draw: st.DrawFn) -> list[tuple[tuple[str, ...], bool]]:
    paths: list[tuple[str, ...]] = [()]
    for _ in range(draw(st.integers(1, 12))):
        parent = draw(st.sampled_from(paths))
        digest = draw(st.text(DIGESTS, min_size=1, max_size=2)) + "".join(rev.partition("-")[2] for rev in parent)[:40]
        path = (f"{len(parent) + 1}-{digest}", *parent)
        if path not in paths:
            paths.append(path)
    return [(path, draw(st.booleans())) for path in paths[1:]]


@given(histories(), st.randoms())
def test_the_order_of_arrival_does_not_change_the_tree(
    histories: list[tuple[tuple[str, ...], bool]], random: Random
) -> None:
    one, other = Tree(), Tree()
    for path, deleted in histories:
        add(one, *path, deleted=deleted)
    random.shuffle(histories)
    for path, deleted in histories:
        add(other, *path, deleted=deleted)
    assert one.nodes == other.nodes
    assert one.leaves() == other.leaves()


@given(histories())
def test_merging_again_changes_nothing(histories: list[tuple[tuple[str, ...], bool]]) -> None:
    tree = Tree()
    for path, deleted in histories:
        add(tree, *path, deleted=deleted)
    before = tree.encode()
    assert {add(tree, *path, deleted=not deleted, body=9) for path, deleted in histories} == {Merged.KNOWN}
    assert tree.encode() == before


@given(histories())
def test_the_leaves_are_the_revisions_without_children_in_couchdbs_order(
    histories: list[tuple[tuple[str, ...], bool]],
) -> None:
    tree = Tree()
    for path, deleted in histories:
        add(tree, *path, deleted=deleted)
    parents = {path[1] for path, _ in histories if len(path) > 1}
    deleted_revs = {path[0]: deleted for path, deleted in histories}
    assert tree.leaves() == winner_first((rev, gone) for rev, gone in deleted_revs.items() if rev not in parents)


@given(histories())
def test_a_tree_survives_its_encoding(histories: list[tuple[tuple[str, ...], bool]]) -> None:
    tree = Tree()
    for at, (path, deleted) in enumerate(histories):
        add(tree, *path, deleted=deleted, body=at + 1)
    assert Tree.decode(tree.encode()).nodes == tree.nodes


@given(histories(), st.integers(1, 5))
def test_stemming_keeps_the_leaves_and_at_most_limit_revisions_of_each_path(
    histories: list[tuple[tuple[str, ...], bool]], limit: int
) -> None:
    tree = Tree()
    for path, deleted in histories:
        add(tree, *path, deleted=deleted)
    before = {leaf: tree.path(leaf[0]) for leaf in tree.leaves()}
    tree.stem(limit)
    assert tree.leaves() == list(before)
    for leaf, whole in before.items():
        kept = tree.path(leaf[0])
        assert kept == whole[: len(kept)]
        assert len(kept) >= min(limit, len(whole))
    assert all(node.parent is None or node.parent in tree.nodes for node in tree.nodes.values())


@given(histories(), st.data())
def test_purging_a_leaf_keeps_every_path_of_the_others(
    histories: list[tuple[tuple[str, ...], bool]], data: st.DataObject
) -> None:
    tree = Tree()
    for path, deleted in histories:
        add(tree, *path, deleted=deleted)
    leaves = [rev for rev, _ in tree.leaves()]
    gone = data.draw(st.sets(st.sampled_from(leaves)))
    paths = {leaf: tree.path(leaf) for leaf in leaves if leaf not in gone}
    assert set(tree.remove_leaves(gone)[0]) == gone
    assert {rev: tree.path(rev) for rev, _ in tree.leaves()} == paths


@given(st.lists(st.lists(st.sampled_from([f"{g}-{d}" for g in range(1, 6) for d in "ab"]), min_size=1, max_size=6)))
def test_no_history_however_false_makes_a_circle(lies: list[list[str]]) -> None:
    tree = Tree()
    for path in lies:
        generations = sorted({rev.partition("-")[0]: rev for rev in path}.values(), reverse=True)
        add(tree, *generations)
        for rev in tree.nodes:
            assert len(tree.path(rev)) <= len(tree.nodes)
        assert tree.leaves()


@given(st.lists(st.lists(st.sampled_from([f"{g}-{d}" for g in range(1, 6) for d in "ab"]), min_size=1, max_size=6)))
def test_every_leaf_has_a_body_however_false_the_histories(lies: list[list[str]]) -> None:
    tree = Tree()
    for path in lies:
        generations = sorted({rev.partition("-")[0]: rev for rev in path}.values(), reverse=True)
        add(tree, *generations)
        assert generations[0] in tree.nodes
        assert all(tree.nodes[leaf].body != NO_BODY for leaf, _ in tree.leaves())


def test_ancestors_that_contradict_what_is_known_are_left_out() -> None:
    tree = Tree()
    add(tree, "2-c", "1-a")
    add(tree, "3-d", "2-c", "1-b")
    assert tree.path("3-d") == ["3-d", "2-c", "1-a"]
    assert tree.leaves() == [("3-d", False)]


def test_a_stemmed_root_gets_its_parent_when_a_longer_history_arrives() -> None:
    tree = Tree()
    add(tree, "3-c")
    add(tree, "4-d", "3-c", "2-b", "1-a")
    assert tree.path("4-d") == ["4-d", "3-c", "2-b", "1-a"]


def test_a_body_for_a_revision_without_one_fills_it() -> None:
    tree = Tree()
    assert add(tree, "2-b", "1-a") is Merged.LEAF
    assert tree.nodes["1-a"] == Node(None, False, NO_BODY)
    assert add(tree, "1-a", body=7) is Merged.FILLED
    assert tree.nodes["1-a"].body == 7


def test_compaction_forgets_all_bodies_but_those_of_leaves() -> None:
    tree = Tree()
    add(tree, "1-a", body=1)
    add(tree, "2-b", "1-a", body=2)
    add(tree, "2-c", "1-a", body=3)
    assert tree.forget_interior_bodies() == [1]
    assert tree.forget_interior_bodies() == []
    assert [tree.nodes[rev].body for rev in ("1-a", "2-b", "2-c")] == [NO_BODY, 2, 3]


def test_the_leaves_above_a_revision_are_its_descendants() -> None:
    tree = Tree()
    add(tree, "2-b", "1-a")
    add(tree, "3-c", "2-c", "1-a")
    assert tree.leaves_above("1-a") == [("3-c", False), ("2-b", False)]
    assert tree.leaves_above("2-c") == [("3-c", False)]
