"""Which ids a selector can match: a set of them or a range, read from its conditions on `_id`."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.mango.selector import And, Condition, Field, Node


@dataclass(frozen=True, slots=True)
class Ids:
    """No document with another id matches. With `only` just these, in their order; else from `low` to `high`, both
    inclusive, which may still hold others."""

    only: tuple[str, ...] | None = None
    low: str | None = None
    high: str | None = None


def ids_of(node: Node) -> Ids:
    """What the conditions on `_id` that every match must meet say together."""
    only: set[str] | None = None
    low: str | None = None
    high: str | None = None
    for condition in _conditions(node):
        argument = condition.argument
        if condition.operator in ("$eq", "$in"):
            values = [argument] if condition.operator == "$eq" else argument
            ids = {value for value in values if isinstance(value, str)}
            only = ids if only is None else only & ids
        elif not isinstance(argument, str):
            continue  # an id comes after everything that is no string: that bounds nothing
        elif condition.operator in ("$gt", "$gte"):
            low = argument if low is None else max(low, argument)
        elif condition.operator in ("$lt", "$lte"):
            high = argument if high is None else min(high, argument)
        elif condition.operator == "$beginsWith":
            low = argument if low is None else max(low, argument)
            if (after := _after_prefix(argument)) is not None:
                high = after if high is None else min(high, after)
    return Ids(None if only is None else tuple(sorted(only)), low, high)


def _conditions(node: Node) -> list[Condition]:
    if isinstance(node, And):
        return [condition for part in node.parts for condition in _conditions(part)]
    if isinstance(node, Field) and node.path == "_id" and isinstance(node.part, Condition):
        return [node.part]
    return []


def _after_prefix(prefix: str) -> str | None:
    """A string after all that begin with the prefix; None if there is none."""
    while prefix:
        code = ord(prefix[-1]) + 1
        if code <= 0x10FFFF:
            return prefix[:-1] + chr(0xE000 if 0xD800 <= code <= 0xDFFF else code)
        prefix = prefix[:-1]
    return None
