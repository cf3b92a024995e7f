"""Two databases that one user cannot tell apart: in one another user works, in the other there never was one.

Everything of the other user (ids, bodies, channels, names, attachments) bears the word `zq7`, and its revisions are
known, so that a single trace of them in an answer is found. `ann` attacks, `zq7vera` is whom she must not learn of.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, unquote, unquote_plus, urlencode

import aiohttp
import httpx
from yarl import URL

from gateway.embedded.documents import inline

MARK: Final = "zq7"
ATTACKER: Final = "ann"
VICTIM: Final = "zq7vera"
OWN_ROOM: Final = "ann-room"
OTHER_ROOM: Final = "zq7room"

# Writes need access to the channels of what they replace and of what they make; so the function itself tells nothing.
SYNC: Final = """
function (doc, oldDoc) {
  if (doc.refuse) throw({forbidden: "refused"});
  if (oldDoc) requireAccess(oldDoc.channels || ["nobodys"]);
  if (doc.channels) requireAccess(doc.channels);
  channel(doc._deleted && oldDoc ? oldDoc.channels : doc.channels);
  if (doc.grants) access(doc.grants.user, doc.grants.channels);
  if (doc.role) role(doc.role.user, doc.role.name);
}
"""


def databases(names: Mapping[str, bool], *, hide_existence: bool) -> dict[str, Any]:
    """The `databases` section of a config file: name → whether the other user is there."""
    users = {ATTACKER: {"password": ATTACKER, "admin_channels": [OWN_ROOM]}, "idle": {"password": "idle"}}
    users["gone"] = {"password": "gone", "admin_channels": [OWN_ROOM], "disabled": True}
    other = {VICTIM: {"password": VICTIM, "admin_channels": [OTHER_ROOM], "admin_roles": ["zq7role"]}}
    return {
        name: {
            "sync": SYNC,
            "hide_existence": hide_existence,
            "guest": {"disabled": False},
            "users": users | other if inhabited else users,
            "roles": {"zq7role": {"admin_channels": ["zq7rolechannel"]}} if inhabited else {},
        }
        for name, inhabited in names.items()
    }


def digest(label: str) -> str:
    """A revision's digest that nothing else has."""
    return hashlib.md5(label.encode(), usedforsecurity=False).hexdigest()


def document(doc_id: str, room: str | None, *labels: str, deleted: bool = False, **members: Any) -> dict[str, Any]:
    """A document as a replicator writes it; `labels` name its revisions, the newest first."""
    doc: dict[str, Any] = {"_id": doc_id, "_rev": f"{len(labels)}-{digest(labels[0])}"}
    doc["_revisions"] = {"start": len(labels), "ids": [digest(label) for label in labels]}
    if room is not None:
        doc["channels"] = [room]
    if deleted:
        doc["_deleted"] = True
    return doc | members


def attachment(text: str) -> dict[str, str]:
    return {"content_type": "text/plain", "data": base64.b64encode(text.encode()).decode()}


def own_documents() -> list[dict[str, Any]]:
    """What the attacker may read, the same in both databases."""
    docs = [document(f"d-{at:02}", OWN_ROOM, f"own {at}", value=at) for at in range(12)]
    docs += [
        document("a-attached", OWN_ROOM, "a2", "a1", _attachments={"mine.txt": attachment("mine, twice over")}),
        document("g-gone", OWN_ROOM, "gone", "was", deleted=True),
        document("k-shared", OWN_ROOM, "shared 2", "shared 1"),
        document("m-conflict", OWN_ROOM, "left 2", "root", side="left"),
        document("m-conflict", OWN_ROOM, "right 2", "root", side="right"),
        # In the other database its first revision was the other user's. Ancestors' ids are no secret (DESIGN rule 5).
        document("n-came", OWN_ROOM, "came 2", "came 1"),
        document("p-public", "!", "public"),
    ]
    return docs


def other_documents() -> list[dict[str, Any]]:
    """The other user's: every state a document can be in."""
    room = OTHER_ROOM
    secret: dict[str, Any] = {"secret": "zq7body"}
    docs = [document(f"d-{at:02}zq7live", room, f"zq7 live {at}", **secret, at=at) for at in range(8)]
    docs += [
        document("zq7deep", room, *(f"zq7 deep {at}" for at in range(5, 0, -1)), **secret),
        document("zq7attached", room, "zq7 att", **secret, _attachments={"zq7att.txt": attachment("zq7bytes")}),
        document("d-03zq7dead", room, "zq7 dead 2", "zq7 dead 1", deleted=True, **secret),
        document("d-04zq7split", room, "zq7 split a", **secret, side="a"),
        document("d-04zq7split", room, "zq7 split b", **secret, side="b"),
        document("d-05zq7nowhere", None, "zq7 nowhere", **secret),
        document("d-06zq7role", "zq7rolechannel", "zq7 role", **secret),
        document("zq7/slash é", room, "zq7 slash", **secret),
        document("zq7grant", room, "zq7 grant", grants={"user": VICTIM, "channels": ["zq7granted"]}, **secret),
        document("zq7purged", room, "zq7 purged", **secret),
        document("k-shared", room, "zq7 shared leaf", **secret),  # loses to the attacker's branch
    ]
    return docs


# Half the attacker's: she may fetch her own branch, or had it once. Not in the other database: only marks are sought.
MIXED: Final = ("k-mixed", "m-moved")


def mixed_documents() -> list[list[dict[str, Any]]]:
    """Documents that are both users', in the order to write them."""
    secret: dict[str, Any] = {"secret": "zq7body"}
    return [
        [document("m-moved", OWN_ROOM, "moved 1"), document("k-mixed", OWN_ROOM, "mixed own leaf")],
        [
            document("m-moved", OTHER_ROOM, "zq7 moved 2", "moved 1", **secret),
            document("k-mixed", OTHER_ROOM, "zq7 mixed 2", "zq7 mixed 1", **secret),
        ],
    ]


def hidden_revisions() -> dict[str, list[str]]:
    """Every revision that the attacker must not read, by document."""
    hidden: dict[str, list[str]] = {}
    for doc in [*other_documents(), *mixed_documents()[1]]:
        start, digests = doc["_revisions"]["start"], doc["_revisions"]["ids"]
        revs = [f"{start - at}-{one}" for at, one in enumerate(digests) if one != digest("moved 1")]
        hidden.setdefault(doc["_id"], []).extend(revs)
    return hidden


HIDDEN: Final = hidden_revisions()
PACKED: Final = inline(b"zq7bytes", "text/plain").data  # as it is stored
_SECRET_BYTES: Final = (b"zq7bytes", PACKED)
_SECRET_DIGESTS: Final = {rev.partition("-")[2] for revs in HIDDEN.values() for rev in revs} | {
    hashlib.md5(data, usedforsecurity=False).hexdigest() for data in _SECRET_BYTES
}
_SECRET_TEXTS: Final = {
    base64.b64encode(text).decode()
    for data in _SECRET_BYTES
    for text in (data, hashlib.md5(data, usedforsecurity=False).digest())
}
_SECRET = re.compile("|".join(re.escape(one) for one in sorted(_SECRET_DIGESTS | _SECRET_TEXTS)))
_MARKED = re.compile(r"zq7\w*")


@dataclass(frozen=True, slots=True)
class Probe:
    """One request below `/{db}` (or above it, with `server`). Parameters may depend on the database (`since`)."""

    method: str
    path: str = ""
    parameters: Mapping[str, str | Callable[[World], str]] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    server: bool = False
    compared: bool = True  # whether both databases must answer alike

    def __str__(self) -> str:
        query = "&".join(
            f"{name}={value if isinstance(value, str) else '…'}" for name, value in self.parameters.items()
        )
        return f"{self.method} {self.path}?{query} {_shown(self.body)[:80] if self.body is not None else ''}"


@dataclass(slots=True, eq=False)
class World:
    """One database of a running gateway."""

    name: str
    public: str
    admin: str
    client: aiohttp.ClientSession  # without a login of its own
    epoch: str = ""
    last_seq: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)  # of the attacker's feed from 0

    def seq(self, at: int) -> str:
        return str(self.rows[at]["seq"])


async def fill(world: World, *, inhabited: bool) -> World:
    """Write all documents; the other user's between the attacker's."""
    async with httpx.AsyncClient(base_url=f"{world.admin}/{world.name}", timeout=60) as admin:
        own = own_documents()
        if inhabited:
            named = {"names": ["zq7member"], "roles": ["zq7staff"]}
            (await admin.put("/_security", json={"members": named, "admins": named})).raise_for_status()
            await admin.put("/_design/zq7design", json={"views": {"zq7view": {"map": "function(doc) {}"}}})
            await store(admin, [document("n-came", OTHER_ROOM, "came 1", secret="zq7body")])
            await store(admin, other_documents()[:6])
        await store(admin, own[:8])
        if inhabited:
            await store(admin, other_documents()[6:])
            for docs in mixed_documents():
                await store(admin, docs)
        await store(admin, own[8:])
        if inhabited:
            (purged,) = HIDDEN["zq7purged"]
            (await admin.post("/_purge", json={"zq7purged": [purged]})).raise_for_status()
            await _work_as_victim(world)
    async with httpx.AsyncClient(base_url=f"{world.public}/{world.name}", auth=(ATTACKER, ATTACKER)) as ann:
        answer = (await ann.get("/_changes")).json()
    world.rows = answer["results"]
    world.epoch = str(answer["last_seq"]).partition("-")[2]
    world.last_seq = int(str(answer["last_seq"]).partition("-")[0])
    return world


async def store(admin: httpx.AsyncClient, docs: list[dict[str, Any]]) -> None:
    answer = await admin.post("/_bulk_docs", json={"docs": docs, "new_edits": False})
    if answer.status_code != 201 or answer.json():
        raise AssertionError(f"the documents were not stored: {answer.text}")


async def _work_as_victim(world: World) -> None:
    async with httpx.AsyncClient(base_url=f"{world.public}/{world.name}", auth=(VICTIM, VICTIM)) as vera:
        refused = await vera.put("/zq7refused", json={"refuse": True, "secret": "zq7body"})
        if refused.status_code != 403:
            raise AssertionError(f"the document was not refused: {refused.text}")
        (await vera.put("/_local/zq7checkpoint", json={"secret": "zq7body"})).raise_for_status()
        (await vera.put("/zq7own", json={"channels": [OTHER_ROOM], "secret": "zq7body"})).raise_for_status()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and all that the request itself said."""

    status: int
    headers: Mapping[str, str]  # lower-case names
    body: bytes
    said: str

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        return json.loads(self.body)


async def ask(world: World, probe: Probe, who: str | None = ATTACKER) -> Answer:
    """Send a probe as `user` (whose password is the same word) or `user:password`, or without a login."""
    query = {name: value if isinstance(value, str) else value(world) for name, value in probe.parameters.items()}
    url = (world.public if probe.server else f"{world.public}/{world.name}") + probe.path
    if query:
        url += "?" + urlencode(query)
    headers = dict(probe.headers)
    if who is not None:
        name, _, password = who.partition(":")
        headers["Authorization"] = "Basic " + base64.b64encode(f"{name}:{password or name}".encode()).decode()
    content = None
    if probe.body is not None:
        content = probe.body if isinstance(probe.body, bytes) else json.dumps(probe.body).encode()
        headers.setdefault("Content-Type", "application/json")
    async with world.client.request(
        probe.method, URL(url, encoded=True), data=content, headers=headers, allow_redirects=False
    ) as response:
        body = await response.read()
        told = {name.lower(): value for name, value in response.headers.items()}
    said = unquote_plus(url) + _shown(probe.body) + str(probe.headers)
    return Answer(response.status, told, body, said)


def _shown(body: Any) -> str:
    return body.decode() if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False)


async def ask_all(world: World, probes: Iterable[Probe], who: str | None = ATTACKER) -> list[Answer]:
    """In order, up to sixteen at a time."""
    slots = asyncio.Semaphore(16)

    async def one(probe: Probe) -> Answer:
        async with slots:
            return await ask(world, probe, who)

    return list(await asyncio.gather(*(one(probe) for probe in probes)))


def traces(answer: Answer) -> set[str]:
    """What an answer tells of the other user that the request itself did not say."""
    told = answer.text + "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
    if "\\" in told or "%" in told:
        with contextlib.suppress(ValueError):
            told += json.dumps(answer.json(), ensure_ascii=False)
        told += unquote(told)
    found = {word for word in _MARKED.findall(told) if word not in answer.said}
    if PACKED in answer.body:
        found.add("the attachment, compressed")
    return found | {one for one in _SECRET.findall(told) if one not in answer.said}


_NUMBERS: Final = frozenset({"seq", "last_seq", "update_seq", "_local_seq", "instance_start_time"})
_KEPT_HEADERS: Final = (
    *("content-type", "etag", "allow", "www-authenticate", "cache-control", "location"),
    *("accept-ranges", "content-range", "content-encoding", "content-md5"),
)


def comparable(world: World, response: Answer) -> Any:
    """An answer without what may differ: the database's name, sequences, and boundaries of multipart."""
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    text = response.text
    kind = headers.get("content-type", "")
    for boundary in re.findall(r'boundary="([^"]+)"', kind + text):
        text = text.replace(boundary, "BOUNDARY")
    if kind.startswith("multipart/"):
        headers["content-type"] = "multipart"
    headers = {name: value.replace(f"/{world.name}/", "/DB/") for name, value in headers.items()}
    if '"last_seq":' in text:
        headers.pop("etag", None)  # of a feed: made of the last sequence, which is everybody's
    try:
        value = _without_numbers(world, json.loads(text))
    except ValueError:
        value = [_line(world, line) for line in text.splitlines()]
    return response.status, headers, value


def _line(world: World, line: str) -> Any:
    line = line.removeprefix("data: ")  # of an eventsource
    if line.startswith("id: "):
        return "NUMBER"
    try:
        return _without_numbers(world, json.loads(line))
    except ValueError:
        return line


def _without_numbers(world: World, value: Any) -> Any:
    if isinstance(value, list):
        return [_without_numbers(world, one) for one in value]
    if isinstance(value, dict):
        if "userCtx" in value and value["userCtx"].get("channels"):
            value["userCtx"]["channels"] = sorted(value["userCtx"]["channels"])
        return {name: "NUMBER" if name in _NUMBERS else _without_numbers(world, one) for name, one in value.items()}
    return "DB" if value == world.name else value


def path_of(doc_id: str) -> str:
    return "/" + quote(doc_id, safe="")
