"""Who makes a request, once authentication has settled it."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.auth.sessions import Session
from gateway.model.names import GUEST


@dataclass(frozen=True, slots=True)
class Caller:
    """A user of one database (`GUEST` when nobody logged in), or an administrator, for whom `user` is None.

    `login_seq` is the user's at the moment of the login: at another one the login is over. `session`: what the client's
    cookie stands for, if that was the login.
    """

    user: str | None
    admin: str | None = None
    login_seq: int | None = field(default=None, compare=False)
    session: Session | None = field(default=None, compare=False, repr=False)

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


@dataclass(frozen=True, slots=True)
class ServerLogin:
    """A user of the server who gave the password of this hash."""

    name: str
    roles: tuple[str, ...]
    password_hash: str = field(repr=False)


def administrator(name: str = "admin", session: Session | None = None) -> Caller:
    return Caller(None, name, session=session)
