"""From raw paths to routes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gateway.errors import BadRequest, InvalidDocumentId, NotFound
from gateway.http.dispatch import Dispatcher, WrongMethod, segments


@dataclass(frozen=True, slots=True)
class Named:
    methods: tuple[str, ...]
    path: str


TABLE = (
    Named(("GET",), "/"),
    Named(("GET",), "/_up"),
    Named(("GET", "PUT"), "/{db}"),
    Named(("GET", "POST"), "/{db}/_changes"),
    Named(("GET",), "/{db}/_local/{id}"),
    Named(("GET",), "/{db}/_design/sync_gateway"),
    Named(("PUT",), "/{db}/_design/{design}"),
    Named(("GET",), "/{db}/_design/{design}/{rest...}"),
    Named(("GET",), "/{db}/{doc}"),
    Named(("GET",), "/{db}/{doc}/{attachment...}"),
)
DISPATCHER = Dispatcher(TABLE)


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/", []),
        ("", []),
        ("//", []),
        ("/db", ["db"]),
        ("/db/", ["db"]),
        ("/db//a/", ["db", "a"]),
        ("/db/a/b", ["db", "a", "b"]),
        ("/db/a%2Fb", ["db", "a/b"]),
        ("/db/a%2fb", ["db", "a/b"]),
        ("/db/a%252Fb", ["db", "a%2Fb"]),
        ("/db/a+b", ["db", "a b"]),
        ("/db/a%2Bb", ["db", "a+b"]),
        ("/db/é+%C3%A9", ["db", "é é"]),
        ("/a%2Fb/x", ["a/b", "x"]),
        ("/db/_local%2Fx", ["db", "_local", "x"]),
        ("/db/_local%2Fx%2Fy", ["db", "_local", "x/y"]),
        ("/db/_local/x%2Fy", ["db", "_local", "x/y"]),
        ("/db/_local%2F", ["db", "_local"]),
        ("/db/_design%2Fx/_view/y", ["db", "_design", "x", "_view", "y"]),
        ("/db/x/_local%2Fy", ["db", "x", "_local/y"]),
        ("/db/é", ["db", "é"]),
        ("/db/.", ["db", "."]),
    ],
)
def test_a_path_is_split_on_raw_slashes_and_then_decoded(path: str, parts: list[str]) -> None:
    assert segments(path) == parts


@pytest.mark.parametrize("path", ["/%", "/db/%g0", "/db/%a", "/db/%ff", "/db/%ED%A0%80", "/db/\udcff", "/a" * 101])
def test_a_malformed_path_is_refused(path: str) -> None:
    with pytest.raises(BadRequest):
        segments(path)


@pytest.mark.parametrize(
    ("method", "path", "route", "values"),
    [
        ("GET", "/", "/", {}),
        ("HEAD", "/_up", "/_up", {}),
        ("PUT", "/db", "/{db}", {"db": "db"}),
        ("POST", "/db/_changes/", "/{db}/_changes", {"db": "db"}),
        ("GET", "/db/_local/x", "/{db}/_local/{id}", {"db": "db", "id": "x"}),
        ("GET", "/db/_design/sync_gateway", "/{db}/_design/sync_gateway", {"db": "db"}),
        ("PUT", "/db/_design/other", "/{db}/_design/{design}", {"db": "db", "design": "other"}),
        ("GET", "/db/_design/a/_b/c", "/{db}/_design/{design}/{rest...}", {"db": "db", "design": "a", "rest": "_b/c"}),
        ("GET", "/db/a", "/{db}/{doc}", {"db": "db", "doc": "a"}),
        ("GET", "/db/a/b/c", "/{db}/{doc}/{attachment...}", {"db": "db", "doc": "a", "attachment": "b/c"}),
        ("GET", "/db/a/_b", "/{db}/{doc}/{attachment...}", {"db": "db", "doc": "a", "attachment": "_b"}),
    ],
)
def test_a_path_finds_its_route(method: str, path: str, route: str, values: dict[str, str]) -> None:
    match = DISPATCHER.match(method, segments(path))
    assert (match.row.path, match.values) == (route, values)


@pytest.mark.parametrize(
    "path", ["/_all_dbs", "/_up/x", "/_db/doc", "/db/_nonsense", "/db/_nonsense/x", "/db/_local", "/db/_changes/x"]
)
def test_what_is_not_in_the_table_is_nobodys_document(path: str) -> None:
    with pytest.raises(NotFound):
        DISPATCHER.match("GET", segments(path))


def test_writing_to_an_id_that_only_an_endpoint_could_have_is_refused() -> None:
    with pytest.raises(InvalidDocumentId):
        DISPATCHER.match("PUT", segments("/db/_nonsense"))


def test_a_wrong_method_names_the_right_ones() -> None:
    with pytest.raises(WrongMethod) as caught:
        DISPATCHER.match("DELETE", segments("/db/_changes"))
    assert caught.value.allowed == ("GET", "HEAD", "POST")
    assert DISPATCHER.allowed(segments("/db/_changes")) == ["GET", "HEAD", "OPTIONS", "POST"]


def test_two_routes_for_one_request_are_an_error_of_ours() -> None:
    with pytest.raises(ValueError, match="two routes"):
        Dispatcher((*TABLE, Named(("GET",), "/{name}")))
