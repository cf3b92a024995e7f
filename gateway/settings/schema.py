"""The shape of the config file. Every field turns what is written into what the gateway uses, or says why it cannot."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    ValidationInfo,
    model_validator,
)

from gateway import limits
from gateway.auth.origins import check_header_name, check_origin
from gateway.auth.passwords import configured_hash_problem
from gateway.auth.rules import password_problem
from gateway.errors import IllegalName
from gateway.model import names
from gateway.settings.addresses import Address, parse_address
from gateway.settings.problems import PathInFile
from gateway.settings.values import EMBEDDED
from gateway.syncfn.default import DEFAULT_SYNC_FUNCTION

DEFAULT_METADATA: Final = "sqlite:./data/metadata.db"

LATER: Final = {"allow_conflicts", "changes"}
"""Keys of a database that DESIGN.md names and this version does not have: refused, so that nobody relies on them."""


@dataclass(frozen=True, slots=True)
class Context:
    """What validators need beside the value: the config file's directory, and how to try out JavaScript."""

    directory: Path
    compile_error: Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class SyncFunction:
    source: str
    file: Path | None = None


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float)):
        raise ValueError("must be text; put it in quotes")
    raise ValueError("must be text")


def _flag(value: object) -> bool:
    """Text too, because `${NAME:-true}` is text."""
    if value in ("true", "false"):
        return value == "true"
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _named(check: Callable[[object], str]) -> Callable[[str], str]:
    def validate(value: str) -> str:
        try:
            return check(value)
        except IllegalName as error:
            raise ValueError(error.reason) from None

    return validate


def _user_name(value: object) -> str:
    if value == names.GUEST:
        raise IllegalName(f"{names.GUEST} is the anonymous user; what it gets stands under `guest`")
    return names.check_principal_name(value)


def _password(value: object) -> SecretStr:
    text = _text(value)
    if problem := password_problem(text):
        raise ValueError(problem)
    return SecretStr(text)


def _admin_password(value: object) -> SecretStr:
    text = _text(value)
    if text.startswith("$argon2"):
        if problem := configured_hash_problem(text):
            raise ValueError(problem)
        return SecretStr(text)
    return _password(text)


def _upstream_username(value: str) -> str:
    if not value or ":" in value:
        raise ValueError("must not be empty nor hold a colon, which HTTP Basic could not tell from the password")
    return value


def _upstream_password(value: object) -> SecretStr:
    text = _text(value)
    if not text:
        raise ValueError("must not be empty")
    return SecretStr(text)


def _address(value: object) -> Address | None:
    if not isinstance(value, str):
        raise ValueError('must be HOST:PORT in quotes, such as "127.0.0.1:4984", or "off"')
    return parse_address(value)


def _metadata(value: object, info: ValidationInfo) -> Path:
    kind, colon, rest = _text(value).partition(":")
    if kind in ("postgresql", "postgres"):
        raise ValueError("PostgreSQL comes with a later version; use sqlite:PATH")
    if kind != "sqlite" or not colon:
        raise ValueError(f'must be sqlite:PATH, such as "{DEFAULT_METADATA}"')
    if not rest or rest.startswith((":", "//")):
        raise ValueError("must name a file after sqlite:")
    path = _context(info).directory / rest
    if path.is_dir():
        raise ValueError(f"{path} is a directory; name a file in it")
    return path.resolve()


def _upstream_url(value: object, info: ValidationInfo) -> str:
    text = _text(value)
    if text.startswith(EMBEDDED):
        rest = text.removeprefix(EMBEDDED)
        if not rest or rest.startswith("//"):
            raise ValueError("must name a directory after embedded:")
        path = _context(info).directory / rest
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is not a directory")
        return EMBEDDED + str(path.resolve())
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("is no URL; its host or port is malformed") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold credentials; give `username` and `password` beside it")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or re.search(r"\s", text):
        raise ValueError("must be http://HOST:PORT, https://HOST:PORT or embedded:DIRECTORY")
    if parts.query or parts.fragment:
        raise ValueError("must not hold a query or a fragment")
    return text.rstrip("/")


def _sync(value: object, info: ValidationInfo) -> SyncFunction:
    return _function(value, info, "sync function", "; leave the key out for the default")


def _import_filter(value: object, info: ValidationInfo) -> SyncFunction:
    return _function(value, info, "import filter", "; leave the key out for none")


def _function(value: object, info: ValidationInfo, what: str, advice: str) -> SyncFunction:
    """A function of JavaScript, or the name of a file that holds one."""
    text = _text(value)
    context = _context(info)
    function = SyncFunction(text)
    if text.strip().endswith(".js") and "\n" not in text.strip():
        file = (context.directory / text.strip()).resolve()
        try:
            function = SyncFunction(file.read_bytes().decode("utf-8-sig"), file)
        except FileNotFoundError:
            raise ValueError(f"there is no file {file}") from None
        except UnicodeDecodeError:
            raise ValueError(f"{file} is not UTF-8 text") from None
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    if not function.source.strip():
        raise ValueError(f"the {what} is empty{advice}")
    if len(function.source.encode()) > limits.SYNC_FUNCTION_SOURCE_BYTES:
        raise ValueError(f"the {what} exceeds {limits.SYNC_FUNCTION_SOURCE_BYTES} bytes")
    if problem := context.compile_error(function.source):
        raise ValueError(f"{function.file or 'in the function'}: {problem}")
    return function


def _seconds(least: int, most: int) -> Callable[[object], int]:
    """Digits as text too, because `${NAME:-600}` is text."""

    def validate(value: object) -> int:
        number = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value) else value
        if type(number) is not int or not least <= number <= most:
            raise ValueError(f"must be a number of seconds from {least} to {most}")
        return number

    return validate


def _secure(value: object) -> object:
    if value not in ("auto", "true", True):
        raise ValueError("must be auto or true")
    return "auto" if value == "auto" else True


def _cors(value: object) -> object:
    """`off` is no policy, which None stands for; a key with nothing after it is none that could be meant."""
    if value in (False, "false", "off"):
        return None
    if value is not None and not isinstance(value, dict):
        raise ValueError("must be a mapping with `origins`, or off")
    return value or {}


def _origins(value: list[str]) -> list[str]:
    if not value:
        raise ValueError('must name at least one origin; "cors: off" allows none')
    return value


def _context(info: ValidationInfo) -> Context:
    if not isinstance(info.context, Context):
        raise TypeError("the config file's models need a Context")
    return info.context


# A key with nothing after it (`roles:`) is an empty mapping or list.
EmptyList = BeforeValidator(lambda value: [] if value is None else value)
EmptyMapping = BeforeValidator(lambda value: {} if value is None else value)
Flag = Annotated[bool, BeforeValidator(_flag)]
Text = Annotated[str, BeforeValidator(_text)]
SessionSeconds = Annotated[int, BeforeValidator(_seconds(limits.SESSION_SECONDS_MIN, limits.SESSION_SECONDS_MAX))]
DrainSeconds = Annotated[int, BeforeValidator(_seconds(limits.DRAIN_SECONDS_MIN, limits.DRAIN_SECONDS_MAX))]
Listener = Annotated[Address | None, PlainValidator(_address)]
DatabaseName = Annotated[Text, AfterValidator(_named(names.check_database_name))]
UserName = Annotated[Text, AfterValidator(_named(_user_name))]
PrincipalName = Annotated[Text, AfterValidator(_named(names.check_principal_name))]
ChannelName = Annotated[Text, AfterValidator(_named(names.check_channel_name))]
Channels: TypeAlias = Annotated[list[ChannelName], EmptyList]
RoleNames: TypeAlias = Annotated[list[PrincipalName], EmptyList]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_empty(cls, value: object) -> object:
        return {} if value is None else value


class ListenFile(Section):
    public: Listener = Address("127.0.0.1", 4984)
    admin: Listener = Address("127.0.0.1", 4985)
    metrics: Listener = Address("127.0.0.1", 4986)


class UpstreamFile(Section):
    url: Annotated[str, PlainValidator(_upstream_url)]
    username: Annotated[Text, AfterValidator(_upstream_username)] | None = None
    password: Annotated[SecretStr | None, BeforeValidator(_upstream_password)] = None


class AdminFile(Section):
    password: Annotated[SecretStr, BeforeValidator(_admin_password)]


class PublicFile(Section):
    allow_admins: Flag = False
    sign_up: Flag = False


class SessionsFile(Section):
    timeout_s: SessionSeconds = limits.SESSION_SECONDS
    same_site: Literal["lax", "strict", "none"] = "lax"
    secure: Annotated[Literal["auto", True], BeforeValidator(_secure)] = "auto"


class ShutdownFile(Section):
    drain_s: DrainSeconds = limits.DRAIN_SECONDS


class LoggingFile(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"


class CorsFile(Section):
    origins: Annotated[list[Annotated[Text, AfterValidator(check_origin)]], EmptyList, AfterValidator(_origins)]
    credentials: Flag = False
    headers: Annotated[list[Annotated[Text, AfterValidator(check_header_name)]], EmptyList] = []
    max_age_s: Annotated[int, BeforeValidator(_seconds(0, limits.CORS_MAX_AGE_SECONDS_MAX))] = 600


Cors: TypeAlias = Annotated[CorsFile | None, BeforeValidator(_cors)]


class GuestFile(Section):
    disabled: Flag = True
    admin_channels: Channels = []


class UserFile(Section):
    password: Annotated[SecretStr, BeforeValidator(_password)]
    disabled: Flag = False
    admin_channels: Channels = []
    admin_roles: RoleNames = []


class RoleFile(Section):
    admin_channels: Channels = []


class DatabaseFile(Section):
    upstream: DatabaseName | None = None
    sync: Annotated[SyncFunction, PlainValidator(_sync)] = SyncFunction(DEFAULT_SYNC_FUNCTION)
    import_: Annotated[Flag, Field(validation_alias="import")] = True
    import_filter: Annotated[SyncFunction | None, PlainValidator(_import_filter)] = None
    resync: Literal["manual", "automatic"] = "manual"
    hide_existence: Flag = False
    cors: Cors = None
    guest: GuestFile = Field(default_factory=GuestFile)
    users: Annotated[dict[UserName, UserFile], EmptyMapping] = {}
    roles: Annotated[dict[PrincipalName, RoleFile], EmptyMapping] = {}

    @model_validator(mode="after")
    def _nothing_to_filter(self) -> Self:
        if self.import_filter is not None and not self.import_:
            raise ValueError("takes nothing in with `import: false`; leave import_filter out")
        return self


class ConfigFile(Section):
    listen: ListenFile = Field(default_factory=ListenFile)
    metadata: Annotated[Path, PlainValidator(_metadata)] = Field(DEFAULT_METADATA, validate_default=True)
    couchdb: UpstreamFile
    admins: Annotated[dict[PrincipalName, AdminFile], EmptyMapping] = {}
    public: PublicFile = Field(default_factory=PublicFile)
    sessions: SessionsFile = Field(default_factory=SessionsFile)
    cors: Cors = None
    logging: LoggingFile = Field(default_factory=LoggingFile)
    shutdown: ShutdownFile = Field(default_factory=ShutdownFile)
    databases: Annotated[dict[DatabaseName, DatabaseFile], EmptyMapping] = {}
    default_database: DatabaseFile = Field(default_factory=DatabaseFile)


def keys_at(path: PathInFile) -> list[str]:
    """The keys that the mapping at `path` may have; none where it takes any name."""
    kind: Any = ConfigFile
    for part in path:
        if isinstance(kind, type) and issubclass(kind, Section) and part in kind.model_fields:
            kind = kind.model_fields[str(part)].annotation
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            return []
        if get_origin(kind) is UnionType:  # a section that can be switched off
            kind = next(one for one in get_args(kind) if one is not NoneType)
    if not (isinstance(kind, type) and issubclass(kind, Section)):
        return []
    return [str(field.validation_alias or name) for name, field in kind.model_fields.items()]
