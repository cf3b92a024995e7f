"""`$regex`, bounded: a runaway pattern must cost half a second, not the process.

Python's `re` cannot be interrupted and holds the interpreter lock, so patterns run in QuickJS, which can be. CouchDB
uses PCRE; the syntax of both is the same for what selectors usually hold. Leading `(?i)`, `(?m)`, `(?s)` become flags.
"""

from __future__ import annotations

import json
import re

import quickjs

from gateway import limits

_FLAGS = re.compile(r"\(\?([imsu]+)\)")
_MATCHER = "(pattern, flags) => { const made = new RegExp(pattern, flags); return (text) => made.test(text); }"
_MEMORY_BYTES = 32_000_000


class BadPattern(ValueError):
    """Not a regular expression."""


class PatternRanAway(RuntimeError):
    """The time limit for one value passed."""


class Pattern:
    """One compiled pattern. Belongs to the thread that made it."""

    def __init__(self, pattern: str) -> None:
        flags = {"u"}
        while (match := _FLAGS.match(pattern)) is not None:
            flags |= set(match[1])
            pattern = pattern[match.end() :]
        self._context = quickjs.Context()
        self._context.set_memory_limit(_MEMORY_BYTES)
        self._context.set_time_limit(limits.EMBEDDED_REGEX_SECONDS)
        source = f"globalThis.matches = ({_MATCHER})({json.dumps(pattern)}, {json.dumps(''.join(sorted(flags)))})"
        try:
            self._context.eval(source)
        except quickjs.JSException as error:
            if "u" in flags and self._retry(pattern, flags - {"u"}):
                pass  # PCRE lets needless escapes pass, Unicode mode does not
            else:
                raise BadPattern(str(error)) from None
        self._matches = self._context.get("matches")

    def _retry(self, pattern: str, flags: set[str]) -> bool:
        source = f"globalThis.matches = ({_MATCHER})({json.dumps(pattern)}, {json.dumps(''.join(sorted(flags)))})"
        try:
            self._context.eval(source)
        except quickjs.JSException:
            return False
        return True

    def matches(self, text: str) -> bool:
        """Whether the pattern is found anywhere in `text`. Raises PatternRanAway."""
        try:
            return bool(self._matches(text))
        except quickjs.JSException as error:
            raise PatternRanAway(str(error)) from None
