"""Every way to write, pointed at documents the writer may not see: what the answers tell, and what it does to them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.protocol.attack import HIDDEN, OWN_ROOM, VICTIM, Probe, digest, path_of

# Left out: what is not there any more may be created anew by anybody, and is then no secret.
TARGETS: Final = {doc_id: revs for doc_id, revs in HIDDEN.items() if doc_id != "zq7purged"}
WRONG: Final = "1-" + "0" * 32
_STUB: Final = {
    "content_type": "text/plain",
    "revpos": 1,
    "digest": "md5-" + base64.b64encode(hashlib.md5(b"zq7bytes", usedforsecurity=False).digest()).decode(),
    "length": 8,
    "stub": True,
}


def stubs() -> list[dict[str, Any]]:
    """Ways to name the other's attachment without having it."""
    forms: list[dict[str, Any]] = [_STUB, {"stub": True}, {**_STUB, "stub": False, "follows": True}]
    return [*forms, {"digest": _STUB["digest"], "length": 8}, {**_STUB, "stub": "true"}, {**_STUB, "stub": 1}]


def stolen(doc_id: str, rev: str) -> list[dict[str, Any]]:
    """Documents that would bring `rev` of the other user into the attacker's channel."""
    mine: dict[str, Any] = {"_id": doc_id, "channels": [OWN_ROOM]}
    return [mine, {**mine, "_rev": rev}, {**mine, "_rev": WRONG}, {**mine, "_rev": rev, "_deleted": True}]


def branches(doc_id: str, rev: str) -> list[dict[str, Any]]:
    """The same as a replicator writes: the revision itself with another body, a child of it, a branch beside it."""
    number, _, known = rev.partition("-")
    mine: dict[str, Any] = {"_id": doc_id, "channels": [OWN_ROOM]}
    child = {"start": int(number) + 1, "ids": [digest(f"child of {rev}"), known]}
    return [
        {**mine, "_rev": rev},
        {**mine, "_rev": f"{child['start']}-{digest(f'child of {rev}')}", "_revisions": child},
        {**mine, "_rev": f"9-{digest(f'beside {rev}')}"},
        {**mine, "_rev": f"9-{digest(f'end of {rev}')}", "_deleted": True},
    ]


def _put() -> list[Probe]:
    probes: list[Probe] = []
    for doc_id, revs in TARGETS.items():
        for rev in revs:
            probes += [Probe("PUT", path_of(doc_id), body=doc) for doc in stolen(doc_id, rev)]
            probes += [Probe("PUT", path_of(doc_id), {"new_edits": "false"}, doc) for doc in branches(doc_id, rev)]
            body = {"channels": [OWN_ROOM]}
            probes.append(Probe("PUT", path_of(doc_id), body=body, headers={"If-Match": f'"{rev}"'}))
            probes.append(Probe("PUT", path_of(doc_id), {"rev": rev, "batch": "ok"}, body))
    for stub in stubs():
        for doc_id in ("d-01", "zq7attached"):
            doc = {"_id": doc_id, "channels": [OWN_ROOM], "_attachments": {"zq7att.txt": stub}}
            probes.append(Probe("PUT", path_of(doc_id), {"rev": TARGETS.get(doc_id, [WRONG])[0]}, doc))
            probes.append(Probe("PUT", path_of(doc_id), {"new_edits": "false"}, {**doc, "_rev": f"7-{'c' * 32}"}))
    return probes


def related(doc: Mapping[str, Any], data: bytes) -> bytes:
    """A document and one attachment behind it, as multipart/related with the boundary `x`."""
    head = b"--x\r\nContent-Type: application/json\r\n\r\n" + json.dumps(doc).encode()
    return head + b"\r\n--x\r\n\r\n" + data + b"\r\n--x--"


def _put_related() -> list[Probe]:
    headers = {"Content-Type": "multipart/related; boundary=x"}
    mine = {"follows": True, "content_type": "text/plain", "length": 4}
    probes: list[Probe] = []
    for doc_id in ("zq7attached", "zq7deep", "k-shared", "d-03zq7dead"):
        for rev in (*TARGETS[doc_id], WRONG):
            for attachments in ({"new.txt": mine}, {"new.txt": mine, "zq7att.txt": _STUB}):
                doc = {"channels": [OWN_ROOM], "_rev": rev, "_attachments": attachments}
                body = related(doc, b"mine")
                ways: tuple[dict[str, str], ...] = ({}, {"new_edits": "false"})
                probes += [Probe("PUT", path_of(doc_id), parameters, body, headers) for parameters in ways]
    return probes


def _bulk() -> list[Probe]:
    edits = [doc for doc_id, revs in TARGETS.items() for rev in revs for doc in stolen(doc_id, rev)]
    replicated = [doc for doc_id, revs in TARGETS.items() for rev in revs for doc in branches(doc_id, rev)]
    others = [
        {"_id": "_design/zq7design", "views": {}},
        {"_id": "_design/zq7new"},
        {"_id": "zq7refused", "refuse": True},
    ]
    return [
        Probe("POST", "/_bulk_docs", body={"docs": [*edits, *others]}),
        Probe("POST", "/_bulk_docs", body={"docs": replicated, "new_edits": False}),
    ]


def _delete() -> list[Probe]:
    probes: list[Probe] = []
    for doc_id, revs in TARGETS.items():
        for rev in (*revs, WRONG):
            probes.append(Probe("DELETE", path_of(doc_id), {"rev": rev}))
            probes.append(Probe("DELETE", path_of(doc_id), headers={"If-Match": rev}))
        probes.append(Probe("DELETE", path_of(doc_id)))
    return probes


def _attachment(method: str) -> list[Probe]:
    body: dict[str, Any] | None = {} if method == "PUT" else None
    probes = [Probe(method, f"{path_of('zq7attached')}/zq7att.txt", body=body)]
    for doc_id in ("zq7attached", "zq7deep", "k-shared", "d-03zq7dead"):
        for rev in (*TARGETS[doc_id], WRONG):
            probes.append(Probe(method, f"{path_of(doc_id)}/zq7att.txt", {"rev": rev}, body))
            probes.append(Probe(method, f"{path_of(doc_id)}/new.txt", {"rev": rev}, body))
    return probes


def _post() -> list[Probe]:
    return [Probe("POST", body=doc) for doc_id, revs in TARGETS.items() for rev in revs for doc in stolen(doc_id, rev)]


def _copy() -> list[Probe]:
    """Hidden documents to places of the attacker's own, and hers over hidden ones."""
    probes: list[Probe] = []
    for doc_id, revs in TARGETS.items():
        mine = {"Destination": "copied"}
        probes.append(Probe("COPY", path_of(doc_id), headers=mine))
        for rev in (*revs, WRONG):
            probes.append(Probe("COPY", path_of(doc_id), {"rev": rev}, headers=mine))
            probes.append(Probe("COPY", path_of(doc_id), headers={**mine, "If-Match": rev}))
            target = path_of(doc_id).removeprefix("/")
            probes.append(Probe("COPY", "/d-01", headers={"Destination": f"{target}?rev={rev}"}))
            probes.append(Probe("COPY", "/d-01", headers={"Destination": target}))
    others = ("_design/zq7design", "_design/new", "_local/zq7checkpoint", "_local/zq7checkpoint?rev=0-1")
    return probes + [Probe("COPY", "/d-01", headers={"Destination": target}) for target in others]


def _local(method: str, path: str) -> list[Probe]:
    body = {"mine": True} if method == "PUT" else None
    return [Probe(method, path, one, body) for one in ({}, {"rev": "0-1"})]


def _logins(*, server: bool) -> list[Probe]:
    """As somebody who may be there or not."""
    names = (VICTIM, "nobody", "idle", "gone", "GUEST", "zq7role", "")
    bodies: list[dict[str, Any]] = [{"name": name, "password": password} for name in names for password in ("x", "")]
    return [Probe("POST", "/_session", body=body, server=server) for body in [*bodies, {}, {"name": VICTIM}]]


WRITES: Final[Mapping[tuple[str, str], Callable[[], list[Probe]]]] = {
    ("POST", "/_session"): lambda: _logins(server=True),
    ("DELETE", "/_session"): lambda: [Probe("DELETE", "/_session", server=True)],
    ("POST", "/{db}/_session"): lambda: _logins(server=False),
    ("DELETE", "/{db}/_session"): lambda: [Probe("DELETE", "/_session"), Probe("DELETE", "/_session", {"next": "//x"})],
    ("PUT", "/{db}"): lambda: [Probe("PUT")],
    ("DELETE", "/{db}"): lambda: [Probe("DELETE"), Probe("DELETE", parameters={"rev": WRONG})],
    ("POST", "/{db}"): _post,
    ("POST", "/{db}/_bulk_docs"): _bulk,
    ("PUT", "/{db}/_local/{id}"): lambda: _local("PUT", "/_local/zq7checkpoint"),
    ("DELETE", "/{db}/_local/{id}"): lambda: _local("DELETE", "/_local/zq7checkpoint"),
    ("PUT", "/{db}/_local"): lambda: _local("PUT", "/_local"),
    ("DELETE", "/{db}/_local"): lambda: _local("DELETE", "/_local"),
    ("PUT", "/{db}/_local/{id}/{attachment...}"): lambda: _local("PUT", "/_local/zq7checkpoint/zq7att.txt"),
    ("DELETE", "/{db}/_local/{id}/{attachment...}"): lambda: _local("DELETE", "/_local/zq7checkpoint/zq7att.txt"),
    ("COPY", "/{db}/_local/{id}"): lambda: [
        Probe("COPY", "/_local/zq7checkpoint", headers={"Destination": target}) for target in ("_local/mine", "mine")
    ],
    ("COPY", "/{db}/{doc}"): _copy,
    ("PUT", "/{db}/{doc}"): lambda: [*_put(), *_put_related()],
    ("DELETE", "/{db}/{doc}"): _delete,
    ("PUT", "/{db}/{doc}/{attachment...}"): lambda: _attachment("PUT"),
    ("DELETE", "/{db}/{doc}/{attachment...}"): lambda: _attachment("DELETE"),
}
