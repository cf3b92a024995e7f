"""Users and roles: what changes them, what they have, since when."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import Conflict, NotFound
from gateway.model.intervals import OPEN, intervals
from gateway.store.protocol import DatabaseStore, Index, MetadataStore, PrincipalChange
from tests.store.telling import document, leaf, put_role, put_user, tell


async def intervals_of(db: DatabaseStore, user: str) -> dict[str, list[tuple[int, int]]]:
    """channel → intervals, but for the public channel."""

    def read(index: Index) -> dict[str, list[tuple[int, int]]]:
        access = index.access(user)
        assert access is not None
        held = intervals(access, None, index.star)
        names = index.channel_names(held)
        return {names[channel]: list(spans) for channel, spans in held.items() if channel != index.public}

    return await db.read(read)


async def test_a_user_who_was_put_is_there_with_what_was_given(db: DatabaseStore) -> None:
    change = PrincipalChange({"email": "ann@example.org", "disabled": False}, ["A", "B"], ["r"])
    assert await db.put_principal("user", "ann", change)
    ann = await db.principal("user", "ann")
    assert ann is not None
    assert (ann.kind, ann.name, ann.seq) == ("user", "ann", 1)
    assert ann.properties == {"email": "ann@example.org", "disabled": False}
    assert ann.admin_channels == {"A", "B"}
    assert ann.admin_roles == {"r"}
    assert ann.channels == {"!": 1, "A": 1, "B": 1}
    assert ann.roles == frozenset(), "a role that does not exist is not had"


async def test_nobody_is_there_who_was_never_put(db: DatabaseStore) -> None:
    assert await db.principal("user", "ann") is None
    assert await db.principals("user") == []
    assert await db.read(lambda index: index.access("ann")) is None


async def test_a_user_and_a_role_of_one_name_are_two(db: DatabaseStore) -> None:
    await put_user(db, "x", "A")
    await put_role(db, "x", "B")
    user, role = await db.principal("user", "x"), await db.principal("role", "x")
    assert user is not None
    assert role is not None
    assert user.admin_channels == {"A"}
    assert role.admin_channels == {"B"}
    await db.delete_principal("role", "x")
    assert await db.principal("user", "x")


async def test_properties_are_merged_and_null_drops_one(db: DatabaseStore) -> None:
    await db.put_principal("user", "ann", PrincipalChange({"a": 1, "b": {"c": [2]}}))
    assert not await db.put_principal("user", "ann", PrincipalChange({"a": None, "d": "é\0", "e": None}))
    ann = await db.principal("user", "ann")
    assert ann is not None
    assert ann.properties == {"b": {"c": [2]}, "d": "é\0"}
    assert ann.seq == 2


async def test_sets_that_are_not_given_stay_and_empty_ones_empty(db: DatabaseStore) -> None:
    await put_user(db, "ann", "A B", "r")
    await db.put_principal("user", "ann", PrincipalChange({"a": 1}))
    ann = await db.principal("user", "ann")
    assert ann is not None
    assert ann.admin_channels == {"A", "B"}
    assert ann.admin_roles == {"r"}
    await db.put_principal("user", "ann", PrincipalChange(admin_channels=["B", "C"]))
    ann = await db.principal("user", "ann")
    assert ann is not None
    assert ann.admin_channels == {"B", "C"}
    assert ann.admin_roles == {"r"}
    await db.put_principal("user", "ann", PrincipalChange(admin_channels=[], admin_roles=[]))
    ann = await db.principal("user", "ann")
    assert ann is not None
    assert (ann.admin_channels, ann.admin_roles) == (frozenset(), frozenset())


async def test_a_change_that_changes_nothing_takes_no_sequence(db: DatabaseStore) -> None:
    await db.put_principal("user", "ann", PrincipalChange({"a": 1}, ["A", "B"], ["r"]))
    for change in (
        PrincipalChange(),
        PrincipalChange({"a": 1}),
        PrincipalChange({"b": None}),
        PrincipalChange({"a": 1}, ["B", "A", "A"], ["r"]),
    ):
        assert not await db.put_principal("user", "ann", change)
    assert (await db.state()).last_seq == 1


async def test_every_change_takes_one_sequence(db: DatabaseStore) -> None:
    await db.put_principal("user", "ann", PrincipalChange({"a": 1}, ["A", "B"], ["r"]))
    await db.put_principal("user", "ann", PrincipalChange({"a": 2}, ["C", "D"], ["s"]))
    await db.delete_principal("user", "ann")
    assert (await db.state()).last_seq == 3


async def test_only_a_change_of_access_moves_the_access_sequence(db: DatabaseStore) -> None:
    await put_user(db, "ann", "A")
    await db.put_principal("user", "ann", PrincipalChange({"email": "x"}))
    assert ((await db.state()).last_seq, (await db.state()).access_seq) == (2, 1)
    await tell(db, document("d", leaf("1-a", "A")))
    assert ((await db.state()).last_seq, (await db.state()).access_seq) == (3, 1)
    await tell(db, document("d", leaf("2-a", "A", after=["1-a"], grants=[("ann", "B")])))
    assert (await db.state()).access_seq == 4


async def test_who_must_be_new_may_not_exist(db: DatabaseStore) -> None:
    assert await db.put_principal("user", "ann", PrincipalChange(), must_be_new=True)
    with pytest.raises(Conflict):
        await db.put_principal("user", "ann", PrincipalChange({"a": 1}), must_be_new=True)
    ann = await db.principal("user", "ann")
    assert ann is not None
    assert ann.properties == {}
    assert (await db.state()).last_seq == 1


async def test_of_two_who_create_the_same_user_at_once_one_is_refused(db: DatabaseStore) -> None:
    outcomes = await asyncio.gather(
        *(db.put_principal("user", "ann", PrincipalChange({"n": n}), must_be_new=True) for n in range(5)),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == [*["Conflict"] * 4, "bool"]


async def test_who_is_not_there_cannot_be_deleted(db: DatabaseStore) -> None:
    with pytest.raises(NotFound):
        await db.delete_principal("user", "ann")
    await put_user(db, "ann")
    await db.delete_principal("user", "ann")
    with pytest.raises(NotFound):
        await db.delete_principal("user", "ann")
    with pytest.raises(NotFound):
        await db.delete_principal("role", "ann")
    assert (await db.state()).last_seq == 2


async def test_who_is_created_again_has_nothing_of_what_the_admin_gave_before(db: DatabaseStore) -> None:
    await db.put_principal("user", "ann", PrincipalChange({"a": 1}, ["A"], ["r"]))
    await db.delete_principal("user", "ann")
    assert await db.principal("user", "ann") is None
    assert await put_user(db, "ann")
    ann = await db.principal("user", "ann")
    assert ann is not None
    assert (ann.properties, ann.admin_channels, ann.admin_roles) == ({}, frozenset(), frozenset())
    assert ann.channels == {"!": 3}


async def test_what_documents_grant_waits_for_the_user(db: DatabaseStore) -> None:
    await tell(db, document("g", leaf("1-a", grants=[("ann", "A"), ("role:r", "B")], roles=[("ann", "r")])))
    assert await db.principal("user", "ann") is None
    assert await db.principals("user") == []
    await put_user(db, "ann")
    ann = await db.principal("user", "ann")
    assert ann is not None
    assert ann.channels == {"!": 2, "A": 2}
    assert ann.admin_channels == frozenset()
    await put_role(db, "r")
    ann = await db.principal("user", "ann")
    assert ann is not None
    assert ann.channels == {"!": 2, "A": 2, "B": 3}
    assert ann.roles == {"r"}
    await db.delete_principal("user", "ann")
    await put_user(db, "ann")
    ann = await db.principal("user", "ann")
    assert ann is not None
    assert ann.channels == {"!": 5, "A": 5, "B": 5}


async def test_a_role_has_its_channels_since_it_exists(db: DatabaseStore) -> None:
    await tell(db, document("g", leaf("1-a", grants=[("role:r", "A")])))
    await put_role(db, "r", "B")
    role = await db.principal("role", "r")
    assert role is not None
    assert role.channels == {"!": 2, "A": 2, "B": 2}
    assert role.admin_channels == {"B"}
    assert role.admin_roles == role.roles == frozenset()


async def test_principals_are_listed_by_name_with_their_properties(db: DatabaseStore) -> None:
    for name in ("b", "a", "é", "Z", "c"):
        await db.put_principal("user", name, PrincipalChange({"is": name}))
    await db.delete_principal("user", "c")
    await put_role(db, "r")
    await put_user(db, "a", roles="named-only")
    assert await db.principals("user") == [(name, {"is": name}) for name in ("Z", "a", "b", "é")]
    assert await db.principals("role") == [("r", {})]


async def test_access_intervals_are_exact(db: DatabaseStore) -> None:
    await put_user(db, "ann", "A")  # 1
    await put_user(db, "ann", "B")  # 2
    await put_user(db, "ann", "A B")  # 3
    await put_user(db, "ann", "")  # 4
    await put_user(db, "ann", "A")  # 5
    assert await intervals_of(db, "ann") == {"A": [(1, 2), (3, 4), (5, OPEN)], "B": [(2, 4)]}
    await db.delete_principal("user", "ann")  # 6
    await put_user(db, "ann", "B")  # 7
    assert await intervals_of(db, "ann") == {"A": [(1, 2), (3, 4), (5, 6)], "B": [(2, 4), (7, OPEN)]}


async def test_fifty_intervals_are_fifty_intervals(db: DatabaseStore) -> None:
    for _ in range(50):
        await put_user(db, "ann", "A")
        await put_user(db, "ann", "")
    assert await intervals_of(db, "ann") == {"A": [(at, at + 1) for at in range(1, 100, 2)]}


async def test_access_lasts_while_any_source_gives_it(db: DatabaseStore) -> None:
    grant = [("ann", "A")]
    await put_user(db, "ann", "A")  # 1
    await tell(db, document("g", leaf("1-a", grants=grant)))  # 2
    await tell(db, document("h", leaf("1-a", grants=grant)))  # 3
    await put_user(db, "ann", "")  # 4
    await tell(db, document("g", leaf("2-a", after=["1-a"])))  # 5
    assert await intervals_of(db, "ann") == {"A": [(1, OPEN)]}
    await tell(db, document("h", leaf("2-a", deleted=True, after=["1-a"])))  # 6
    assert await intervals_of(db, "ann") == {"A": [(1, 6)]}


async def test_roles_are_had_while_any_source_gives_them(db: DatabaseStore) -> None:
    await put_role(db, "r", "A")  # 1
    await put_user(db, "ann", roles="r")  # 2
    await tell(db, document("g", leaf("1-a", roles=[("ann", "r")])))  # 3
    await put_user(db, "ann")  # 4
    assert await intervals_of(db, "ann") == {"A": [(2, OPEN)]}
    await db.delete_principal("role", "r")  # 5
    await put_role(db, "r", "A B")  # 6
    await tell(db, document("g", leaf("2-a", after=["1-a"])))  # 7
    assert await intervals_of(db, "ann") == {"A": [(2, 5), (6, 7)], "B": [(6, 7)]}


async def test_two_writers_who_take_away_two_sources_at_once_end_the_access(db: DatabaseStore) -> None:
    """W12: each sees what the other did."""
    for round_ in range(1, 6):
        before = str(2 * round_ - 1)
        await asyncio.gather(
            put_user(db, "ann", "A"),
            tell(db, document("g", leaf(f"{before}-a", grants=[("ann", "A")], after=_older(int(before))))),
        )
        await asyncio.gather(
            put_user(db, "ann", ""),
            tell(db, document("g", leaf(f"{int(before) + 1}-a", after=_older(int(before) + 1)))),
        )
        assert all(end != OPEN for _, end in (await intervals_of(db, "ann"))["A"])


def _older(generation: int) -> list[str]:
    return [f"{at}-a" for at in range(generation - 1, 0, -1)]


async def test_databases_share_nothing(store: MetadataStore) -> None:
    one, two = await store.database("one"), await store.database("two")
    await put_user(one, "ann", "A")
    await tell(one, document("d", leaf("1-a", "A")))
    assert await two.principal("user", "ann") is None
    assert await two.recorded(["d"]) == {}
    assert (await two.state()).last_seq == 0
    assert (await one.state()).epoch != (await two.state()).epoch
    await put_user(two, "ann", "B")
    await tell(two, document("d", leaf("1-b", "B", grants=[("ann", "C")])))
    assert await intervals_of(one, "ann") == {"A": [(1, OPEN)]}
    assert await intervals_of(two, "ann") == {"B": [(1, OPEN)], "C": [(2, OPEN)]}
    await two.delete_principal("user", "ann")
    assert await one.principal("user", "ann") is not None
    assert await one.principals("user") == [("ann", {})]
