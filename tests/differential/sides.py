"""The two servers that are compared: what is sent to each, and what of its answers counts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import httpx

from tests.differential.requests import UNKNOWN, Ask, Made, Seq

_OWN: Final = {"seq", "last_seq", "pending", "update_seq", "purge_seq", "_local_seq"}  # each server has its own
_ETAGS: Final = {"GET"}
_DIGEST: Final = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


@dataclass(frozen=True, slots=True)
class Told:
    """What of an answer has to be the same."""

    status: int
    body: Any
    etag: str | None


@dataclass(slots=True)
class Side:
    """One database on one server. `lookalike`: one of the two computes revision ids of its own, and words its errors as
    it likes. So the digests of the revisions that a server made are named by the write, and reasons do not count."""

    http: httpx.Client
    database: str
    lookalike: bool = False
    names: dict[str, str] = field(default_factory=dict)  # of the digests that this server made
    made: dict[str, list[str]] = field(default_factory=dict)
    seqs: list[str] = field(default_factory=list)

    def ask(self, ask: Ask) -> Told:
        path = "/".join([self.database, *(_quoted(part) for part in ask.path)])
        params = {name: self._param(value) for name, value in ask.params}
        content, headers = ask.raw, {"Accept": "application/json"}
        if ask.raw is not None:
            headers["Content-Type"] = "text/plain"
        elif ask.body is not None:
            content = json.dumps(self._own(ask.body)).encode()
            headers["Content-Type"] = "application/json"
        answer = self.http.request(ask.method, f"/{path}", params=params, content=content, headers=headers)
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        body: Any = answer.json() if is_json else answer.content
        if is_json:
            self._learn(ask, answer.status_code, body)
        etag = answer.headers.get("etag") if ask.method in _ETAGS and answer.status_code == 200 else None
        if len(ask.path) != 1 or ask.path[0].startswith("_"):
            etag = None  # of lists: opaque
        return Told(answer.status_code, self._normal(body, ask), etag and self._named(etag))

    def leaves(self, id: str) -> dict[str, bool]:
        """Of each revision of a document that has no successor, whether it is a deletion; none where it is unknown."""
        headers = {"Accept": "application/json"}
        path, params = f"/{self.database}/{_quoted(id)}", {"open_revs": "all"}
        answer = self.http.get(path, params=params, headers=headers)
        told = answer.json() if answer.status_code == 200 else []
        return {found["ok"]["_rev"]: bool(found["ok"].get("_deleted")) for found in told}

    def _param(self, value: Any) -> str:
        value = self._own(value)
        return value if isinstance(value, str) else json.dumps(value)

    def revision(self, value: Made | str) -> str:
        """The server's own text for a revision in a request."""
        return str(self._own(value))

    def made_here(self, rev: str) -> bool:
        """Whether the server has computed this id."""
        return rev.partition("-")[2] in self.names

    def _own(self, value: Any) -> Any:
        """With the server's own revisions and sequences."""
        if isinstance(value, Made):
            made = self.made.get(value.id)
            return made[value.number] if made else UNKNOWN
        if isinstance(value, Seq):
            return self.seqs[value.number] if len(self.seqs) >= abs(value.number) else "0"
        if isinstance(value, dict):
            return {name: self._own(member) for name, member in value.items()}
        if isinstance(value, list):
            return [self._own(member) for member in value]
        return value

    def _learn(self, ask: Ask, status: int, body: Any) -> None:
        filtered = any(name == "filter" for name, _ in ask.params)  # pouchdb-server: up to the last row that fits
        if isinstance(body, dict) and "last_seq" in body and not (self.lookalike and filtered):
            self.seqs.append(str(body["last_seq"]))
        if status not in (200, 201) or ask.method == "GET" or ask.path[0] == "_local":
            return
        results = body if ask.path == ("_bulk_docs",) else [body]
        for result in results:
            if isinstance(result, dict) and "rev" in result and "id" in result:
                made = self.made.setdefault(result["id"], [])
                if self.lookalike:
                    self.names[result["rev"].partition("-")[2]] = f"{result['id']}#{len(made)}"
                made.append(result["rev"])

    def _normal(self, value: Any, ask: Ask) -> Any:
        value = self._stripped(value)
        if ask.path == ("_changes",) and isinstance(value, dict) and "results" in value:
            value["results"].sort(key=lambda row: row["id"])  # no order across documents: CouchDB has shards
        if ask.path == ("_revs_diff",) and isinstance(value, dict):
            for entry in value.values():
                if isinstance(entry, dict):
                    for revs in entry.values():
                        revs.sort()
        if ("open_revs", "all") in ask.params and isinstance(value, list):
            value.sort(key=lambda found: json.dumps(found, sort_keys=True))
        return value

    def _stripped(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            # An error of the gateway has a code of its own, too.
            own = {*_OWN, "code"} if "error" in value else _OWN
            if self.lookalike and "error" in value:
                own = {*own, "reason"}
            return {name: self._stripped(member) for name, member in value.items() if name not in own}
        if isinstance(value, str):
            return self._named(value)
        if isinstance(value, list):
            return [self._stripped(member) for member in value]
        return value

    def _named(self, text: str) -> str:
        """With the digests that this server made named by the write that made them."""
        return _DIGEST.sub(lambda found: self.names.get(found[0], found[0]), text) if self.names else text


def _quoted(part: str) -> str:
    """A design document's name keeps its slash."""
    start = "_design/"
    return start + quote(part[len(start) :], safe="") if part.startswith(start) else quote(part, safe="")
