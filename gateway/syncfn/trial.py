"""One document put to a sync function to see what it says, and the answer as JSON."""

from __future__ import annotations

from typing import Any

from gateway.errors import IllegalName, RefusedBySyncFunction, UnauthorizedBySyncFunction
from gateway.model.names import GUEST, PUBLIC_CHANNEL, check_channel_name, check_principal_name
from gateway.model.routing import ADMIN, Routing, Verdict, Writer


def pairs(given: frozenset[tuple[str, str]]) -> dict[str, list[str]]:
    """Grants by who gets them, sorted."""
    table: dict[str, list[str]] = {}
    for who, what in sorted(given):
        table.setdefault(who, []).append(what)
    return table


def ends(given: frozenset[tuple[str, str, float]]) -> dict[str, dict[str, float]]:
    """When grants end, by who gets them, sorted."""
    table: dict[str, dict[str, float]] = {}
    for who, what, end in sorted(given):
        table.setdefault(who, {})[what] = end
    return table


def described(verdict: Verdict) -> dict[str, Any]:
    """`accepted` with `channels`, `access`, `roles` (written without `role:`), `expiry` in unix seconds or null, and
    where something of `access` or `roles` ends by itself, `expires` with the ends in unix seconds; or not accepted,
    with `status`, `error`, `reason`, `code`, and `exception` for what was thrown that is no refusal."""
    logs = list(verdict.logs)
    error = verdict.error
    if error is None:
        return {"accepted": True, **_routing(verdict.routing), "logs": logs}
    answer = {
        "accepted": False,
        "status": error.status,
        "error": error.error,
        "reason": error.reason,
        "code": error.code,
    }
    if verdict.thrown is not None:
        thrown = verdict.thrown
        answer["exception"] = {"message": thrown.message, "line": thrown.line, "column": thrown.column}
    return {**answer, "logs": logs}


def _routing(routing: Routing) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "channels": sorted(routing.channels),
        "access": pairs(routing.grants),
        "roles": pairs(routing.roles),
        "expiry": routing.expiry,
    }
    if routing.grant_ends or routing.role_ends:
        shown["expires"] = {"access": ends(routing.grant_ends), "roles": ends(routing.role_ends)}
    return shown


def refusal(verdict: Verdict) -> tuple[str, str]:
    """The kind of a verdict with an error, forbidden, unauthorized or failed, and all that is known of its cause."""
    error = verdict.error
    assert error is not None, "the write was accepted"  # noqa: S101
    if isinstance(error, RefusedBySyncFunction):
        return "forbidden", error.reason
    if isinstance(error, UnauthorizedBySyncFunction):
        return "unauthorized", error.reason
    thrown = f": {verdict.logs[-1]}" if verdict.thrown else ""
    return "failed", error.reason + thrown


def writer_of(user: Any) -> Writer:
    """From JSON: None is an administrator, else `{"name", "channels", "roles"}`; the name null or GUEST is the guest.

    The public channel is added. Raises IllegalName with what is wrong.
    """
    if user is None:
        return ADMIN
    if not isinstance(user, dict):
        raise IllegalName('the user must be an object such as {"name": "ann", "channels": [], "roles": []}')
    if unknown := sorted(set(user) - {"name", "channels", "roles"}):
        raise IllegalName(f"of a user only name, channels and roles are known, not {unknown[0]!r}")
    if "name" not in user:
        raise IllegalName("the user needs a name; null is the guest's")
    name = user["name"]
    if name is not None:
        check_principal_name(name)
    lists: dict[str, frozenset[str]] = {}
    for key, check in (("channels", check_channel_name), ("roles", check_principal_name)):
        given = user.get(key, [])
        if not isinstance(given, list):
            raise IllegalName(f"the user's {key} must be a list")
        lists[key] = frozenset(map(check, given))
    return Writer(None if name == GUEST else name, channels=lists["channels"] | {PUBLIC_CHANNEL}, roles=lists["roles"])
