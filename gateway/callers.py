"""Who makes a request, once authentication has settled it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model.names import GUEST


@dataclass(frozen=True, slots=True)
class Caller:
    """A user of one database (`GUEST` when nobody logged in), or an administrator, for whom `user` is None."""

    user: str | None
    admin: str | None = None

    @property
    def is_admin(self) -> bool:
        return self.user is None

    @property
    def is_guest(self) -> bool:
        return self.user == GUEST

    @property
    def namespace(self) -> str:
        """The owner of this caller's `_local` documents."""
        return f"user:{self.user}" if self.user is not None else f"admin:{self.admin}"


def administrator(name: str = "admin") -> Caller:
    return Caller(None, name)
