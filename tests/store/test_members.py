"""Members: whom `_security` names has every channel, and as a user of the server an account."""

from __future__ import annotations

import pytest

from gateway.errors import Conflict
from gateway.store.protocol import DatabaseStore, MetadataStore, PrincipalChange, ServerUser
from tests.store.telling import put_role, put_user

HASH = "hash"


async def person(store: MetadataStore, name: str, *roles: str, password: str | None = HASH, rev: str = "1-a") -> None:
    before = await store.server_user(name)
    body = {"name": name, "type": "user", "roles": list(roles)}
    await store.put_server_user(ServerUser(name, rev, False, body, password), before.rev if before else None)


async def channels(db: DatabaseStore, name: str) -> set[str] | None:
    """Besides the public one."""
    found = await db.principal("user", name)
    return None if found is None else found.channels.keys() - {"!"}


async def test_a_user_of_the_server_has_an_account_where_security_names_it(store: MetadataStore) -> None:
    notes, other = await store.database("notes"), await store.database("other")
    await person(store, "ann")
    await person(store, "bob")
    await notes.set_security({"members": {"names": ["ann"]}})
    assert await channels(notes, "ann") == {"*"}
    assert await channels(notes, "bob") is None
    assert await channels(other, "ann") is None
    found = await notes.principal("user", "ann")
    assert found is not None
    assert found.properties["password"] == "hash"
    await notes.set_security({"admins": {"names": ["bob"]}})
    assert await channels(notes, "ann") is None
    assert await channels(notes, "bob") == {"*"}


async def test_a_role_in_security_lets_in_who_has_it(store: MetadataStore) -> None:
    notes = await store.database("notes")
    await person(store, "ann", "staff", "other")
    await person(store, "bob")
    await notes.set_security({"members": {"roles": ["staff", "_admin"]}})
    found = await notes.principal("user", "ann")
    assert found is not None
    assert (await channels(notes, "ann"), found.roles) == ({"*"}, frozenset({"staff"}))
    assert await channels(notes, "bob") is None
    await person(store, "bob", "staff", rev="2-b")
    await person(store, "ann", rev="2-b")
    await notes.settle_members("bob")
    assert await channels(notes, "bob") == {"*"}
    await notes.settle_members("ann")
    assert await channels(notes, "ann") is None
    await notes.set_security({})
    assert await channels(notes, "bob") is None
    assert await notes.principal("role", "staff") is None


async def test_a_user_of_the_databases_own_keeps_its_password_and_what_else_it_has(store: MetadataStore) -> None:
    notes = await store.database("notes")
    await put_user(notes, "ann", "A")
    await put_role(notes, "staff", "S")
    await notes.put_principal("user", "ann", PrincipalChange({"password": "own"}))
    await person(store, "ann", "staff", password="server")
    await notes.set_security({"members": {"names": ["ann"], "roles": ["staff"]}})
    found = await notes.principal("user", "ann")
    assert found is not None
    assert (found.properties["password"], found.channels.keys() - {"!"}) == ("own", {"A", "*"})
    await notes.set_security({})
    assert await channels(notes, "ann") == {"A"}
    role = await notes.principal("role", "staff")
    assert role is not None
    assert role.channels.keys() - {"!"} == {"S"}


async def test_a_user_that_becomes_the_databases_own_has_nothing_left_of_the_servers(store: MetadataStore) -> None:
    notes = await store.database("notes")
    await put_role(notes, "staff", "S")
    await person(store, "ann", "staff")
    await notes.set_security({"members": {"names": ["ann"]}})
    assert await channels(notes, "ann") == {"*", "S"}
    await notes.put_principal("user", "ann", PrincipalChange({"origin": "config", "password": "own"}))
    await notes.settle_members()
    assert await channels(notes, "ann") == {"*"}, "what `_security` gives to the name, and no more"


async def test_a_changed_or_deleted_user_of_the_server_is_so_in_its_databases(store: MetadataStore) -> None:
    notes = await store.database("notes")
    await person(store, "ann")
    await notes.set_security({"members": {"names": ["ann"]}})
    await person(store, "ann", password="other", rev="2-b")
    await notes.settle_members("ann")
    found = await notes.principal("user", "ann")
    assert found is not None
    assert found.properties["password"] == "other"
    await store.put_server_user(ServerUser("ann", "3-c", True, {}, None), "2-b")
    await notes.settle_members("ann")
    assert await channels(notes, "ann") is None
    assert await store.server_users() == []


async def test_settling_what_is_settled_takes_no_sequence(store: MetadataStore) -> None:
    notes = await store.database("notes")
    await person(store, "ann", "staff")
    await notes.set_security({"members": {"names": ["ann", "nobody"], "roles": ["staff"]}})
    before = await notes.state()
    await notes.settle_members()
    await notes.settle_members("ann")
    await notes.settle_members("nobody")
    await notes.set_security({"members": {"names": ["ann", "nobody"], "roles": ["staff"]}})
    assert await notes.state() == before


async def test_names_that_nobody_can_have_let_nobody_in(store: MetadataStore) -> None:
    notes = await store.database("notes")
    given = {"members": {"names": ["GUEST", "_x", "a/b", "", "!"], "roles": ["_admin", "a:b"]}, "admins": "x"}
    await notes.set_security(given)
    assert await notes.principals("user") == []
    assert await notes.principals("role") == []
    assert await notes.security() == given


async def test_a_user_without_a_password_has_no_account(store: MetadataStore) -> None:
    notes = await store.database("notes")
    await person(store, "ann", password=None)
    await notes.set_security({"members": {"names": ["ann"]}})
    assert await channels(notes, "ann") is None


async def test_a_user_of_the_server_is_stored_over_its_revision_only(store: MetadataStore) -> None:
    await person(store, "ann")
    for over in (None, "1-b"):
        with pytest.raises(Conflict):
            await store.put_server_user(ServerUser("ann", "2-x", False, {}, None), over)
    found = await store.server_user("ann")
    assert found is not None
    assert found.rev == "1-a"
