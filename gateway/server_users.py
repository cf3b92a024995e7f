"""Users of the server, as CouchDB's `_users` has them (https://docs.couchdb.org/en/stable/intro/security.html).

A document `org.couchdb.user:NAME` is a user of each database whose `_security` names it or one of its roles, and there
alone. CouchDB's checks of such documents are a validation function of `_users`: they are 403, in its words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway import limits
from gateway.auth.credentials import Credentials
from gateway.auth.passwords import Passwords
from gateway.auth.rules import password_problem
from gateway.callers import ServerLogin
from gateway.database import Database
from gateway.errors import BadRequest, Conflict, Deleted, Forbidden, IllegalName, NotFound, TooLarge
from gateway.json_text import encode
from gateway.model.names import GUEST, check_principal_name
from gateway.model.revisions import next_rev
from gateway.store.protocol import MetadataStore, ServerUser

PREFIX: Final = "org.couchdb.user:"
_REALM: Final = "_users"  # no database has this name
SCHEME: Final = "argon2id"
_HASHES: Final = ("derived_key", "salt", "iterations", "pbkdf2_prf", "password_sha")


class ServerUsers:
    """All documents of `_users`."""

    def __init__(
        self,
        store: MetadataStore,
        passwords: Passwords,
        credentials: Credentials,
        serving: Mapping[str, Database],
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._credentials = credentials
        self._serving = serving

    async def get(self, doc_id: str, rev: str | None = None) -> dict[str, Any]:
        """The document, without anything of the password. Raises NotFound, Deleted."""
        user = await self._store.server_user(_name_of(doc_id))
        if user is None or rev not in (None, user.rev):
            raise NotFound
        if user.deleted and rev is None:
            raise Deleted
        return _shown(user)

    async def all(self) -> list[dict[str, Any]]:
        """Every document, by id."""
        return [_shown(user) for user in await self._store.server_users()]

    async def login(self, name: str, password: str) -> ServerLogin | None:
        """The user whose password this is, a member of any database or not.

        Takes as long for a name that is not there. Raises Unavailable when too many passwords are being checked.
        """
        user = await self._store.server_user(name)
        stored = user.password if user is not None and not user.deleted else None
        verdict = await self._credentials.verify(_REALM, name, password, stored)
        return _login(user) if verdict.ok else None

    async def resume(self, name: str, password_hash: str) -> ServerLogin | None:
        """The user who had this hash of a password at the login, if it is still the one."""
        found = _login(await self._store.server_user(name))
        return found if found is not None and found.password_hash == password_hash else None

    async def put(self, doc: Mapping[str, Any]) -> str:
        """Store a document with its `_id`; the new revision. When it is answered, every database goes by it.

        Raises Forbidden for what CouchDB's validation refuses, BadRequest, Conflict, TooLarge.
        """
        doc_id, parent = doc.get("_id"), doc.get("_rev")
        name = _name_of(doc_id if isinstance(doc_id, str) else "")
        before = await self._store.server_user(name)
        over = _replaced(before, parent)
        if doc.get("_deleted") is True:
            if before is None or before.deleted:
                raise NotFound
            return await self._store_user(ServerUser(name, next_rev(over, {}, deleted=True), True, {}, None), over)
        body = _checked(doc, name)
        password = before.password if before is not None and not before.deleted else None
        if "password" in doc:
            password = await self._hash(doc["password"])
        user = ServerUser(name, next_rev(over, dict(body), deleted=False), False, body, password)
        return await self._store_user(user, over)

    async def _store_user(self, user: ServerUser, over: str | None) -> str:
        await self._store.put_server_user(user, over)
        for database in list(self._serving.values()):
            try:
                await database.settle_members(user.name)
            except NotFound:
                continue  # the database was deleted just now
        return user.rev

    async def _hash(self, password: object) -> str:
        if not isinstance(password, str):
            raise BadRequest("password must be a string")
        if problem := password_problem(password):
            raise BadRequest(problem)
        return await self._passwords.hash_password(password)


def _login(user: ServerUser | None) -> ServerLogin | None:
    if user is None or user.deleted or user.password is None:
        return None
    return ServerLogin(user.name, tuple(user.body.get("roles", ())), user.password)


def _name_of(doc_id: str) -> str:
    return doc_id.removeprefix(PREFIX) if doc_id.startswith(PREFIX) else ""


def _replaced(before: ServerUser | None, parent: object) -> str | None:
    """The revision that a write replaces: the one it names, or of a deleted document the last. Raises Conflict."""
    if before is None:
        if parent is not None:
            raise Conflict
        return None
    if parent != before.rev and not (before.deleted and parent is None):
        raise Conflict
    return before.rev


def _checked(doc: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What is kept of a document. Raises Forbidden, BadRequest, TooLarge."""
    roles = doc.get("roles")
    refusals = (
        (doc.get("type") != "user", "doc.type must be user"),
        (not doc.get("name"), "doc.name is required"),
        (not isinstance(roles, list) and not roles, "doc.roles must exist"),
        (not isinstance(roles, list), "doc.roles must be an array"),
        (not all(isinstance(role, str) for role in roles or ()), "doc.roles can only contain strings"),
        (not name or doc.get("name") != name, "Doc ID must be of the form org.couchdb.user:name"),
        (any(role.startswith("_") for role in roles or () if isinstance(role, str)),
         "No system roles (starting with underscore) in users db."),
        (name.startswith("_"), "Username may not start with underscore."),
        (":" in name, "Character `:` is not allowed in usernames."),
    )  # fmt: skip
    for is_so, reason in refusals:
        if is_so:
            raise Forbidden(reason)
    try:
        check_principal_name(name)
    except IllegalName as error:
        raise Forbidden(error.reason) from None
    if name == GUEST:
        raise Forbidden(f"{GUEST} is the name of the anonymous user")
    if any(member in doc for member in _HASHES) or doc.get("password_scheme", SCHEME) != SCHEME:
        raise BadRequest("a hash of a password cannot be taken over: give the password")
    for member in doc:
        if member.startswith("_") and member not in ("_id", "_rev", "_deleted"):
            raise BadRequest(f"{member} cannot be stored in _users here")
    body = {
        key: value
        for key, value in doc.items()
        if not key.startswith("_") and key not in ("password", "password_scheme")
    }
    if len(encode(body)) > limits.SERVER_USER_BYTES:
        raise TooLarge(f"a document of _users may have {limits.SERVER_USER_BYTES} bytes (limit SERVER_USER_BYTES)")
    return body


def _shown(user: ServerUser) -> dict[str, Any]:
    head = {"_id": PREFIX + user.name, "_rev": user.rev}
    if user.deleted:
        return {**head, "_deleted": True}
    return {**head, **user.body, **({"password_scheme": SCHEME} if user.password is not None else {})}
