"""The words of a JavaScript text, one at a time. Whether a `/` begins a regular expression is told by who reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["name", "number", "string", "regex", "template", "mark", "end"]

_LINE_ENDS: Final = re.compile("\r\n|[\n\r\u2028\u2029]")
_SPACE: Final = re.compile("[ \t\v\f\u00a0\ufeff\u1680\u2000-\u200a\u202f\u205f\u3000\n\r\u2028\u2029]+")
_LINE_COMMENT: Final = re.compile("//[^\n\r\u2028\u2029]*")
_NAME: Final = re.compile(r"[^\W\d]|[$_]")
_NAME_REST: Final = re.compile(r"[\w$\u200c\u200d]*")
_NUMBER: Final = re.compile(
    r"0[xX][0-9a-fA-F_]+n?|0[bB][01_]+n?|0[oO][0-7_]+n?"
    r"|(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9_]+)?n?"
)
_STRING: Final = re.compile(r""""(?:[^"\\\n\r]|\\(?:\r\n|[\s\S]))*"|'(?:[^'\\\n\r]|\\(?:\r\n|[\s\S]))*'""")
_REGEX: Final = re.compile(
    "/(?![*/])(?:[^\\\\/\\[\n\r\u2028\u2029]|\\\\[^\n\r\u2028\u2029]"
    "|\\[(?:[^\\]\\\\\n\r\u2028\u2029]|\\\\[^\n\r\u2028\u2029])*\\])+/[A-Za-z]*"
)
_MARKS: Final = re.compile(
    r">>>=|\.\.\.|===|!==|\*\*=|<<=|>>=|>>>|&&=|\|\|=|\?\?=|=>|==|!=|<=|>=|&&|\|\||\?\?|\?\.(?![0-9])|\+\+|--"
    r"|\+=|-=|\*=|/=|%=|&=|\|=|\^=|<<|>>|\*\*|[{}()\[\];,<>+\-*/%&|^!~?:=.]"
)


class NotUnderstood(ValueError):
    """This text cannot be taken apart with certainty. The text says why and in which line."""


@dataclass(frozen=True, slots=True)
class Token:
    """`text` from `start` to `end`. Of a template only its opening backtick: what is in it may hold more tokens."""

    kind: Kind
    text: str
    start: int
    end: int
    after_line_end: bool


class Scanner:
    """Reads from `at` on. Nothing is kept but the place, so a reader may go back."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.at = 0
        self._lines = [match.end() for match in _LINE_ENDS.finditer(source)]

    def line(self, place: int) -> int:
        """The line of a place, from 1."""
        low, high = 0, len(self._lines)
        while low < high:
            middle = (low + high) // 2
            if self._lines[middle] <= place:
                low = middle + 1
            else:
                high = middle
        return low + 1

    def problem(self, what: str, place: int) -> NotUnderstood:
        return NotUnderstood(f"{what} in line {self.line(place)}")

    def peek(self, *, regex: bool) -> Token:
        """The next token, which is not passed. `regex`: a `/` here begins a regular expression."""
        start, after_line_end = self._skip()
        source = self.source
        if start >= len(source):
            return Token("end", "", start, start, after_line_end)
        if _NAME.match(source, start):
            rest = _NAME_REST.match(source, start + 1)
            kind: Kind = "name"
        elif match := _NUMBER.match(source, start):
            kind, rest = "number", match
        elif source[start] in "\"'":
            kind, rest = "string", _STRING.match(source, start)
        elif source[start] == "`":
            return Token("template", "`", start, start + 1, after_line_end)
        elif source[start] == "/" and regex:
            kind, rest = "regex", _REGEX.match(source, start)
        else:
            kind, rest = "mark", _MARKS.match(source, start)
        if rest is None:
            raise self.problem(f"{source[start]!r} is not understood", start)
        end = rest.end()
        if kind == "name" and source[end : end + 1] == "\\":
            raise self.problem("an escape in a name is not understood", start)
        return Token(kind, source[start:end], start, end, after_line_end)

    def _skip(self) -> tuple[int, bool]:
        """Past space and comments: where it goes on, and whether there was an end of line."""
        at, lines, source = self.at, False, self.source
        while at < len(source):
            if match := _SPACE.match(source, at):
                pass
            elif source.startswith("//", at):
                match = _LINE_COMMENT.match(source, at)
            elif source.startswith("/*", at):
                end = source.find("*/", at + 2)
                if end < 0:
                    raise self.problem("a comment without an end", at)
                lines = lines or _LINE_ENDS.search(source, at, end) is not None
                at = end + 2
                continue
            elif source.startswith("<!--", at) or (source.startswith("-->", at) and lines):
                raise self.problem("an HTML comment", at)
            if match is None:
                break
            lines = lines or _LINE_ENDS.search(source, at, match.end()) is not None
            at = match.end()
        return at, lines
