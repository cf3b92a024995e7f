"""Users and roles as the admin API sees them: Sync Gateway's JSON, its checks and its merge rules.

An absent or null property stays as it is; a list replaces the whole set; `all_channels` and `roles` are computed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from gateway.auth.passwords import Passwords
from gateway.auth.rules import password_problem
from gateway.errors import BadRequest, MethodNotAllowed, NotFound
from gateway.model.names import GUEST, PUBLIC_CHANNEL, check_channel_name, check_principal_name
from gateway.settings.values import DatabaseSettings
from gateway.store.protocol import DatabaseStore, Principal, PrincipalChange, PrincipalKind

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\Z")
_USER_MEMBERS = frozenset(
    {"name", "password", "email", "disabled", "admin_channels", "admin_roles", "all_channels", "roles"}
)
_ROLE_MEMBERS = frozenset({"name", "admin_channels", "all_channels"})
FROM_CONFIG = "config"


@dataclass(frozen=True, slots=True)
class _Checked:
    """A request body that is in order."""

    password: str | None
    properties: dict[str, Any]
    admin_channels: list[str] | None
    admin_roles: list[str] | None


class Accounts:
    """Users and roles of one database."""

    def __init__(self, store: DatabaseStore, passwords: Passwords) -> None:
        self._store = store
        self._passwords = passwords

    async def listing(self, kind: str, *, name_only: bool, limit: int | None) -> list[Any]:
        """Names, or for users with `name_only=False` objects of name, email and disabled. Never GUEST."""
        if name_only and limit is not None:
            raise BadRequest("limit can only be used with name_only=false")
        found = [(name, properties) for name, properties in await self._store.principals(_kind(kind)) if name != GUEST]
        if name_only:
            return [name for name, _ in found]
        return [
            {"name": name, **{key: properties[key] for key in ("email", "disabled") if properties.get(key)}}
            for name, properties in found[:limit]
        ]

    async def get(self, kind: str, name: str) -> dict[str, Any]:
        """The JSON of a user or role. Raises NotFound."""
        found = await self._store.principal(_kind(kind), name)
        if found is None:
            raise NotFound
        return _shown(found)

    async def put(self, kind: str, name: str | None, body: Any, *, must_be_new: bool) -> bool:
        """Create or merge; True if created. `name` None: it comes from the body. Raises BadRequest, Conflict."""
        if not isinstance(body, dict):
            raise BadRequest("the body must be a JSON object")
        name = _name(name, body)
        before = await self._store.principal(_kind(kind), name)
        checked = _check(kind, name, body, before)
        properties = checked.properties
        if checked.password is not None:
            properties["password"] = await self._passwords.hash_password(checked.password)
        elif kind == "user" and before is None and name != GUEST:
            raise BadRequest("Error creating user: Empty passwords are not allowed")
        change = PrincipalChange(properties, checked.admin_channels, checked.admin_roles)
        return await self._store.put_principal(_kind(kind), name, change, must_be_new=must_be_new)

    async def delete(self, kind: str, name: str) -> None:
        """Raises NotFound; MethodNotAllowed for the guest, who can only be disabled."""
        if kind == "user" and name == GUEST:
            raise MethodNotAllowed("the guest cannot be deleted, only disabled")
        await self._store.delete_principal(_kind(kind), name)

    async def configure(self, settings: DatabaseSettings) -> None:
        """Make the users and roles of the config file what they are there; those that are no longer there end.

        A password is hashed again only if it changed. What the config file names wins over the admin API.
        """
        for role in settings.roles.values():
            change = PrincipalChange({"origin": FROM_CONFIG}, role.admin_channels)
            await self._store.put_principal("role", role.name, change)
        for user in settings.users.values():
            before = await self._store.principal("user", user.name)
            stored = before.properties.get("password") if before is not None else None
            password = user.password.get_secret_value()
            if stored is None or not (await self._passwords.verify(stored, password)).ok:
                stored = await self._passwords.hash_password(password)
            properties = {"origin": FROM_CONFIG, "password": stored, "disabled": user.disabled or None}
            change = PrincipalChange(properties, user.admin_channels, user.admin_roles)
            await self._store.put_principal("user", user.name, change)
        guest = settings.guest
        if guest.disabled and await self._store.principal("user", GUEST) is None:
            guest_change = PrincipalChange({"disabled": True}, ())
        else:
            guest_change = PrincipalChange({"disabled": guest.disabled or None}, guest.admin_channels)
        await self._store.put_principal("user", GUEST, guest_change)
        await self._end_unconfigured("user", settings.users)
        await self._end_unconfigured("role", settings.roles)

    async def _end_unconfigured(self, kind: PrincipalKind, configured: Mapping[str, object]) -> None:
        for name, properties in await self._store.principals(kind):
            if properties.get("origin") == FROM_CONFIG and name not in configured:
                await self._store.delete_principal(kind, name)


def _kind(kind: str) -> PrincipalKind:
    return cast("PrincipalKind", kind)


def _name(name: str | None, body: Mapping[str, Any]) -> str:
    given = body.get("name")
    if name is None:
        if not given:
            raise BadRequest("Missing name property")
        return check_principal_name(given)
    if given is not None and given != name:
        raise BadRequest("Name mismatch (can't change name)")
    return check_principal_name(name)


def _check(kind: str, name: str, body: Mapping[str, Any], before: Principal | None) -> _Checked:
    members = _USER_MEMBERS if kind == "user" else _ROLE_MEMBERS
    if unknown := sorted(body.keys() - members):
        raise BadRequest(f"unknown properties of a {kind}: {', '.join(unknown)}")
    shown = _shown(before) if before is not None else {}
    for computed in ("all_channels", "roles"):
        if body.get(computed) and sorted(_names(body, computed) or ()) != shown.get(computed, []):
            raise BadRequest(f"{computed} is read-only")
    properties: dict[str, Any] = {}
    if body.get("email") is not None:
        email = body["email"]
        if not isinstance(email, str) or (email and not _EMAIL.match(email)):
            raise BadRequest("email is not an e-mail address")
        properties["email"] = email or None
    if body.get("disabled") is not None:
        if not isinstance(body["disabled"], bool):
            raise BadRequest("disabled must be true or false")
        properties["disabled"] = body["disabled"] or None
    password = body.get("password")
    if password is not None:
        if name == GUEST and kind == "user":
            raise BadRequest("the guest has no password")
        if not isinstance(password, str):
            raise BadRequest("password must be a string")
        if password == "" and before is None:
            raise BadRequest("Error creating user: Empty passwords are not allowed")
        if problem := password_problem(password):
            raise BadRequest(problem)
    channels = _names(body, "admin_channels")
    roles = _names(body, "admin_roles")
    return _Checked(
        password,
        properties,
        None if channels is None else [check_channel_name(channel) for channel in channels],
        None if roles is None else [check_principal_name(role) for role in roles],
    )


def _names(body: Mapping[str, Any], member: str) -> list[str] | None:
    value = body.get(member)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadRequest(f"{member} must be an array of strings")
    return value


def _shown(principal: Principal) -> dict[str, Any]:
    value: dict[str, Any] = {"name": principal.name}
    if principal.admin_channels:
        value["admin_channels"] = sorted(principal.admin_channels)
    if principal.kind == "user":
        if principal.admin_roles:
            value["admin_roles"] = sorted(principal.admin_roles)
        value["email"] = principal.properties.get("email", "")
        value["disabled"] = bool(principal.properties.get("disabled"))
        value["all_channels"] = sorted({PUBLIC_CHANNEL, *principal.channels})
        if principal.roles:
            value["roles"] = sorted(principal.roles)
    elif principal.channels:
        value["all_channels"] = sorted(principal.channels)
    return value
