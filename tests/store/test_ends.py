"""What ends by itself, in the store: grants that are over, and documents that expire."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.model.apply import Found
from gateway.model.intervals import OPEN
from gateway.model.routing import Routing
from gateway.store.protocol import DatabaseStore, Index, MetadataStore, Publication
from tests.store.conftest import Opener
from tests.store.telling import TellLeaf, document, known, leaf, put_role, put_user, tell

Ends = Iterable[tuple[str, str, float]]


def giving(
    rev: str, ends: Ends = (), *, after: str = "", also: Iterable[tuple[str, str]] = (), role_ends: Ends = ()
) -> TellLeaf:
    """A leaf with grants that end, and `also` some that do not."""
    grants = {(who, what) for who, what, _ in ends} | set(also)
    roles = {(who, what) for who, what, _ in role_ends}
    routing = Routing(
        grants=frozenset(grants),
        roles=frozenset(roles),
        grant_ends=frozenset(ends),
        role_ends=frozenset(role_ends),
        asked_at=5.0,
    )
    return Found(rev, False, (after,) if after else (), None), routing, None


async def channels(db: DatabaseStore, name: str = "ann") -> dict[str, int]:
    found = await db.principal("user", name)
    assert found is not None
    return {channel: since for channel, since in found.channels.items() if channel != "!"}


async def intervals(db: DatabaseStore, channel: str = "A") -> list[tuple[int, int]]:
    """Past and present access of ann by own grants."""

    def read(index: Index) -> list[tuple[int, int]]:
        access = index.access("ann")
        assert access is not None
        return list(access.channels.get(index.channel_ids([channel])[channel], ()))

    return await db.read(read)


async def test_a_grant_ends_at_its_time_at_a_sequence_of_its_own(db: DatabaseStore) -> None:
    await put_user(db, "ann")  # 1
    await tell(db, document("g", giving("1-a", [("ann", "A", 2000.0)])))  # 2
    assert await channels(db) == {"A": 2}
    assert await db.next_grant_end() == 2000.0
    assert await db.end_grants(1999.9, 10) == 0
    assert (await db.state()).last_seq == 2
    assert await db.end_grants(2000.0, 10) == 1
    state = await db.state()
    assert (state.last_seq, state.access_seq) == (3, 3)
    assert await channels(db) == {}
    assert await intervals(db) == [(2, 3)]
    assert await db.next_grant_end() is None
    assert await db.end_grants(9999.0, 10) == 0


async def test_the_publication_names_whose_access_ended_also_through_a_role(
    store: MetadataStore, db: DatabaseStore
) -> None:
    published: list[Publication] = []
    store.subscribe(published.append)
    await put_role(db, "crew")
    await put_user(db, "ann")
    await put_user(db, "bob", "", "crew")
    await tell(db, document("g", giving("1-a", [("ann", "A", 50.0), ("role:crew", "B", 60.0)])), now=1.0)
    assert published[-1].next_end == 50.0
    await db.end_grants(70.0, 10)
    assert published[-1] == Publication("notes", 5, 5, users=frozenset({"ann", "bob"}))


async def test_a_grant_that_is_over_when_it_is_told_is_none(db: DatabaseStore) -> None:
    await put_user(db, "ann")
    await tell(db, document("g", giving("1-a", [("ann", "A", 1000.0)], also=[("ann", "B")])), now=1000.0)
    assert await channels(db) == {"B": 2}
    assert await intervals(db) == []


async def test_another_end_neither_closes_nor_opens_the_interval(db: DatabaseStore) -> None:
    await put_user(db, "ann")  # 1
    await tell(db, document("g", giving("1-a", [("ann", "A", 2000.0)])))  # 2
    await tell(db, document("g", giving("2-a", [("ann", "A", 3000.0)], after="1-a")))  # 3: longer
    assert await db.end_grants(2500.0, 10) == 0
    await tell(db, document("g", giving("3-a", also=[("ann", "A")], after="2-a")))  # 4: for ever
    assert await db.next_grant_end() is None
    await tell(db, document("g", giving("4-a", [("ann", "A", 2600.0)], after="3-a")))  # 5: shorter again
    assert await intervals(db) == [(2, OPEN)]
    assert await db.end_grants(2600.0, 10) == 1
    assert await intervals(db) == [(2, 6)]


async def test_a_grant_told_longer_after_its_end_but_before_that_was_committed_goes_on(db: DatabaseStore) -> None:
    await put_user(db, "ann")
    await tell(db, document("g", giving("1-a", [("ann", "A", 2000.0)])))
    await tell(db, document("g", giving("2-a", [("ann", "A", 3000.0)], after="1-a")), now=2001.0)
    assert await db.end_grants(2001.0, 10) == 0
    assert await intervals(db) == [(2, OPEN)]


async def test_access_ends_with_its_last_source(db: DatabaseStore) -> None:
    await put_user(db, "ann", "A")  # 1
    await tell(db, document("g", giving("1-a", [("ann", "A", 2000.0)])))  # 2
    await tell(db, document("h", giving("1-b", [("ann", "A", 3000.0)])))  # 3
    assert await db.end_grants(2000.0, 10) == 1  # 4
    await put_user(db, "ann", "")  # 5
    assert await channels(db) == {"A": 1}
    assert await db.end_grants(3000.0, 10) == 1  # 6
    assert await intervals(db) == [(1, 6)]


async def test_a_membership_ends_and_with_it_what_the_role_gives(db: DatabaseStore) -> None:
    await put_role(db, "crew", "A")
    await put_user(db, "ann")
    await tell(db, document("g", giving("1-a", role_ends=[("ann", "crew", 2000.0)])))
    assert await channels(db) == {"A": 3}
    await db.end_grants(2000.0, 10)
    assert await channels(db) == {}


async def test_a_losing_leaf_that_wins_later_gives_only_what_is_not_over(db: DatabaseStore) -> None:
    await put_user(db, "ann")
    losing = giving("1-a", [("ann", "A", 2000.0), ("ann", "B", 4000.0)])
    await tell(db, document("g", losing, leaf("1-b")))
    assert await channels(db) == {}
    await tell(db, document("g", known("1-a"), leaf("2-b", after=["1-b"], deleted=True)), now=3000.0)
    assert await channels(db) == {"B": 3}
    assert await db.next_grant_end() == 4000.0


async def test_what_is_over_stays_over_when_another_branch_changes(db: DatabaseStore) -> None:
    await put_user(db, "ann")
    await tell(db, document("g", giving("2-a", [("ann", "A", 2000.0)])))
    await db.end_grants(2000.0, 10)
    await tell(db, document("g", known("2-a"), leaf("1-b")), now=2500.0)
    assert await channels(db) == {}


async def test_many_ends_come_in_batches_the_earliest_first(db: DatabaseStore) -> None:
    await put_user(db, "ann")
    await tell(db, document("g", giving("1-a", [("ann", f"c{at}", 2000.0 + at) for at in range(5)])))
    assert await db.end_grants(3000.0, 3) == 3
    assert set(await channels(db)) == {"c3", "c4"}
    assert await db.next_grant_end() == 2003.0
    assert await db.end_grants(3000.0, 3) == 2
    assert (await db.state()).last_seq == 4


async def test_each_database_ends_its_own_grants(store: MetadataStore, db: DatabaseStore) -> None:
    other = await store.database("other")
    for one, end in ((db, 2000.0), (other, 1500.0)):
        await put_user(one, "ann")
        await tell(one, document("g", giving("1-a", [("ann", "A", end)])))
        assert await one.next_grant_end() == end
    assert await db.end_grants(1999.0, 10) == 0
    assert await other.end_grants(1999.0, 10) == 1
    assert await channels(db) == {"A": 2}


async def test_a_purged_document_gives_nothing_that_could_end(db: DatabaseStore) -> None:
    await put_user(db, "ann")
    await tell(db, document("g", giving("1-a", [("ann", "A", 2000.0)])))
    await tell(db, document("g", purged=True))
    assert await db.next_grant_end() is None
    assert await intervals(db) == [(2, 3)]


async def test_ends_are_there_when_the_store_is_opened_again(open_store: Opener) -> None:
    store = await open_store()
    db = await store.database("notes")
    await put_user(db, "ann")
    await tell(db, document("g", giving("2-a", [("ann", "A", 2000.0)]), giving("1-b", role_ends=[("ann", "r", 9.0)])))
    await store.close()
    store = await open_store()
    db = await store.database("notes")
    assert await db.next_grant_end() == 2000.0
    recorded = (await db.recorded(["g"]))["g"].leaves
    ((principal, channel, end),) = recorded["2-a"].routing.grant_ends
    assert recorded["2-a"].routing.grants == {(principal, channel)}
    assert end == 2000.0
    assert [end for _, _, end in recorded["1-b"].routing.role_ends] == [9.0]
    assert recorded["1-b"].routing.asked_at == 5.0
    await store.close()


# Documents


async def expiring(db: DatabaseStore, after: tuple[float, int, str] | None = None, limit: int = 10) -> list[str]:
    return [f"{one.id} {one.rev} {one.expiry:g}" for one in await db.expiring(after, limit)]


async def test_current_leaves_that_expire_are_listed_by_their_time(db: DatabaseStore) -> None:
    await tell(
        db,
        document("late", leaf("1-a", expiry=300.0)),
        document("never", leaf("1-a")),
        document("both", leaf("2-a", expiry=100.0), leaf("1-b", expiry=200.0)),
    )
    assert await expiring(db) == ["both 2-a 100", "both 1-b 200", "late 1-a 300"]
    first = (await db.expiring(None, 1))[0]
    assert await expiring(db, first[:3], 1) == ["both 1-b 200"]


async def test_tombstones_and_what_was_replaced_do_not_expire(db: DatabaseStore) -> None:
    await tell(db, document("d", leaf("1-a", expiry=100.0)), document("e", leaf("1-a", expiry=100.0)))
    await tell(db, document("d", leaf("2-a", after=["1-a"], deleted=True, expiry=100.0)))
    await tell(db, document("e", leaf("2-a", after=["1-a"], expiry=150.0)))
    assert await expiring(db) == ["e 2-a 150"]


async def test_each_database_lists_its_own_and_its_publications_tell_of_them(
    store: MetadataStore, db: DatabaseStore
) -> None:
    published: list[Publication] = []
    store.subscribe(published.append)
    other = await store.database("other")
    await tell(db, document("d", leaf("1-a", expiry=100.0)), document("e", leaf("1-a", deleted=True, expiry=50.0)))
    await tell(other, document("f", leaf("1-a", expiry=10.0)))
    assert [publication.next_end for publication in published] == [100.0, 10.0]
    assert await expiring(db) == ["d 1-a 100"]
    assert await expiring(other) == ["f 1-a 10"]
