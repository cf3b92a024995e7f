"""From a file and the environment to Settings, or to every problem at once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.auth.origins import ANY, CorsPolicy
from gateway.settings.addresses import Address, parse_address
from gateway.settings.problems import PathInFile, Problem, SettingsError, place_text
from gateway.settings.schema import LATER, ConfigFile, Context, CorsFile, DatabaseFile, ListenFile, keys_at
from gateway.settings.tree import Tree, read_tree
from gateway.settings.values import (
    EMBEDDED,
    DatabaseSettings,
    GuestSettings,
    ImportRules,
    ListenSettings,
    LoggingSettings,
    PublicSettings,
    RoleSettings,
    SessionSettings,
    Settings,
    ShutdownSettings,
    UpstreamSettings,
    UserSettings,
)

_KINDS = {
    "list_type": "must be a list, such as [one, two]",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
}


def load(
    path: Path | str, environ: Mapping[str, str], *, compile_error: Callable[[str], str | None] | None = None
) -> Settings:
    """Read the config file at `path` (YAML, or JSON when it ends with `.json`), with `${NAME}` from `environ`.

    Relative paths in it are relative to its directory. `compile_error` says what is wrong with a JavaScript source,
    or None; by default the sync function's engine is asked. Reads files: call it off the event loop.
    Raises SettingsError with all problems.
    """
    file = Path(path).absolute()
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise SettingsError(file, [Problem("", "there is no such file")]) from None
    except OSError as error:
        raise SettingsError(file, [Problem("", f"the file cannot be read: {error.strerror}")]) from None
    tree = read_tree(data, environ, is_json=file.suffix == ".json")
    if tree.value is None:
        raise SettingsError(file, tree.problems or [Problem("", "the file is empty", 1, 1)])
    problems = list(tree.problems)
    context = Context(file.parent, compile_error or _engine_compile_error)
    content: ConfigFile | None = None
    try:
        content = ConfigFile.model_validate(tree.value, context=context)
    except ValidationError as invalid:
        # What was already said of a value (an unset variable in it) makes its next problem a mere consequence.
        known = {problem.place for problem in problems}
        found = [_problem(tree, error) for error in invalid.errors(include_url=False, include_input=False)]
        problems.extend(problem for problem in found if problem.place not in known)
    if isinstance(tree.value, dict):
        problems.extend(_contradictions(tree))
    if content is None or problems:
        raise SettingsError(file, problems)
    return _settings(file, tree, content)


def _engine_compile_error(source: str) -> str | None:
    # Loads the JavaScript engine, which reading a file without a function of its own need not do.
    from gateway.syncfn.runtime import compile_error  # noqa: PLC0415

    return compile_error(source)


def _problem(tree: Tree, error: ErrorDetails) -> Problem:
    """Pydantic's error in our words. Its own messages may quote the value, which may be a secret."""
    path: PathInFile = tuple(error["loc"])
    kind = error["type"]
    if kind == "extra_forbidden":
        return tree.problem(path, _unknown_key(path), of_key=True)
    if kind == "missing":
        text = "needs a password" if path[-1] == "password" else f"`{path[-1]}` is missing"
        return tree.problem(path[:-1] if path[-1] == "password" else path, text, of_key=True)
    if path and path[-1] == "[key]":
        return tree.problem(path[:-1], _reason(error), of_key=True)
    if path == () and kind in _KINDS:
        return tree.problem(path, "the file must be a mapping of keys to values")
    return tree.problem(path, _KINDS.get(kind) or _reason(error))


def _reason(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    if "error" in context:
        return str(context["error"])
    if "expected" in context:
        return f"must be {context['expected']}"
    return error["type"].replace("_", " ")


def _unknown_key(path: PathInFile) -> str:
    name = str(path[-1])
    if ((len(path) == 3 and path[0] == "databases") or path[:-1] == ("default_database",)) and name in LATER:
        return "comes with a later version"
    known = keys_at(path[:-1])
    if close := difflib.get_close_matches(name, known, n=1):
        return f"this key is not known; did you mean `{close[0]}`?"
    return "this key is not known; here may be " + ", ".join(known)


def _contradictions(tree: Tree) -> Iterator[Problem]:
    """What only shows when two places are compared. Works on what was written, so also beside other problems."""
    yield from _listeners(tree)
    yield from _upstream_credentials(tree)
    if _section(tree.value, "public").get("allow_admins") in (True, "true") and not tree.value.get("admins"):
        yield tree.problem(("public", "allow_admins"), "there are no `admins` to be let in")
    if "upstream" in _section(tree.value, "default_database"):
        text = "each database that is made by request has an upstream database of its own name; remove this"
        yield tree.problem(("default_database", "upstream"), text)
    yield from _cors(tree, ())
    yield from _cors(tree, ("default_database",))
    seen: dict[str, str] = {}
    for name, database in _section(tree.value, "databases").items():
        written = database.get("upstream") if isinstance(database, dict) else None
        upstream = written if isinstance(written, str) else name
        if upstream in seen:
            text = f'the databases "{seen[upstream]}" and "{name}" would share the upstream database "{upstream}"'
            yield tree.problem(("databases", name, "upstream"), text)
        seen.setdefault(upstream, name)
        yield from _cors(tree, ("databases", name))


def _cors(tree: Tree, path: PathInFile) -> Iterator[Problem]:
    """Every page of the internet would act for whoever is logged in in its visitor's browser."""
    within = tree.value
    for part in path:
        within = within.get(part) if isinstance(within, dict) else None
    cors = _section(within, "cors") if isinstance(within, dict) else {}
    origins = cors.get("origins")
    if cors.get("credentials") in (True, "true") and isinstance(origins, list) and ANY in origins:
        text = 'with the origin "*" every web page could act for whoever is logged in; name the origins instead'
        yield tree.problem((*path, "cors", "credentials"), text)


def _listeners(tree: Tree) -> Iterator[Problem]:
    written = _section(tree.value, "listen")
    addresses: dict[str, Address] = {}
    for name, default in ListenFile.model_fields.items():
        address = default.default
        if name in written:
            try:
                address = parse_address(written[name]) if isinstance(written[name], str) else None
            except ValueError:
                continue
        if address is None:
            continue
        for other, taken in addresses.items():
            if address.collides_with(taken):
                text = f"`{name}` would listen on {address}, which `{other}` has taken with {taken}"
                yield tree.problem(("listen", name), text)
        addresses[name] = address
    admin = addresses.get("admin")
    if admin and not admin.is_loopback and not tree.value.get("admins"):
        text = f'{admin} can be reached from other machines; name `admins` first, or listen on "127.0.0.1:{admin.port}"'
        yield tree.problem(("listen", "admin"), text)


def _upstream_credentials(tree: Tree) -> Iterator[Problem]:
    couchdb = _section(tree.value, "couchdb")
    url, username, password = (couchdb.get(key) for key in ("url", "username", "password"))
    if isinstance(url, str) and url.startswith(EMBEDDED):
        for key in ("username", "password"):
            if couchdb.get(key) is not None:
                yield tree.problem(("couchdb", key), "the embedded upstream has no login; remove this")
    elif (username is None) != (password is None):
        given, missing = ("username", "password") if password is None else ("password", "username")
        yield tree.problem(("couchdb", given), f"`{given}` needs `{missing}` beside it")


def _section(value: Any, name: str) -> dict[str, Any]:
    section = value.get(name)
    return section if isinstance(section, dict) else {}


def _settings(file: Path, tree: Tree, content: ConfigFile) -> Settings:
    upstream, cors = content.couchdb, _policy(content.cors)
    return Settings(
        file=file,
        listen=ListenSettings(content.listen.public, content.listen.admin, content.listen.metrics),
        metadata=content.metadata,
        upstream=UpstreamSettings(upstream.url, upstream.username, upstream.password),
        admins={name: admin.password for name, admin in content.admins.items()},
        public=PublicSettings(content.public.allow_admins, content.public.sign_up),
        logging=LoggingSettings(content.logging.level),
        shutdown=ShutdownSettings(content.shutdown.drain_s),
        sessions=SessionSettings(
            content.sessions.timeout_s, content.sessions.same_site, content.sessions.secure is True
        ),
        databases={
            name: _database(file, tree, name, database, ("databases", name), cors)
            for name, database in content.databases.items()
        },
        default_database=_database(file, tree, "", content.default_database, ("default_database",), cors),
        cors=cors,
    )


def _policy(cors: CorsFile | None) -> CorsPolicy | None:
    if cors is None:
        return None
    return CorsPolicy(frozenset(cors.origins), cors.credentials, frozenset(cors.headers), cors.max_age_s)


def _database(
    file: Path, tree: Tree, name: str, database: DatabaseFile, section: PathInFile, cors: CorsPolicy | None
) -> DatabaseSettings:
    path = (*section, "sync")
    place = "the default sync function"
    if database.sync.file:
        place = str(database.sync.file)
    elif "sync" in database.model_fields_set:
        place = f"{file}:{tree.position(path)[0]} {place_text(path)}"
    return DatabaseSettings(
        name=name,
        upstream=database.upstream or name,
        sync_source=database.sync.source,
        sync_place=place,
        hide_existence=database.hide_existence,
        guest=GuestSettings(database.guest.disabled, frozenset(database.guest.admin_channels)),
        users={
            user: UserSettings(
                user, given.password, given.disabled, frozenset(given.admin_channels), frozenset(given.admin_roles)
            )
            for user, given in database.users.items()
        },
        roles={role: RoleSettings(role, frozenset(given.admin_channels)) for role, given in database.roles.items()},
        cors=_policy(database.cors) if "cors" in database.model_fields_set else cors,
        imports=ImportRules(database.import_, database.import_filter.source if database.import_filter else None),
        resync=database.resync,
    )
