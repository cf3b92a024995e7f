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
    if not colon or not is_login(name, password):
        raise InvalidLogin
    return BasicCredentials(name, password)


def is_login(name: str, password: str) -> bool:
    """Whether these can be anybody's name and password, as far as their lengths and characters go."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    if not name or size > limits.NAME_BYTES or len(password) > limits.PASSWORD_CHARACTERS:
        return False
    return not any(character < " " or character == "\x7f" for character in name + password)
