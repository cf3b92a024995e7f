"""Names of users, roles, channels and databases: what is allowed, and a sentence about what is not."""

from __future__ import annotations

import re

from gateway import limits
from gateway.errors import DatabaseNameTooLong, IllegalDatabaseName, IllegalName

PUBLIC_CHANNEL = "!"
ALL_CHANNELS = "*"
GUEST = "GUEST"
DATABASE_NAME_CHARACTERS = 238  # what CouchDB's file names leave of 255

_DATABASE = re.compile(r"[a-z][a-z0-9_$()+/-]*\Z")


def check_principal_name(name: object) -> str:
    """The name of a user or role, or IllegalName with every problem it has (Sync Gateway's rules)."""
    if not isinstance(name, str):
        raise IllegalName("invalid name: must be a string")
    problems = []
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise IllegalName("invalid name: must be valid UTF-8") from None
    if size > limits.NAME_BYTES:
        problems.append(f"length exceeds {limits.NAME_BYTES} bytes")
    if not any(character.isalnum() for character in name):
        problems.append("must contain at least one letter or number")
    if bad := sorted({character for character in name if character in "/:,`"}):
        problems.append("must not contain " + " ".join(bad))
    if any(character < " " or character == "\x7f" for character in name):
        problems.append("must not contain control characters")
    if problems:
        raise IllegalName("invalid name: " + ", ".join(problems))
    return name


def channel_problem(name: object) -> str | None:
    """Why this is no channel name, or None."""
    if not isinstance(name, str):
        return "a channel name must be a string"
    if not name:
        return "a channel name must not be empty"
    if "," in name:
        return f'Illegal channel name "{name}": must not contain a comma'
    try:
        if len(name.encode()) > limits.CHANNEL_NAME_BYTES:
            return f"a channel name must not exceed {limits.CHANNEL_NAME_BYTES} bytes"
    except UnicodeEncodeError:
        return "a channel name must be valid UTF-8"
    return None


def check_channel_name(name: object) -> str:
    """The channel name, or IllegalName."""
    if problem := channel_problem(name):
        raise IllegalName(problem)
    return str(name)


def check_new_database_name(name: str) -> str:
    """The name of a database to be made, or the errors that CouchDB has for `PUT /{db}`."""
    if _DATABASE.match(name) and len(name) > DATABASE_NAME_CHARACTERS:
        raise DatabaseNameTooLong(f"At least one path segment of `{name}` is too long.")
    try:
        return check_database_name(name)
    except IllegalName as error:
        raise IllegalDatabaseName(error.reason) from None


def check_database_name(name: object) -> str:
    """A database name by CouchDB's rule (https://docs.couchdb.org/en/stable/api/database/common.html#put--db)."""
    if not isinstance(name, str) or not _DATABASE.match(name) or len(name) > DATABASE_NAME_CHARACTERS:
        raise IllegalName(
            f"Name: '{name}'. Only lowercase characters (a-z), digits (0-9), and any of the characters "
            "_, $, (, ), +, -, and / are allowed. Must begin with a letter."
        )
    return name
