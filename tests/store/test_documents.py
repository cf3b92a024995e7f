"""The routing index: what a batch of found documents makes of it, and what it answers."""

from __future__ import annotations

import pytest

from gateway import limits
from gateway.couch.upstream import Identity
from gateway.errors import Forbidden
from gateway.model.apply import Found
from gateway.model.intervals import OPEN
from gateway.model.routing import Routing
from gateway.store.protocol import DatabaseStore, DocumentRow, IdRange, Index, MetadataStore
from tests.store.telling import document, entries_by_name, known, leaf, put_user, spans_by_name, tell


async def test_a_new_document_is_in_its_channels_and_in_the_channel_of_all(db: DatabaseStore) -> None:
    answer = await db.apply([document("d", leaf("1-a", "A B"))], upstream_since="5-x", now=1.0)
    assert answer == {"d": {"1-a"}}
    state = await db.state()
    assert (state.last_seq, state.upstream_since, state.doc_count, state.doc_del_count) == (1, "5-x", 1, 0)
    entries = await db.read(lambda index: entries_by_name(index, "d"))
    assert entries == dict.fromkeys(("A", "B", "*"), (1, False, False))
    assert await db.read(lambda index: spans_by_name(index, "d")) == {(channel, 1, OPEN) for channel in ("A", "B", "*")}
    found = await db.read(lambda index: index.find(["d", "unknown"]))
    assert found == {"d": DocumentRow(found["d"].document, "d", 1, "1-a", False, 1, False)}


async def test_a_document_that_moves_is_removed_from_what_it_left(db: DatabaseStore) -> None:
    await tell(db, document("d", leaf("1-a", "A B")))
    await tell(db, document("d", leaf("2-a", "B C", after=["1-a"])))
    assert await db.read(lambda index: entries_by_name(index, "d")) == {
        "A": (2, False, True),
        "B": (2, False, False),
        "C": (2, False, False),
        "*": (2, False, False),
    }
    await tell(db, document("d", leaf("3-a", "A", after=["2-a", "1-a"])))
    assert await db.read(lambda index: spans_by_name(index, "d")) == {
        ("A", 1, 2),
        ("A", 3, OPEN),
        ("B", 1, 3),
        ("C", 2, 3),
        ("*", 1, OPEN),
    }


async def test_a_removed_entry_stays_at_the_sequence_of_its_removal(db: DatabaseStore) -> None:
    await tell(db, document("d", leaf("1-a", "A")))
    await tell(db, document("d", leaf("2-a", "B", after=["1-a"])))
    await tell(db, document("d", leaf("3-a", "B", after=["2-a", "1-a"])))
    entries = await db.read(lambda index: entries_by_name(index, "d"))
    assert entries["A"] == (2, False, True)
    assert entries["B"] == (3, False, False)


async def test_a_deletion_ends_the_spans_and_stays_in_the_channels_of_the_tombstone(db: DatabaseStore) -> None:
    await tell(db, document("d", leaf("1-a", "A B")))
    await tell(db, document("d", leaf("2-a", "A", after=["1-a"], deleted=True)))
    assert await db.read(lambda index: entries_by_name(index, "d")) == {
        "A": (2, True, False),
        "B": (2, True, True),
        "*": (2, True, False),
    }
    assert await db.read(lambda index: spans_by_name(index, "d")) == {(channel, 1, 2) for channel in ("A", "B", "*")}
    state = await db.state()
    assert (state.doc_count, state.doc_del_count) == (0, 1)


async def test_documents_are_counted_through_deletion_undeletion_purge_and_creation(db: DatabaseStore) -> None:
    async def counts() -> tuple[int, int]:
        state = await db.state()
        return state.doc_count, state.doc_del_count

    await tell(db, document("d", leaf("1-a")), document("e", leaf("1-a")), document("t", leaf("1-a", deleted=True)))
    assert await counts() == (2, 1)
    await tell(db, document("d", leaf("2-a", after=["1-a"], deleted=True)))
    assert await counts() == (1, 2)
    await tell(db, document("d", leaf("3-a", after=["2-a", "1-a"])), document("t"))
    assert await counts() == (2, 0)
    await tell(db, document("d", known("3-a"), leaf("1-b", deleted=True)))
    assert await counts() == (2, 0)
    await tell(db, document("d", purged=True), document("e", purged=True))
    assert await counts() == (0, 0)
    await tell(db, document("d", leaf("1-c")))
    assert await counts() == (1, 0)


async def test_what_is_recorded_already_takes_no_sequence_but_moves_the_upstream_position(db: DatabaseStore) -> None:
    await tell(db, document("d", leaf("1-a", "A")))
    answer = await db.apply(
        [document("d", known("1-a")), document("d", leaf("1-a", "B")), document("never")],
        upstream_since="9-y",
        now=1.0,
    )
    assert answer == {"d": {"1-a"}, "never": frozenset()}
    state = await db.state()
    assert (state.last_seq, state.upstream_since) == (1, "9-y")
    assert await db.read(lambda index: index.find(["never"])) == {}
    await db.apply([], upstream_since=None, now=1.0)
    assert (await db.state()).upstream_since == "9-y"


async def test_each_document_of_a_batch_has_a_sequence_in_the_batchs_order(db: DatabaseStore) -> None:
    await tell(db, *(document(doc, leaf("1-a", "A")) for doc in ("c", "a", "b")))
    rows = await db.read(lambda index: index.find(["a", "b", "c"]))
    assert {doc: row.seq for doc, row in rows.items()} == {"c": 1, "a": 2, "b": 3}


async def test_a_document_that_is_twice_in_a_batch_is_as_if_in_two(db: DatabaseStore) -> None:
    answer = await db.apply(
        [
            document("d", leaf("1-a", "A", grants=[("ann", "X")])),
            document("e", leaf("1-a", "A")),
            document("d", leaf("2-a", "B", after=["1-a"])),
            document("d", leaf("3-a", "A", after=["2-a", "1-a"])),
            document("d", known("3-a")),
        ],
        upstream_since=None,
        now=1.0,
    )
    assert answer == {"d": {"3-a"}, "e": {"1-a"}}
    assert (await db.state()).last_seq == 4
    assert (await db.state()).doc_count == 2
    assert await db.read(lambda index: spans_by_name(index, "d")) == {
        ("A", 1, 3),
        ("A", 4, OPEN),
        ("B", 3, 4),
        ("*", 1, OPEN),
    }
    assert [one.rev for one in (await db.recorded(["d"]))["d"].leaves.values()] == ["3-a"]
    await put_user(db, "ann")
    ann = await db.principal("user", "ann")
    assert ann is not None
    assert "X" not in ann.channels


async def test_a_new_leaf_without_a_routing_is_refused_and_nothing_of_its_batch_is_stored(db: DatabaseStore) -> None:
    with pytest.raises(ValueError, match="no routing"):
        await tell(db, document("d", leaf("1-a", "A")), document("e", known("1-a")))
    assert (await db.state()).last_seq == 0
    assert await db.recorded(["d", "e"]) == {}
    assert await tell(db, document("d", leaf("1-a", "A"))) == 1


async def test_recorded_tells_leaves_channels_and_spans(db: DatabaseStore) -> None:
    await tell(
        db,
        document("d", leaf("1-a", "A", grants=[("ann", "X"), ("role:r", "Y")], roles=[("ann", "r")], expiry=99.5)),
        document("e", leaf("1-e", refused=Forbidden("no"))),
    )
    await tell(db, document("d", leaf("2-a", "B", after=["1-a"], deleted=True)))
    found = await db.recorded(["d", "e", "unknown"])
    assert set(found) == {"d", "e"}
    (one,) = found["d"].leaves.values()
    assert (one.rev, one.deleted, one.seq, one.ancestors, one.superseded_at) == ("2-a", True, 3, ("1-a",), None)
    assert found["d"].seq == 3
    assert found["d"].purged_seq is None
    assert found["d"].spanned == frozenset()
    names = await db.read(lambda index: index.channel_names(found["d"].member))
    assert set(names.values()) == {"B", "*"}
    inherited = await db.read(lambda index: index.channel_names(channel for channel, _ in one.inherited))
    assert {(inherited[channel], at) for channel, at in one.inherited} == {("A", 3), ("*", 3)}
    refused = found["e"].leaves["1-e"]
    assert refused.routing.refused == "no"
    assert refused.routing.channels == frozenset()


async def test_a_leaf_keeps_its_whole_routing(db: DatabaseStore) -> None:
    grants, roles = [("ann", "X"), ("role:r", "Y")], [("ann", "r")]
    await tell(db, document("d", leaf("1-a", "A *", expiry=99.5, grants=grants, roles=roles)))
    one = (await db.recorded(["d"]))["d"].leaves["1-a"].routing
    assert one.expiry == 99.5
    assert one.refused is None
    assert (len(one.channels), len(one.grants), len(one.roles)) == (2, 2, 1)


async def test_a_tombstone_inherits_from_what_it_replaces_however_far_that_is(db: DatabaseStore) -> None:
    await tell(db, document("d", leaf("1-a", "A")))
    older = [f"{at}-a" for at in range(199, 0, -1)]
    await tell(db, document("d", leaf("200-a", after=older, deleted=True)))
    tombstone = (await db.recorded(["d"]))["d"].leaves["200-a"]
    assert {at for _, at in tombstone.inherited} == {2}
    assert tombstone.ancestors == tuple(older[: limits.LEAF_ANCESTORS_COUNT])


async def test_conflicting_leaves_are_listed_with_the_winner_first(db: DatabaseStore) -> None:
    await tell(db, document("d", leaf("2-a", "A", after=["1-a"]), leaf("2-c", "C", after=["1-a"]), leaf("1-z", "Z")))
    found = await db.read(lambda index: index.leaves([row.document for row in index.find(["d"]).values()]))
    (leaves,) = found.values()
    assert [one.rev for one in leaves] == ["2-c", "2-a", "1-z"]
    assert set(await db.read(lambda index: entries_by_name(index, "d"))) == {"C", "*"}
    row = (await db.read(lambda index: index.find(["d"])))["d"]
    assert (row.winner, row.leaves) == ("2-c", 3)


async def test_a_superseded_leaf_stays_readable_until_it_is_forgotten(db: DatabaseStore) -> None:
    await tell(db, document("d", leaf("1-a", "A")), now=100.0)
    await tell(db, document("d", leaf("2-a", "B", after=["1-a"])), now=200.0)
    await tell(db, document("d", leaf("3-a", "C", after=["2-a", "1-a"])), now=300.0)

    def all_leaves(index: Index) -> list[tuple[str, float | None]]:
        number = index.find(["d"])["d"].document
        assert [one.rev for one in index.leaves([number])[number]] == ["3-a"]
        return [(one.rev, one.superseded_at) for one in index.leaves([number], superseded=True)[number]]

    assert await db.read(all_leaves) == [("3-a", None), ("2-a", 300.0), ("1-a", 200.0)]
    assert set((await db.recorded(["d"]))["d"].leaves) == {"3-a"}
    assert await db.forget_superseded(200.0) == 0
    assert await db.forget_superseded(300.0) == 1
    assert await db.read(all_leaves) == [("3-a", None), ("2-a", 300.0)]
    assert await db.forget_superseded(1e12) == 1
    assert await db.read(all_leaves) == [("3-a", None)]


async def test_superseded_leaves_of_another_database_are_not_forgotten(store: MetadataStore) -> None:
    one, two = await store.database("one"), await store.database("two")
    for db in (one, two):
        await tell(db, document("d", leaf("1-a")))
        await tell(db, document("d", leaf("2-a", after=["1-a"])))
    assert await one.forget_superseded(1e12) == 1
    assert await one.forget_superseded(1e12) == 0
    assert await two.forget_superseded(1e12) == 1


async def test_a_purged_document_stays_as_a_ghost(db: DatabaseStore) -> None:
    await tell(db, document("d", leaf("1-a", "A", grants=[("ann", "X")])))
    await put_user(db, "ann")
    await tell(db, document("d", purged=True))
    row = (await db.read(lambda index: index.find(["d"])))["d"]
    assert (row.winner, row.deleted, row.leaves, row.purged, row.seq) == (None, False, 0, True, 3)
    entries = await db.read(lambda index: entries_by_name(index, "d"))
    assert entries == {"A": (3, False, True), "*": (3, False, True)}
    ann = await db.principal("user", "ann")
    assert ann is not None
    assert set(ann.channels) == {"!"}
    assert await db.recorded_ids("", 10) == []
    await tell(db, document("d", leaf("1-b", "A")))
    row = (await db.read(lambda index: index.find(["d"])))["d"]
    assert (row.winner, row.purged) == ("1-b", True)
    assert (await db.recorded(["d"]))["d"].purged_seq == 3
    assert await db.recorded_ids("", 10) == ["d"]


async def test_a_purge_of_one_branch_and_a_purge_told_late_are_remembered(db: DatabaseStore) -> None:
    await tell(db, document("d", leaf("1-a"), leaf("1-b")), document("e", leaf("1-c"), purged=True))
    await tell(db, document("d", known("1-a"), purged=True))
    rows = await db.read(lambda index: index.find(["d", "e"]))
    assert rows["d"].purged
    assert rows["e"].purged


async def test_a_leaf_that_comes_back_after_its_purge_is_a_leaf_again(db: DatabaseStore) -> None:
    await tell(db, document("d", leaf("1-a", "A")))
    await tell(db, document("d", purged=True))
    await tell(db, document("d", leaf("1-a", "B")))
    one = (await db.recorded(["d"]))["d"].leaves["1-a"]
    assert (one.seq, one.superseded_at) == (3, None)
    assert set(await db.read(lambda index: entries_by_name(index, "d"))) == {"A", "B", "*"}
    assert await db.forget_superseded(1e12) == 0


async def test_ids_are_walked_in_order_from_any_of_them(db: DatabaseStore) -> None:
    ids = ["a", "b", "é", "z", "Z", "🙂", "\uffff"]
    await tell(db, *(document(doc, leaf("1-a")) for doc in ids))
    ordered = sorted(ids, key=str.encode)
    assert await db.recorded_ids("", 100) == ordered
    assert await db.recorded_ids(ordered[2], 2) == ordered[3:5]


async def test_documents_in_any_of_some_channels_are_listed_by_id(db: DatabaseStore) -> None:
    for doc, channels in (("a", "A"), ("b", "B"), ("c", "A B"), ("d", "C"), ("e", "A"), ("é", "B")):
        await tell(db, document(doc, leaf("1-a", channels)))
    await tell(db, document("e", leaf("2-a", after=["1-a"])))

    async def ids(query: IdRange, *names: str) -> list[str]:
        def read(index: Index) -> list[str]:
            rows = index.live_by_id(list(index.channel_ids(names).values()), query)
            assert [index.find([row.id])[row.id] for row in rows] == list(rows)
            return [row.id for row in rows]

        return await db.read(read)

    assert await ids(IdRange(), "A", "B") == ["a", "b", "c", "é"]
    assert await ids(IdRange(), "*") == ["a", "b", "c", "d", "e", "é"]
    assert await ids(IdRange(), "*", "A") == ["a", "b", "c", "d", "e", "é"]
    assert await ids(IdRange()) == []
    for names in (("A", "B"), ("*",)):
        every = [doc for doc in ("a", "b", "c", "d", "e", "é") if names == ("*",) or doc not in "de"]
        assert await ids(IdRange(descending=True), *names) == every[::-1]
        assert await ids(IdRange("b", "c"), *names) == ["b", "c"]
        assert await ids(IdRange("b", "c", inclusive_end=False), *names) == ["b"]
        assert await ids(IdRange("c", "b", descending=True), *names) == ["c", "b"]
        assert await ids(IdRange("c", "b", descending=True, inclusive_end=False), *names) == ["c"]
        assert await ids(IdRange(skip=1, limit=2), *names) == ["b", "c"]
        assert await ids(IdRange("c", "b"), *names) == []
        assert await ids(IdRange("zz"), *names) == ["é"]
        assert await ids(IdRange("a", "c", after="b"), *names) == ["c"]
        assert await ids(IdRange(after="b", limit=1), *names) == ["c"]
        assert await ids(IdRange(descending=True, after="c"), *names) == ["b", "a"]
        assert await ids(IdRange("c", "b", descending=True, inclusive_end=False, after="c"), *names) == []


async def test_documents_in_channels_are_counted(db: DatabaseStore) -> None:
    for doc, channels in (("a", "A"), ("b", "B"), ("c", "A B"), ("d", "C")):
        await tell(db, document(doc, leaf("1-a", channels)))
    await tell(db, document("b", leaf("2-a", "B", after=["1-a"], deleted=True)))

    def counts(index: Index) -> list[int]:
        a, b, star = (index.channel_ids([name])[name] for name in ("A", "B", "*"))
        return [
            index.count_live_by_id([]),
            index.count_live_by_id([a, b]),
            index.count_live_by_id([a, star]),
            index.count_live_by_id([a, b], IdRange("c")),
            index.count_live_by_id([star], IdRange("c")),
            index.count_live_by_id([star], IdRange("a", descending=True)),
            index.count_live_by_id([star], IdRange(end="c")),
            index.count_live([a, b], 0, 100, 10),
            index.count_live([a], 1, 100, 10),
            index.count_live([a, b], 0, 100, 1),
            index.count_live([a], 0, 100, 1),
            index.count_live([], 0, 100, 1),
            index.count_live([a], 5, 5, 1),
        ]

    assert await db.read(counts) == [0, 2, 3, 1, 1, 2, 0, 2, 1, 1, 1, 0, 0]


async def test_what_is_gone_and_every_entry_of_a_channel_are_listed_by_sequence(db: DatabaseStore) -> None:
    for doc in ("a", "b", "c", "d"):
        await tell(db, document(doc, leaf("1-a", "A")))
    await tell(db, document("a", leaf("2-a", after=["1-a"])))  # 5: removed
    await tell(db, document("b", leaf("2-a", "A", after=["1-a"], deleted=True)))  # 6: deleted
    await tell(db, document("c", leaf("2-a", after=["1-a"], deleted=True)))  # 7: both

    def read(index: Index) -> list[list[tuple[object, ...]]]:
        channel = index.channel_ids(["A"])["A"]
        ids = {row.document: row.id for row in index.find(["a", "b", "c", "d"]).values()}
        return [
            [(seq, ids[one]) for seq, one in index.gone(channel, 0, 100, 10, deleted_only=False)],
            [(seq, ids[one]) for seq, one in index.gone(channel, 0, 100, 10, deleted_only=True)],
            [(seq, ids[one]) for seq, one in index.gone(channel, 5, 6, 10, deleted_only=False)],
            [(seq, ids[one]) for seq, one in index.gone(channel, 0, 100, 1, deleted_only=False)],
            [(seq, ids[one], gone) for seq, one, gone in index.entries(channel, 0, 10)],
            [(seq, ids[one], gone) for seq, one, gone in index.entries(channel, 5, 1)],
            [(seq, ids[one]) for seq, one in index.live([channel], 0, 100, 10)],
        ]

    assert await db.read(read) == [
        [(5, "a"), (6, "b"), (7, "c")],
        [(6, "b"), (7, "c")],
        [(6, "b")],
        [(5, "a")],
        [(4, "d", False), (5, "a", True), (6, "b", True), (7, "c", True)],
        [(6, "b", True)],
        [(4, "d")],
    ]


async def test_channels_from_which_something_went_are_told(db: DatabaseStore) -> None:
    await tell(db, document("a", leaf("1-a", "A B")), document("b", leaf("1-a", "C")))
    await tell(db, document("a", leaf("2-a", "B", after=["1-a"])))  # 3
    await tell(db, document("b", leaf("2-a", "C", after=["1-a"], deleted=True)))  # 4

    def with_gone(index: Index, after: int, upto: int) -> set[str]:
        names = {number: name for name, number in index.channel_ids(["A", "B", "C", "*"]).items()}
        return {names[number] for number in index.with_gone(names.keys(), after, upto)}

    assert await db.read(lambda index: with_gone(index, 0, 9)) == {"A", "C", "*"}
    assert await db.read(lambda index: with_gone(index, 2, 3)) == {"A"}
    assert await db.read(lambda index: with_gone(index, 3, 4)) == {"C", "*"}
    assert await db.read(lambda index: with_gone(index, 4, 9)) == set()
    assert await db.read(lambda index: index.with_gone([], 0, 9)) == set()


async def test_live_rows_tell_what_a_feed_needs(db: DatabaseStore) -> None:
    await tell(db, document("a", leaf("1-a", "A"), leaf("1-b", "B")), document("b", leaf("1-a", "A B")))
    await tell(db, document("b", purged=True))
    await tell(db, document("b", leaf("1-c", "A B")))

    def read(index: Index) -> list[tuple[int, str, str, int, bool]]:
        channels = list(index.channel_ids(["A", "B"]).values())
        found = index.live_rows(channels, 0, 9, 9)
        assert [(row.seq, row.document) for row in found] == list(index.live(channels, 0, 9, 9))
        assert index.live_rows(channels, 1, 9, 9) == found[1:]
        assert index.live_rows(channels, 0, 9, 1) == found[:1]
        assert index.live_rows([], 0, 9, 9) == index.live_rows(channels, 4, 4, 9) == []
        return [(row.seq, row.id, row.winner, row.leaves, bool(row.purged)) for row in found]

    assert await db.read(read) == [(1, "a", "1-b", 2, False), (4, "b", "1-c", 1, True)]


async def test_ids_and_names_that_hold_any_character_stay_apart(db: DatabaseStore) -> None:
    """SQLite's JSON functions end a text at U+0000."""
    ids = ["a", "a\0", "a\0b", "a\0c", "\0", 'a"', "a'", "a\\u0000b", "a\n", "é", "\U0001f642"]
    for at, doc in enumerate(ids):
        await tell(db, document(doc, leaf(f"1-{at}")))
    await db.apply([document(doc, leaf(f"1-{at}")) for at, doc in enumerate(ids)], upstream_since=None, now=1.0)
    assert (await db.state()).last_seq == len(ids)
    found = await db.read(lambda index: index.find(ids))
    assert {doc: row.winner for doc, row in found.items()} == {doc: f"1-{at}" for at, doc in enumerate(ids)}
    assert set(await db.recorded(["a\0b", "a\0x"])) == {"a\0b"}
    assert await db.recorded_ids("", 100) == sorted(ids, key=str.encode)


async def test_channels_whose_names_begin_alike_are_different_channels(db: DatabaseStore) -> None:
    names = ["A", "A\0", "A\0B", "\0", "A B", 'A"', "a"]
    for at, name in enumerate(names):
        await tell(db, document(f"d{at}", (Found("1-a", False, (), None), Routing(frozenset([name])), None)))

    def read(index: Index) -> list[tuple[int, set[str]]]:
        known_ids = index.channel_ids([*names, "unknown"])
        assert index.channel_names(known_ids.values()) == {number: name for name, number in known_ids.items()}
        return [(len(known_ids), {row.id for row in index.live_by_id([known_ids[name]], IdRange())}) for name in names]

    assert await db.read(read) == [(len(names), {f"d{at}"}) for at in range(len(names))]


async def test_many_documents_and_ids_fit_into_one_call(db: DatabaseStore) -> None:
    ids = [f"d{at:05}" for at in range(3_000)]
    answer = await db.apply([document(doc, leaf("1-a", "A")) for doc in ids], upstream_since=None, now=1.0)
    assert len(answer) == 3_000
    assert len(await db.recorded(ids)) == 3_000
    many = [*ids, *(f"x{at}\0" for at in range(limits.KEYS_COUNT))]
    assert len(await db.read(lambda index: index.find(many))) == 3_000


async def test_facts_about_the_upstream_are_remembered_one_by_one(db: DatabaseStore) -> None:
    state = await db.state()
    assert (state.identity, state.purge_seq, state.upstream_since) == (None, "", "0")
    await db.remember(identity=Identity("uuid", "123"))
    await db.remember(purge_seq="7-x")
    await db.remember()
    state = await db.state()
    assert (state.identity, state.purge_seq) == (Identity("uuid", "123"), "7-x")
    assert (await db.state()).last_seq == 0
