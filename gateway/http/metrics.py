"""`/_metrics` in Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from gateway import __version__
from gateway.http import answers
from gateway.http.call import Call

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_CLASSES: Final = (1, 2, 3, 4, 5)


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    kind: str
    about: str
    values: Iterable[tuple[Mapping[str, str], float]]

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.about}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in self.values:
            text = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
            yield f"{self.name}{{{text}}} {value}" if text else f"{self.name} {value}"


async def metrics(call: Call) -> web.StreamResponse:
    """Numbers for Prometheus: requests, feeds, documents, and the state of each database."""
    lines = [line for metric in _metrics(call) for line in metric.lines()]
    return web.Response(text="\n".join(lines) + "\n", headers={"Content-Type": CONTENT_TYPE, "Server": answers.SERVER})


def _metrics(call: Call) -> Iterator[Metric]:
    traffic = call.traffic
    yield Metric("couch_gateway_info", "gauge", "The running version.", [({"version": __version__}, 1)])
    yield Metric(
        "couch_gateway_requests_total",
        "counter",
        "Requests answered, by listener and class of the status.",
        [
            ({"listener": listener, "status": f"{status}xx"}, traffic.requests[listener, status])
            for listener in ("public", "admin", "metrics")
            for status in _CLASSES[1:]
        ],
    )
    yield Metric(
        "couch_gateway_connections_open", "gauge", "Clients of the public port.", [({}, traffic.connections_open)]
    )
    yield Metric(
        "couch_gateway_connections_refused_total",
        "counter",
        "Clients that were not let in, since there were too many.",
        [({}, traffic.connections_refused)],
    )
    yield Metric("couch_gateway_requests_active", "gauge", "Requests under way, with feeds.", [({}, traffic.active)])
    yield Metric("couch_gateway_feeds_open", "gauge", "Feeds of _changes that run now.", [({}, traffic.feeds_open)])
    yield Metric("couch_gateway_feeds_total", "counter", "Feeds of _changes begun.", [({}, traffic.feeds_begun)])
    yield Metric(
        "couch_gateway_documents_written_total",
        "counter",
        "Documents that clients wrote and that were accepted.",
        [({}, traffic.documents_written)],
    )
    yield Metric(
        "couch_gateway_documents_refused_total",
        "counter",
        "Documents that clients wrote and that were refused, by conflict, sync function or form.",
        [({}, traffic.documents_refused)],
    )
    states = [
        (name, database.status())
        for name in call.gate.databases.names()
        if (database := call.gate.databases.get(name)) is not None
    ]
    yield Metric(
        "couch_gateway_database_state",
        "gauge",
        "The state of each database.",
        [({"database": name, "state": str(status.get("state"))}, 1) for name, status in states],
    )
    yield Metric(
        "couch_gateway_database_sequence",
        "gauge",
        "The last sequence of each database.",
        list(_numbers(states, "seq")),
    )
    yield Metric(
        "couch_gateway_database_caught_up",
        "gauge",
        "Whether all that the upstream announced is routed.",
        list(_numbers(states, "caught_up")),
    )
    yield Metric(
        "couch_gateway_database_routing_outdated",
        "gauge",
        "Whether another sync function is wanted than the one that decides.",
        list(_numbers(states, "routing_outdated")),
    )


def _numbers(states: Iterable[tuple[str, Mapping[str, Any]]], member: str) -> Iterator[tuple[Mapping[str, str], float]]:
    for name, status in states:
        value = status.get(member)
        if isinstance(value, (bool, int, float)):
            yield {"database": name}, int(value) if isinstance(value, bool) else value


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
