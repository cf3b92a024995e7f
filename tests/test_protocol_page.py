"""docs/protocol.md says what is there: every endpoint of the route table, and every error with its code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import gateway.errors
from gateway.errors import GatewayError
from gateway.http.route import Route
from gateway.http.routes import ROUTES

PAGE = (Path(__file__).parents[1] / "docs/protocol.md").read_text(encoding="utf-8")
_ENDPOINT = re.compile(r"^\| ((?:`[A-Z]+`(?:, )?)+) \| `(/[^`]*)` \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)
_ERROR = re.compile(r"^\| (CG\d{4}) \| (\d{3}) \| `([a-z0-9_]+)` \| [^|]+ \|$", re.MULTILINE)


def errors(kind: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from errors(one)


def whose(route: Route) -> str:
    if len(route.listeners) == 3:
        return "anybody, every port"
    if route.listeners in (("admin",), ("metrics",)):
        return f"{route.listeners[0]} port"
    whom = {"public": "anybody", "user": "users", "admin": "administrators", "server": "administrators"}
    whom["own"] = "administrators; with sign-up, each user his own"
    return whom[route.policy]


def test_the_page_names_every_endpoint_and_no_other() -> None:
    told = {
        (method, path, who)
        for methods, path, who in _ENDPOINT.findall(PAGE)
        for method in re.findall(r"[A-Z]+", methods)
    }
    assert told == {(method, route.path, whose(route)) for route in ROUTES for method in route.methods}


def test_the_page_names_every_error_with_its_status_and_code_and_no_other() -> None:
    ours = [kind for kind in set(errors()) if kind.__module__ == gateway.errors.__name__]
    told = _ERROR.findall(PAGE)
    assert sorted(told) == sorted((kind.code, str(kind.status), kind.error) for kind in ours)
    assert len({code for code, _, _ in told}) == len(told), "a code means one thing"
