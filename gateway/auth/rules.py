"""What a password may be."""

from __future__ import annotations

from gateway import limits


def password_problem(password: str) -> str | None:
    """Why this cannot become a password, or None. Never quotes it."""
    if not password:
        return "Empty passwords are not allowed"
    if len(password) < limits.PASSWORD_CHARACTERS_MIN:
        return f"a password must have at least {limits.PASSWORD_CHARACTERS_MIN} characters"
    if len(password) > limits.PASSWORD_CHARACTERS:
        return f"a password must not exceed {limits.PASSWORD_CHARACTERS} characters"
    try:
        password.encode()
    except UnicodeEncodeError:
        return "a password must be valid UTF-8"
    return None
