"""`$regex`, bounded: a runaway pattern must cost half a second, not the process.

Python's `re` cannot be interrupted and holds the interpreter lock, so patterns run in QuickJS, which can be. CouchDB
uses PCRE; the syntax of both is the same for what selectors usually hold. Leading `(?i)`, `(?m)`, `(?s)` become flags.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import quickjs

from gateway import limits

_FLAGS = re.compile(r"\(\?([imsu]+)\)")
_PRELUDE = """
const made = [];
globalThis.add = (pattern, flags) => { made.push(new RegExp(pattern, flags)) };
globalThis.matches = (at, text) => made[at].test(text);
"""
_MEMORY_BYTES = 32_000_000


class BadPattern(ValueError):
    """Not a regular expression, or one too many."""


class PatternRanAway(RuntimeError):
    """The time limit for one value passed, or that for all values together."""


class Patterns:
    """The patterns of one selector, in one engine. Belongs to the thread that made it."""

    def __init__(self) -> None:
        self._context: quickjs.Context | None = None
        self._count = 0
        self._spent_s = 0.0

    def add(self, pattern: str) -> Callable[[str], bool]:
        """Whether the pattern is found anywhere in a text. Raises BadPattern; what it returns, PatternRanAway."""
        if self._count >= limits.SELECTOR_PATTERNS_COUNT:
            raise BadPattern(f"more than {limits.SELECTOR_PATTERNS_COUNT} patterns")
        flags = {"u"}
        while (match := _FLAGS.match(pattern)) is not None:
            flags |= set(match[1])
            pattern = pattern[match.end() :]
        context = self._engine()
        try:
            self._add(context, pattern, flags)
        except quickjs.JSException:
            # PCRE lets needless escapes pass, Unicode mode does not.
            try:
                self._add(context, pattern, flags - {"u"})
            except quickjs.JSException as error:
                raise BadPattern(str(error)) from None
        at, self._count = self._count, self._count + 1
        run = context.get("matches")

        def matches(text: str) -> bool:
            started = time.monotonic()
            try:
                return bool(run(at, text))
            except quickjs.JSException as error:
                raise PatternRanAway(str(error)) from None
            finally:
                self._spent_s += time.monotonic() - started
                if self._spent_s > limits.SELECTOR_PATTERNS_SECONDS:
                    raise PatternRanAway("the patterns of the selector took too long together")

        return matches

    def _engine(self) -> quickjs.Context:
        if self._context is None:
            self._context = quickjs.Context()
            self._context.set_memory_limit(_MEMORY_BYTES)
            self._context.set_time_limit(limits.SELECTOR_PATTERN_SECONDS)
            self._context.eval(_PRELUDE)
        return self._context

    @staticmethod
    def _add(context: quickjs.Context, pattern: str, flags: set[str]) -> None:
        context.eval(f"add({json.dumps(pattern)}, {json.dumps(''.join(sorted(flags)))})")
