"""Keys of views and values of selectors in CouchDB's order, as byte strings that compare as the keys do. Pure.

null < false < true < numbers < strings < arrays < objects
(https://docs.couchdb.org/en/stable/ddocs/views/collation.html).

CouchDB compares strings by ICU's root collation: first by letters, then by accents, then by case; the standard library
has nothing like it, so `collation.json` is that order for the characters below U+3400 as ICU tells it (data: Unicode
CLDR; written by tests/embedded/make_collation.mjs). What is not as in ICU: contractions (Thai and Lao vowels, some
Indic and Slavonic sequences), and scripts past U+3400 other than Han and Hangul, which come in the order of their code
points. Strings that differ only in characters that ICU ignores are equal.
"""

from __future__ import annotations

import json
import math
import struct
import unicodedata
from pathlib import Path
from typing import Any, Final

VERSION: Final = 1  # of the keys: stored ones compare with those of the same version only
_TABLE = Path(__file__).with_name("collation.json")
_FIRST: Final = 0x0101  # the first primary weight: two bytes, neither of them zero
_COMMON: Final = 2  # the secondary weight of a letter, below that of each accent
_END = b"\x00"
NULL, BOOLEAN, NUMBER, STRING, ARRAY, OBJECT = range(6)  # the types in their order
_NULL, _FALSE, _TRUE, _NUMBER, _STRING, _ARRAY, _OBJECT = (bytes([tag]) for tag in range(0x10, 0x17))
_HAN = ((0x4E00, 0x9FFF), (0xFA0E, 0xFA29))
# An element: primary weight, secondary weights, tertiary weights; empty where ICU has none on that level.
_Element = tuple[bytes, bytes, bytes]


def _two_bytes(number: int) -> bytes:
    high, low = divmod(number, 255)
    return bytes([_FIRST // 256 + high, 1 + low])


def _load() -> dict[str, _Element]:
    table = json.loads(_TABLE.read_text(encoding="utf-8"))
    elements: dict[str, _Element] = dict.fromkeys(table["silent"], (b"", b"", b""))
    for place, equals in enumerate(table["marks"]):
        elements |= dict.fromkeys(equals, (b"", bytes([_COMMON + 1 + place]), b"\x01"))
    for number, group in enumerate(table["order"]):
        primary = _two_bytes(number)
        for accent, equals in enumerate([group] if isinstance(group, str) else group):
            secondary = bytes([_COMMON]) if accent == 0 else bytes([_COMMON, 0xF0, accent])
            for case, character in enumerate(equals):
                elements[character] = (primary, secondary, bytes([1 + 4 * min(case, 60)]))
    for character, text in table["expansions"].items():
        parts = [elements[one] for one in text]
        primary, secondary, tertiary = (b"".join(part[level] for part in parts) for level in range(3))
        elements[character] = (primary, secondary + b"\xf1", tertiary)
    return elements


_ELEMENTS = _load()
_ASCII_LOWER = frozenset(chr(code) for code in range(32, 127) if _ELEMENTS[chr(code)][1:] == (b"\x02", b"\x01"))


def _element(character: str) -> _Element:
    """The element of a character that does not decompose."""
    found = _ELEMENTS.get(character)
    if found is not None:
        return found
    code = ord(character)
    if code == 0xFFFF:
        primary = b"\xff"
    elif any(first <= code <= last for first, last in _HAN):
        primary = b"\xf0" + _three_bytes(code)
    elif unicodedata.category(character) in ("Cn", "Cs"):
        primary = b"\xfb" + _three_bytes(code)
    elif unicodedata.category(character) in ("Mn", "Me", "Cf", "Cc"):
        return b"", b"", b""
    elif unicodedata.east_asian_width(character) == "W" and 0x20000 <= code < 0x40000:
        primary = b"\xf1" + _three_bytes(code)
    else:
        primary = b"\xe0" + _three_bytes(code)
    return primary, bytes([_COMMON]), b"\x01"


def _three_bytes(code: int) -> bytes:
    return bytes([1 + (code >> 14), 1 + (code >> 7 & 0x7F), 1 + (code & 0x7F)])


def _elements(text: str) -> list[_Element]:
    found = []
    for character in unicodedata.normalize("NFD", text):
        if character in _ELEMENTS:
            found.append(_ELEMENTS[character])
        elif (plain := unicodedata.normalize("NFKD", character)) != character:
            # A variant of other characters (`ª`, `①`, full width): told from them last of all.
            found += [
                (first, second, bytes([third[0] + 2]) if third else b"")
                for first, second, third in map(_element, plain)
            ]
        else:
            found.append(_element(character))
    return found


def _string(text: str) -> bytes:
    if _ASCII_LOWER.issuperset(text):
        return b"".join([_ELEMENTS[character][0] for character in text]) + b"\x00\x00\x00"
    elements = _elements(text)
    primary, secondary, tertiary = (b"".join([element[level] for element in elements]) for level in range(3))
    return primary + _END + secondary.rstrip(bytes([_COMMON])) + _END + tertiary.rstrip(b"\x01") + _END


def _number(value: float) -> bytes:
    try:
        number = float(value) + 0.0  # -0.0 is 0.0
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    bits = int.from_bytes(struct.pack(">d", number), "big")
    return (bits ^ (0xFFFFFFFFFFFFFFFF if bits >> 63 else 1 << 63)).to_bytes(8, "big")


def sort_key(value: Any) -> bytes:
    """Compares with the sort keys of other JSON values as CouchDB compares the values, and is equal where they are."""
    if isinstance(value, str):
        return _STRING + _string(value)
    made = bytearray()
    _append_key(value, made)
    return bytes(made)


def _append_key(value: Any, made: bytearray) -> None:
    """One frame for each level: documents are as deep as half of Python's stack."""
    if value is None:
        made += _NULL
    elif value is True:
        made += _TRUE
    elif value is False:
        made += _FALSE
    elif isinstance(value, str):
        made += _STRING + _string(value)
    elif isinstance(value, (int, float)):
        made += _NUMBER + _number(value)
    elif isinstance(value, list):
        made += _ARRAY
        for item in value:
            _append_key(item, made)
        made += _END
    else:
        made += _OBJECT
        for name, item in value.items():
            made += _STRING + _string(name)
            _append_key(item, made)
        made += _END


def rank(value: Any) -> int:
    """The place of a value's type in the order of types; booleans are one type."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, (int, float)):
        return NUMBER
    if isinstance(value, str):
        return STRING
    return ARRAY if isinstance(value, list) else OBJECT


def same_text(left: str, right: str) -> bool:
    """Equality of strings to ICU, without making keys where it can be seen at once."""
    if left == right:
        return True
    if left.isascii() and right.isascii() and left.isprintable() and right.isprintable():
        return False
    return _string(left) == _string(right)


# Erlang's order of terms: atoms between numbers and tuples (objects), then lists, then binaries.
_RAW_NUMBER, _RAW_ATOM, _RAW_OBJECT, _RAW_ARRAY, _RAW_STRING = (bytes([tag]) for tag in range(0x20, 0x25))


def raw_sort_key(value: Any) -> bytes:
    """The same for `"options": {"collation": "raw"}`."""
    if value is None or isinstance(value, bool):
        return _RAW_ATOM + {False: b"1", None: b"2", True: b"3"}[value]
    if isinstance(value, str):
        return _RAW_STRING + _raw_string(value)
    if isinstance(value, (int, float)):
        return _RAW_NUMBER + _number(value)
    if isinstance(value, list):
        return _RAW_ARRAY + b"".join(map(raw_sort_key, value)) + _END
    members = (_RAW_STRING + _raw_string(name) + raw_sort_key(item) for name, item in value.items())
    return _RAW_OBJECT + b"".join(members) + _END


def _raw_string(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass").replace(b"\x00", b"\x00\xff") + b"\x00\x01"
