"""The two servers that are compared: what is sent to each, and what of its answers counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import httpx

from tests.differential.requests import UNKNOWN, Ask, Made, Seq

_OWN: Final = {"seq", "last_seq", "pending", "update_seq", "purge_seq", "_local_seq"}  # each server has its own
_ETAGS: Final = {"GET"}


@dataclass(frozen=True, slots=True)
class Told:
    """What of an answer has to be the same."""

    status: int
    body: Any
    etag: str | None


@dataclass(slots=True)
class Side:
    """One database on one server."""

    http: httpx.Client
    database: str
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
        return Told(answer.status_code, self._normal(body, ask), etag)

    def _param(self, value: Any) -> str:
        value = self._own(value)
        return value if isinstance(value, str) else json.dumps(value)

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
        if isinstance(body, dict) and "last_seq" in body:
            self.seqs.append(str(body["last_seq"]))
        if status not in (200, 201) or ask.method == "GET" or ask.path[0] == "_local":
            return
        results = body if ask.path == ("_bulk_docs",) else [body]
        for result in results:
            if isinstance(result, dict) and "rev" in result and "id" in result:
                self.made.setdefault(result["id"], []).append(result["rev"])

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
            value.sort(key=json.dumps)
        return value

    def _stripped(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            # An error of the gateway has a code of its own, too.
            own = {*_OWN, "code"} if "error" in value else _OWN
            return {name: self._stripped(member) for name, member in value.items() if name not in own}
        if isinstance(value, list):
            return [self._stripped(member) for member in value]
        return value


def _quoted(part: str) -> str:
    """A design document's name keeps its slash."""
    start = "_design/"
    return start + quote(part[len(start) :], safe="") if part.startswith(start) else quote(part, safe="")
