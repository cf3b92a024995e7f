"""Server admins: those whom the config file names."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Mapping
from typing import Final

from pydantic import SecretStr

from gateway.auth.credentials import Credentials

REALM: Final = "_admin"  # no database can have this name
HASH_PREFIX: Final = "$argon2"


class Admins:
    """Checks admins. Their configured passwords are kept as keyed digests, or are argon2 hashes already."""

    def __init__(self, admins: Mapping[str, SecretStr], credentials: Credentials) -> None:
        self._credentials = credentials
        self._secret = secrets.token_bytes(32)
        self._digests: dict[str, bytes] = {}
        self._hashes: dict[str, str] = {}
        for name, password in admins.items():
            text = password.get_secret_value()
            if text.startswith(HASH_PREFIX):
                self._hashes[name] = text
            else:
                self._digests[name] = self._digest(text)
        self._nobody = secrets.token_bytes(32)

    def __bool__(self) -> bool:
        """Whether there are any; if not, the admin port asks for no login and answers this machine only."""
        return bool(self._digests or self._hashes)

    async def check(self, name: str, password: str) -> bool:
        """Whether these are the credentials of an admin. Unknown names take as long as wrong passwords.

        Raises Unavailable when too many passwords are being checked.
        """
        if hmac.compare_digest(self._digest(password), self._digests.get(name, self._nobody)):
            return True
        if not self._hashes:
            return False
        return (await self._credentials.verify(REALM, name, password, self._hashes.get(name))).ok

    def _digest(self, password: str) -> bytes:
        text = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
        return hmac.digest(self._secret, text, hashlib.sha256)
