"""Settings as the rest of the gateway sees them: frozen, checked, complete, paths absolute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from pydantic import SecretStr

from gateway import limits
from gateway.auth.origins import CorsPolicy
from gateway.settings.addresses import Address

EMBEDDED: Final = "embedded:"


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Each listener's address, None when it is switched off."""

    public: Address | None
    admin: Address | None
    metrics: Address | None


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """`url` is `http(s)://host[:port][/path]` without credentials and last slash, or `embedded:/absolute/path`."""

    url: str
    username: str | None = None
    password: SecretStr | None = None

    @property
    def embedded(self) -> Path | None:
        """The directory of the embedded upstream, None for a CouchDB server."""
        return Path(self.url.removeprefix(EMBEDDED)) if self.url.startswith(EMBEDDED) else None


@dataclass(frozen=True, slots=True)
class PublicSettings:
    """`allow_admins`: server admins may log in on the public port too."""

    allow_admins: bool = False
    sign_up: bool = False


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """`timeout_s`: how long a session lasts without use. The cookie's `SameSite`; `secure`: over HTTPS only."""

    timeout_s: int = limits.SESSION_SECONDS
    same_site: Literal["lax", "strict", "none"] = "lax"
    secure: bool = False


@dataclass(frozen=True, slots=True)
class ShutdownSettings:
    """`drain_s`: how long requests under way may still take when the gateway is stopped."""

    drain_s: int = limits.DRAIN_SECONDS


@dataclass(frozen=True, slots=True)
class LoggingSettings:
    """`level`: debug, info, warning or error."""

    level: str = "info"


@dataclass(frozen=True, slots=True)
class GuestSettings:
    """What requests without a login get; nothing while `disabled`."""

    disabled: bool = True
    admin_channels: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class UserSettings:
    name: str
    password: SecretStr
    disabled: bool = False
    admin_channels: frozenset[str] = frozenset()
    admin_roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RoleSettings:
    name: str
    admin_channels: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ImportRules:
    """What becomes of documents that are written straight to the upstream: all are taken in, those that the filter
    takes, or none. `filter_source` is the source of a JavaScript function."""

    enabled: bool = True
    filter_source: str | None = None


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """`upstream` is the CouchDB database; `sync_place` says where `sync_source` stands, for messages and logs.

    `hide_existence`: a document that may not be read answers 404 instead of 403. `cors`: for its paths, None when it is
    off. `resync`: who begins it when another sync function is wanted.
    """

    name: str
    upstream: str
    sync_source: str
    sync_place: str
    hide_existence: bool
    guest: GuestSettings
    users: Mapping[str, UserSettings]
    roles: Mapping[str, RoleSettings]
    cors: CorsPolicy | None = None
    imports: ImportRules = ImportRules()
    resync: Literal["manual", "automatic"] = "manual"


@dataclass(frozen=True, slots=True)
class Settings:
    """`metadata` is the file of the SQLite metadata store; its directory may not exist yet.

    `default_database` is what databases made by request are like; its names mean nothing. `cors`: for the paths that
    belong to no database.
    """

    file: Path
    listen: ListenSettings
    metadata: Path
    upstream: UpstreamSettings
    admins: Mapping[str, SecretStr]
    public: PublicSettings
    logging: LoggingSettings
    databases: Mapping[str, DatabaseSettings]
    default_database: DatabaseSettings
    sessions: SessionSettings = SessionSettings()
    cors: CorsPolicy | None = None
    shutdown: ShutdownSettings = ShutdownSettings()

    def created(self, name: str) -> DatabaseSettings:
        """The settings of a database that an administrator makes by request."""
        return replace(self.default_database, name=name, upstream=name)
