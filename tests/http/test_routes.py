"""The route table as a whole."""

from __future__ import annotations

import pytest

from gateway.http.dispatch import Dispatcher, segments
from gateway.http.route import Route
from gateway.http.routes import ROUTES
from tests.http.conftest import ANN, Ports

# CouchDB 3.5's endpoints (https://docs.couchdb.org/en/stable/http-api.html) that users of the gateway may not use.
SERVER = """
GET /_active_tasks|GET /_dbs_info|POST /_dbs_info|GET /_cluster_setup|POST /_cluster_setup|GET /_db_updates
GET /_membership|POST /_replicate|GET /_scheduler/jobs|GET /_scheduler/docs|GET /_node/_local|GET /_node/_local/_stats
GET /_node/_local/_prometheus|GET /_node/_local/_system|POST /_node/_local/_restart|GET /_node/_local/_versions
POST /_search_analyze|GET /_utils|GET /favicon.ico|GET /_dbs|GET /_nodes|GET /_reshard|GET /_node/_local/_config
PUT /_node/_local/_config/a/b|GET /_users|GET /_users/x|PUT /_users/org.couchdb.user:x|POST /_users
GET /_users/_all_docs|DELETE /_users/x|GET /_users/_changes|PUT /_users
GET /_replicator/x|GET /_all_dbs|GET /_status|GET /_metrics
"""
DATABASE = """
GET _design/x|PUT _design/x|DELETE _design/x|GET _design/x/_info|GET _design/x/_view/y|POST _design/x/_view/y
GET _design/x/_search/y|GET _design/x/_nouveau/y|GET _design/x/_show/y|GET _design/x/_list/y/z|GET _design/x/_rewrite/
PUT _design/x/_update/y/z|GET _design/x/attachment|GET _design%2Fx|PUT _design/sync_gateway|DELETE _design/sync_gateway
POST _index|GET _index|DELETE _index/_design/x/json/y|POST _index/_bulk_delete|POST _explain|GET _shards
GET _shards/a|POST _sync_shards
POST _compact|POST _compact/x|POST _view_cleanup|PUT _security|POST _purge|GET _purged_infos
GET _purged_infos_limit|PUT _purged_infos_limit|GET _auto_purge|PUT _revs_limit
GET _partition/x|GET _partition/x/_all_docs|POST _dbcopy|GET _changes/x|GET _status|COPY _design/x
GET _user|GET _user/ann|PUT _user/ann|POST _user|DELETE _user/ann|GET _role|GET _role/x|PUT _role/x|POST _role
"""


def listed(text: str) -> list[tuple[str, str]]:
    return [
        (method, path) for method, _, path in (one.partition(" ") for one in text.replace("\n", "|").split("|")) if path
    ]


@pytest.mark.parametrize(("method", "path"), listed(SERVER))
async def test_a_user_gets_nothing_of_the_server(gateway: Ports, method: str, path: str) -> None:
    for auth in (None, ANN):
        answer = await gateway.public.request(method, path, auth=auth, json={} if method != "GET" else None)
        assert answer.status_code in (401, 404, 405), answer.text
        assert answer.json()["error"] in ("not_found", "unauthorized", "method_not_allowed")


@pytest.mark.parametrize(("method", "path"), listed(DATABASE))
async def test_a_user_is_refused_what_is_for_administrators(gateway: Ports, method: str, path: str) -> None:
    answer = await gateway.ann.request(method, f"/notes/{path}", json={} if method != "GET" else None)
    assert answer.status_code in (400, 403, 404, 405), answer.text
    assert not gateway.db.asked  # the database was not even asked


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{'/'.join(route.methods)} {route.path}")
def test_every_route_says_what_it_does_and_for_whom(route: Route) -> None:
    assert len(route.summary) > 10, route.handler
    assert route.listeners
    assert route.policy != "user" or "{db}" in route.path
    assert route.policy == "admin" or not route.path.startswith(("/{db}/_user", "/{db}/_role"))


def test_the_table_has_no_contradictions() -> None:
    for listener in ("public", "admin", "metrics"):
        Dispatcher([route for route in ROUTES if listener in route.listeners])


def test_every_route_is_found_by_its_own_pattern() -> None:
    for listener in ("public", "admin", "metrics"):
        rows = [route for route in ROUTES if listener in route.listeners]
        dispatcher = Dispatcher(rows)
        for route in rows:
            path = route.path.replace("...}", "}").replace("{", "a").replace("}", "z")
            for method in route.methods:
                assert dispatcher.match(method, segments(path)).row is route


async def test_options_needs_no_login_and_names_the_methods(gateway: Ports) -> None:
    for path in ("/notes/a", "/unknown/a"):
        answer = await gateway.public.options(path)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["allow"] == "COPY, DELETE, GET, HEAD, OPTIONS, PUT"
    assert (await gateway.public.options("/_nonsense")).status_code == 404


async def test_a_wrong_method_is_405_with_allow(gateway: Ports) -> None:
    answer = await gateway.ann.put("/notes/_changes", json={})
    assert (answer.status_code, answer.json()["error"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert (await gateway.ann.request("PATCH", "/notes/a")).status_code == 405


async def test_a_trailing_slash_changes_nothing(gateway: Ports) -> None:
    for path in ("/notes", "/notes/_all_docs", "/notes/_session"):
        assert (await gateway.ann.get(path)).content == (await gateway.ann.get(path + "/")).content
