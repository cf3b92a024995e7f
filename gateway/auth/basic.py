"""`Authorization: Basic` (RFC 7617, always UTF-8)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Final

from gateway import limits
from gateway.errors import InvalidLogin

HEADER_CHARACTERS: Final = 4 * (limits.NAME_BYTES + 1 + 4 * limits.PASSWORD_CHARACTERS) // 3 + 64


@dataclass(frozen=True, slots=True)
class BasicCredentials:
    name: str
    password: str = field(repr=False)


def parse_basic(header: str | None) -> BasicCredentials | None:
    """Name and password of an `Authorization` header; None when there is no header.

    Raises InvalidLogin for anything else, also another scheme: a client that sends a login must not be served as the
    guest because we do not understand it. Nothing longer than a name and a password may be is decoded or hashed.
    """
    if header is None:
        return None
    scheme, _, token = header.strip(" \t").partition(" ")
    token = token.strip(" \t")
    if scheme.lower() != "basic" or len(token) > HEADER_CHARACTERS:
        raise InvalidLogin
    try:
        text = base64.b64decode(token.encode("ascii"), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeError):
        raise InvalidLogin from None
    name, colon, password = text.partition(":")
    if not colon or not name or len(name.encode()) > limits.NAME_BYTES or len(password) > limits.PASSWORD_CHARACTERS:
        raise InvalidLogin
    if any(character < " " or character == "\x7f" for character in text):
        raise InvalidLogin
    return BasicCredentials(name, password)
