"""Who has which channel, and from whom."""

from __future__ import annotations

import pytest

from gateway import limits
from gateway.model.intervals import OPEN
from gateway.store.protocol import DatabaseStore, Held, Index, MetadataStore, PrincipalChange, PrincipalKind
from tests.store.telling import document, leaf, put_role, put_user, tell

Page = tuple[list[str], str | None]


async def holders(
    db: DatabaseStore, channels: str, kind: PrincipalKind = "user", start: str = "", limit: int = 100
) -> Page:
    def read(index: Index) -> Page:
        names, following = index.holders(kind, list(index.channel_ids(channels.split()).values()), start, limit)
        return list(names), following

    return await db.read(read)


async def count(db: DatabaseStore, channel: str, cap: int = 100) -> int:
    return await db.read(lambda index: index.count_holders(index.channel_ids([channel])[channel], cap))


async def held(db: DatabaseStore, name: str, channels: str, kind: PrincipalKind = "user") -> list[Held]:
    return await db.read(
        lambda index: list(index.held_channels(kind, [name], list(index.channel_ids(channels.split()).values())))
    )


@pytest.fixture(params=["sorted", "looked through"])
def plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers whether those who have a channel are few or many."""
    if request.param == "looked through":
        monkeypatch.setattr(limits, "HOLDERS_SORTED_COUNT", 0)


@pytest.mark.usefixtures("plan")
async def test_holders_have_the_channel_now_by_themselves_or_through_a_role(db: DatabaseStore) -> None:
    await put_role(db, "crew", "A")
    await put_user(db, "ann", "A B")
    await put_user(db, "bob", "B", "crew")
    await put_user(db, "eve", "A", "crew")
    await put_user(db, "tom", "A")
    await put_user(db, "tom", "C")
    assert await holders(db, "A") == (["ann", "bob", "eve"], None)
    assert await holders(db, "B C") == (["ann", "bob", "tom"], None)
    assert await holders(db, "A B", "role") == (["crew"], None)
    assert [await count(db, name) for name in ("A", "B", "C")] == [3, 2, 1]


@pytest.mark.usefixtures("plan")
async def test_nobody_holds_through_a_role_or_as_a_user_that_does_not_exist(db: DatabaseStore) -> None:
    grants = [("role:later", "A"), ("nobody", "A"), ("ann", "B")]
    await tell(db, document("g", leaf("1-a", grants=grants, roles=[("ann", "later")])))
    await put_user(db, "ann")
    assert await holders(db, "A") == ([], None)
    assert await holders(db, "A", "role") == ([], None)
    assert await holders(db, "B") == (["ann"], None)
    await put_role(db, "later")
    assert await holders(db, "A") == (["ann"], None)
    await db.delete_principal("user", "ann")
    assert await holders(db, "A B") == ([], None)
    assert await count(db, "A") == 0


@pytest.mark.usefixtures("plan")
async def test_holders_are_paged_by_name_as_bytes(db: DatabaseStore) -> None:
    names = ["Zoe", "ann", "bob", "tom", "é", "😀"]
    for name in reversed(names):
        await put_user(db, name, "A")
    pages, start = [], ""
    while True:
        page, following = await holders(db, "A", start=start, limit=4)
        pages.append(page)
        if following is None:
            break
        start = following
    assert pages == [names[:4], names[4:]]
    assert await holders(db, "A", start="bo", limit=1) == (["bob"], "tom")
    assert await holders(db, "A", start="x\0y", limit=1) == (["é"], "😀")
    assert await count(db, "A", cap=3) == 3


@pytest.mark.usefixtures("plan")
async def test_everybody_holds_the_public_channel(db: DatabaseStore) -> None:
    for name in ("ann", "bob", "tom"):
        await put_user(db, name)
    await db.delete_principal("user", "bob")
    await put_role(db, "r", "!")
    assert await holders(db, "!") == (["ann", "tom"], None)
    assert await holders(db, "!", "role") == (["r"], None)
    assert await count(db, "!") == 2


async def test_no_more_than_so_many_names_are_looked_through(
    db: DatabaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(6):
        await put_user(db, f"u{at}", "A" if at in (0, 4, 5) else "B")
    monkeypatch.setattr(limits, "HOLDERS_SORTED_COUNT", 2)
    monkeypatch.setattr(limits, "HOLDERS_EXAMINED_COUNT", 3)
    assert await holders(db, "A") == (["u0"], "u3"), "a short page that says where to go on"
    assert await holders(db, "A", start="u3") == (["u4", "u5"], None)
    monkeypatch.setattr(limits, "HOLDERS_SORTED_COUNT", 3)
    assert await holders(db, "A") == (["u0", "u4", "u5"], None)


async def test_what_is_held_has_its_sources(db: DatabaseStore) -> None:
    await put_user(db, "ann", "A B")  # 1
    await tell(db, document("g", leaf("1-a", grants=[("ann", "A"), ("ann", "C"), ("ann", "!")])))  # 2
    number = await db.read(lambda index: index.find(["g"])["g"].document)
    from_g = (f"doc:{number}", 2, None)
    assert await held(db, "ann", "A B C !") == [
        Held("ann", "!", 2, [from_g], False),
        Held("ann", "A", 1, [("admin", 1, None), from_g], False),
        Held("ann", "B", 1, [("admin", 1, None)], False),
        Held("ann", "C", 2, [from_g], False),
    ]
    await put_user(db, "ann", "")  # 3
    assert await held(db, "ann", "A B") == [Held("ann", "A", 1, [from_g], False)], "the access goes on"
    assert await held(db, "ann", "B") == []
    assert await held(db, "bob", "A") == []


async def test_of_very_many_sources_some_are_named(db: DatabaseStore) -> None:
    docs = [document(f"g{at}", leaf("1-a", grants=[("ann", "A")])) for at in range(limits.SOURCES_COUNT + 1)]
    await tell(db, *docs)
    (found,) = await held(db, "ann", "A")
    assert (len(found.sources), found.more, found.since) == (limits.SOURCES_COUNT, True, 1)


async def test_roles_are_held_that_have_a_channel_whether_they_exist_or_not(db: DatabaseStore) -> None:
    await put_role(db, "crew", "A")  # 1
    await put_role(db, "other", "B")  # 2
    await put_user(db, "ann", "", "crew other later")  # 3
    await tell(db, document("g", leaf("1-a", grants=[("role:later", "A")])))  # 4

    def read(index: Index) -> list[Held]:
        return list(index.held_roles(["ann", "bob"], [index.channel_ids(["A"])["A"]]))

    expected = [
        Held("ann", "crew", 3, [("admin", 3, None)], False),
        Held("ann", "later", 3, [("admin", 3, None)], False),
    ]
    assert await db.read(read) == expected
    assert await held(db, "crew", "A B", "role") == [Held("crew", "A", 1, [("admin", 1, None)], False)]


async def test_accounts_tell_of_lives_and_of_names_that_grants_name(db: DatabaseStore) -> None:
    await db.put_principal("user", "ann", PrincipalChange({"disabled": True, "origin": "config"}))  # 1
    await put_user(db, "bob")  # 2
    await db.delete_principal("user", "bob")  # 3
    await tell(db, document("g", leaf("1-a", grants=[("eve\0", "A")])))  # 4
    found = await db.read(lambda index: index.accounts("user", ["ann", "bob", "eve\0", "nobody"]))
    assert {name: (list(one.life), one.exists, one.disabled, one.origin) for name, one in found.items()} == {
        "ann": ([(1, OPEN)], True, True, "config"),
        "bob": ([(2, 3)], False, False, None),
        "eve\0": ([], False, False, None),
    }
    assert await db.read(lambda index: list(index.account_names("user", "b", 5))) == ["bob", "eve\0"]
    assert await db.read(lambda index: list(index.account_names("user", "", 1))) == ["ann"]


async def test_channels_are_listed_by_name_and_prefix(store: MetadataStore, db: DatabaseStore) -> None:
    names = ["a", "a\0", "a%", "ab", "a\U0010ffff", "b", "é"]
    await db.put_principal("user", "ann", PrincipalChange({}, names))
    await put_user(await store.database("others"), "ann", "hidden")

    async def listed(prefix: str = "", start: str = "", limit: int = 100) -> list[str]:
        return await db.read(lambda index: [name for _, name in index.list_channels(prefix, start, limit)])

    assert await listed() == ["!", "*", *names]
    assert await listed("a") == names[:5]
    assert await listed("a", "ab") == names[3:5]
    assert await listed("b", "a") == ["b"]
    assert await listed("", "b", 1) == ["b"]
    assert await listed("zz") == []
    assert await listed("a", "b") == []
