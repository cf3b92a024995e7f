"""CouchDB's endpoints beside the route table: what a client finds of each here, as docs/couchdb-api.md says it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.errors import GatewayError
from gateway.http.dispatch import Dispatcher, segments
from gateway.http.openapi import passes_through
from gateway.http.route import Route
from gateway.http.routes import ROUTES

SOURCE: Final = Path(__file__).parent / "couchdb_api.yaml"
COUCHDB_PAGES: Final = "https://docs.couchdb.org/en/stable/"
_DISPATCHER: Final = Dispatcher([route for route in ROUTES if "public" in route.listeners])
_VARIABLE: Final = re.compile(r"\{([^}]+)\}")
EXAMPLES: Final[Mapping[str, str]] = {"db": "notes", "docid": "a", "partition": "p", "ddoc": "d", "node-name": "_local"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint of CouchDB and the row of the route table that answers for it, or the status of there being none."""

    method: str
    path: str
    parameters: Sequence[str]
    refused: Mapping[str, int]  # to users: query string → status
    route: Route | None
    status: int  # without a route, or of a route that refuses; else 0
    embedded_lacks: bool

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def whose(self) -> str:
        """`anybody`, `users`, `administrators` or, when it is not there or refuses, `nobody`."""
        if self.status or self.route is None:
            return "nobody"
        if self.route.unknown:  # makes and deletes databases; users are told so
            return "administrators"
        whom = {"public": "anybody", "user": "users", "admin": "administrators", "server": "administrators"}
        whom["own"] = "administrators"
        return whom[self.route.policy]

    @property
    def says(self) -> str:
        """The table's word for it."""
        if self.route is None:
            return f"not there: {self.status}"
        if self.status:
            return f"refused: {self.status}"
        if self.whose != "administrators":
            return "works"
        return "for administrators" + (", from CouchDB; embedded: 501" if self.embedded_lacks else "")

    @property
    def options(self) -> str:
        """The same for the parameters: those that count, those that are ignored, those that are refused."""
        if not self.parameters or self.whose == "nobody":
            return ""
        if self.route is not None and passes_through(self.route):
            return "CouchDB's own"
        known = self.route.parameters if self.route is not None else frozenset()
        named = set(re.findall(r"[a-z-]+(?==)", " ".join(self.refused)))
        kinds = {
            "": [name for name in self.parameters if name in known],
            "ignored: ": [name for name in self.parameters if name not in known | named],
        }
        told = [kind + ", ".join(f"`{name}`" for name in names) for kind, names in kinds.items() if names]
        told += [f"refused: `{what}` ({status})" for what, status in self.refused.items()]
        return "; ".join(told)

    @property
    def example(self) -> str:
        """A path like this one."""
        return _VARIABLE.sub(lambda found: EXAMPLES.get(found[1], "x"), self.path)


@dataclass(frozen=True, slots=True)
class Family:
    """Endpoints that CouchDB's reference describes together."""

    name: str
    page: str
    endpoints: Sequence[Endpoint]


def families() -> list[Family]:
    """All that CouchDB has. Raises ValueError for a line of the source that names no endpoint of it."""
    source = yaml.safe_load(SOURCE.read_text("utf-8"))
    refused, lacking = dict(source["refused"]), tuple(source["embedded_lacks"])
    found = [
        Family(
            family["name"],
            COUCHDB_PAGES + family["page"],
            [
                _endpoint(name, list(_flat(parameters)), refused.pop(name, {}), lacking)
                for name, parameters in family["endpoints"].items()
            ],
        )
        for family in source["families"]
    ]
    paths = {endpoint.path for family in found for endpoint in family.endpoints}
    unknown = [*refused, *(prefix for prefix in lacking if not any(_is_below(path, (prefix,)) for path in paths))]
    if unknown:
        raise ValueError(f"{SOURCE.name} says something of {sorted(unknown)}, which CouchDB has not")
    return found


def _is_below(path: str, prefixes: Iterable[str]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in prefixes)


def endpoints() -> list[Endpoint]:
    return [endpoint for family in families() for endpoint in family.endpoints]


def _flat(parameters: Any) -> Iterator[str]:
    for one in parameters:
        if isinstance(one, list):
            yield from _flat(one)
        else:
            yield one


def _endpoint(name: str, parameters: Sequence[str], refused: Mapping[str, int], lacking: Iterable[str]) -> Endpoint:
    method, _, path = name.partition(" ")
    parts = segments(_VARIABLE.sub(lambda found: EXAMPLES.get(found[1], "x"), path))
    try:
        route: Route | None = _DISPATCHER.match(method, parts).row
        status = (route.refuses if route is not None else None) or 0
    except GatewayError as error:
        route, status = None, error.status
    return Endpoint(method, path, parameters, refused, route, status, _is_below(path, lacking))


def page() -> str:
    """docs/couchdb-api.md."""
    every = endpoints()
    counts = {word: sum(one.whose in whose for one in every) for word, whose in _COUNTED.items()}
    lines = [_HEAD.format(total=len(every), **counts)]
    for family in families():
        lines += [
            f"## {family.name}\n",
            f"[CouchDB's page]({family.page})\n",
            "| endpoint | | parameters |",
            "|---|---|---|",
        ]
        lines += [f"| `{one.name}` | {one.says} | {one.options} |" for one in family.endpoints]
        lines.append("")
    return "\n".join(lines)


_COUNTED: Final = {"works": ("anybody", "users"), "administrators": ("administrators",), "refused": ("nobody",)}
_HEAD: Final = """\
# CouchDB's API, endpoint by endpoint

Made by `make pages` from the route table and the list of CouchDB 3.5's endpoints in `tests/reference/couchdb_api.yaml`;
do not edit it here. Of {total} endpoints {works} work for users, {administrators} for administrators, and {refused} are
not there or refused. How they work is in [protocol.md](protocol.md), whose list of endpoints has also those that
CouchDB has not; for programs there is [openapi.yaml](openapi.yaml), served at `/_api`.

- *works*: for users, over what they may read, and for administrators over everything. `HEAD` is where `GET` is.
- *for administrators*: users get 403, and 401 where it is about the server. *embedded: 501*: a real CouchDB answers it,
  the embedded upstream has it not. What else administrators ask of CouchDB itself, it answers with parameters of its
  own.
- *refused*, *not there*: with this status, for everybody who is let in.
- Parameters: those without a word count; those that are *ignored* change nothing and are no error, like every unknown
  name; those that are *refused* to users are answered with this status.
"""
