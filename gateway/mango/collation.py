"""CouchDB's order of JSON values (couch_ejson_compare), with strings near ICU's root collation.

null < false < true < numbers < strings < arrays < objects; objects by their members in the order they are written. ICU
compares strings by letters first, then by accents, then by case, small before capital, and does not see control
characters. Not told apart as ICU does: contractions, and the order among letters of less common scripts.
(https://docs.couchdb.org/en/stable/ddocs/views/collation.html, https://www.unicode.org/reports/tr35/tr35-collation.html)
"""

from __future__ import annotations

import unicodedata
from typing import Any, Final, TypeAlias

Key: TypeAlias = tuple[Any, ...]
"""Compares and hashes as the value it was made of; the first member is the rank of the type."""

NULL, BOOLEAN, NUMBER, STRING, ARRAY, OBJECT = range(6)
_END, _MEMBER = -1, 0  # what is shorter comes first

_ASCII = "\t\n\v\f\r _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$0123456789"
_WHITESPACE = frozenset("\t\n\v\f\r\x85")
_EXPANDED: Final = {"æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE"}
_STROKES: Final = {"ø": "o\u0338", "Ø": "O\u0338", "đ": "d\u0335", "Đ": "D\u0335", "ł": "l\u0335", "Ł": "L\u0335"}
_DECOMPOSED: Final = str.maketrans(_EXPANDED | _STROKES)
_KEPT_BELOW = 0x3000  # weights of characters beyond it are not kept


def rank(value: Any) -> int:
    """The place of a value's type in the order of types."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, (int, float)):
        return NUMBER
    if isinstance(value, str):
        return STRING
    return ARRAY if isinstance(value, list) else OBJECT


def key(value: Any) -> Key:
    """A sort key; equal for what CouchDB holds to be equal, also between 1 and 1.0, never between 1 and true."""
    if isinstance(value, str):
        return (STRING, *text_key(value))
    made: list[Any] = []
    _append_key(value, made)
    return tuple(made)


def _append_key(value: Any, made: list[Any]) -> None:
    """Flat, whatever the value holds: tuples in tuples could not be compared as deep as documents are nested."""
    if isinstance(value, str):
        made += (STRING, *text_key(value))
    elif value is None:
        made.append(NULL)
    elif isinstance(value, bool):
        made += (BOOLEAN, value)
    elif isinstance(value, (int, float)):
        made += (NUMBER, value)
    elif isinstance(value, list):
        made.append(ARRAY)
        for item in value:
            _append_key(item, made)
        made.append(_END)
    else:
        made.append(OBJECT)
        for name, item in value.items():
            made += (_MEMBER, *text_key(name))
            _append_key(item, made)
        made.append(_END)


def text_key(text: str) -> tuple[str, str, str]:
    """(letters, accents, case) of a string."""
    if text.isascii():
        return text.translate(_PRIMARY), "", text.translate(_CASE)
    plain, accents, case = [], [], []
    canonical = unicodedata.normalize("NFD", text)
    decomposed = unicodedata.normalize("NFKD", canonical.translate(_DECOMPOSED))
    for char in decomposed:
        if unicodedata.combining(char):
            accents.append(char)
            continue
        weight = _PRIMARY[ord(char)]
        if weight:
            plain.append(weight)
            accents.append(" ")
            case.append(_CASE[ord(char)])
    if decomposed != canonical:
        case.append("2")  # a compatibility variant comes after its plain form
    return "".join(plain), "".join(accents).rstrip(" "), "".join(case)


def same_text(left: str, right: str) -> bool:
    """Equality of strings to ICU, without making keys where that can be seen at once."""
    if left == right:
        return True
    if left.isascii() and right.isascii() and left.isprintable() and right.isprintable():
        return False
    return text_key(left) == text_key(right)


class _Primary(dict[int, str]):
    """Code point → its weight by letter: the group of its kind and its place there. Empty for what ICU ignores."""

    def __missing__(self, code: int) -> str:
        weight = _weight(chr(code))
        if code < _KEPT_BELOW:
            self[code] = weight
        return weight


def _weight(char: str) -> str:
    place = _ASCII.find(char)
    category = unicodedata.category(char)
    if category in ("Cc", "Cf") and char not in _WHITESPACE:
        return ""
    if place >= 0 and category != "Nd":
        return _in_group(category, char) + chr(place + 1)
    if (digit := unicodedata.digit(char, None)) is not None:
        return "5" + chr(digit + 1)
    if category.startswith(("L", "M")):
        folded = char.casefold()
        return "".join(("7" if _is_han(one) else "6") + one for one in folded)
    return _in_group(category, char) + char


def _in_group(category: str, char: str) -> str:
    if category.startswith("Z") or char in _WHITESPACE:
        return "1"
    if category == "Sc":
        return "4"
    if category.startswith("N"):
        return "5"
    return "2" if category.startswith("P") else "3"


def _is_han(char: str) -> bool:
    return "\u3400" <= char <= "\u9fff" or "\uf900" <= char <= "\ufaff" or "\U00020000" <= char <= "\U0003ffff"


class _Case(dict[int, str]):
    def __missing__(self, code: int) -> str:
        char = chr(code)
        mark = "1" if char.isupper() or char.istitle() else "0"
        if not _PRIMARY[code]:
            mark = ""
        if code < _KEPT_BELOW:
            self[code] = mark
        return mark


_PRIMARY: Final = _Primary()
_CASE: Final = _Case()
