"""Numbers for Prometheus."""

from __future__ import annotations

import re

from tests.http.conftest import BOB, Ports


def values(text: str) -> dict[str, float]:
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    }


async def test_requests_documents_and_databases_are_counted(gateway: Ports) -> None:
    await gateway.ann.put("/notes/a", json={})
    await gateway.ann.put("/notes/a", json={})
    await gateway.public.get("/notes/a")
    answer = await gateway.metrics.get("/_metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = values(answer.text)
    assert found['couch_gateway_requests_total{listener="public",status="2xx"}'] == 1
    assert found['couch_gateway_requests_total{listener="public",status="4xx"}'] == 2
    assert found["couch_gateway_documents_written_total"] == 1
    assert found["couch_gateway_documents_refused_total"] == 1
    assert found["couch_gateway_feeds_open"] == 0
    assert found["couch_gateway_requests_active"] == 1
    assert found['couch_gateway_database_state{database="notes",state="online"}'] == 1
    assert found['couch_gateway_database_sequence{database="notes"}'] == 9


async def test_each_line_is_in_the_exposition_format(gateway: Ports) -> None:
    gateway.databases.by_name = {'a"\\\nb': gateway.db}
    text = (await gateway.metrics.get("/metrics")).text
    sample = re.compile(r'[a-z_]+(\{([a-z]+="([^"\\\n]|\\["\\n])*",?)+\})? [0-9.]+')
    for line in text.splitlines():
        assert line.startswith(("# HELP couch_gateway_", "# TYPE couch_gateway_")) or sample.fullmatch(line), line


async def test_the_metrics_port_serves_nothing_else_and_the_others_serve_no_metrics(gateway: Ports) -> None:
    for path in ("/", "/notes", "/notes/a", "/_all_dbs", "/_status", "/_session"):
        assert (await gateway.metrics.get(path)).status_code == 404
    assert (await gateway.metrics.get("/_up")).status_code == 200
    assert (await gateway.admin.get("/_metrics")).status_code == 404
    for client in (gateway.public, gateway.ann):  # what is not there looks as what is for server admins alone
        assert (await client.get("/_metrics")).status_code == 401
    assert (await gateway.public.get("/metrics", auth=BOB)).status_code == 401  # a database's name like any other
