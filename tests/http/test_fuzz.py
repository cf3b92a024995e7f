"""Whatever is sent, the answer is an answer: never a 500, never a hang, always JSON."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.http.routes import ROUTES
from tests.http.conftest import Ports, listening

LOGIN = base64.b64encode(b"ann:secret").decode()
METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"]
ENDPOINTS = sorted({route.path for route in ROUTES})
PARAMETERS = sorted({name for route in ROUTES for name in route.parameters})

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from(
    [
        *("docs", "keys", "new_edits", "_id", "_rev", "_deleted", "_attachments", "_revisions", "id", "rev", "start"),
        *("ids", "name", "password", "follows", "stub", "selector", *PARAMETERS),
    ]
)
documents = st.recursive(
    json_values,
    lambda inner: st.dictionaries(names, inner, max_size=5) | st.lists(inner, max_size=3),
    max_leaves=12,
)
path_pieces = st.lists(
    st.sampled_from(
        ["/", "%2F", "%", "%ff", "%00", "..", ".", "+", "_", "_local", "_design", "notes", "a", "ä", "~", "*"]
    )
    | st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?#"), max_size=4),
    max_size=8,
).map("".join)
paths = path_pieces.map(lambda rest: "/" + rest) | st.builds(
    lambda pattern, piece: pattern.replace("...}", "}").replace("{db}", "notes").replace("{", piece).replace("}", ""),
    st.sampled_from(ENDPOINTS),
    st.sampled_from(["a", "%", "_x", "a%2Fb", "%C3%A4"]),
)
query_values = (
    st.sampled_from(
        ["true", "false", "", "0", "-1", "now", "all", "1-a", '"a"', "null", "[]", "{}", "normal", "_doc_ids"]
    )
    | st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=6)
    | json_values.map(json.dumps)
)
queries = st.lists(st.tuples(st.sampled_from(PARAMETERS) | st.text("ab%&=", max_size=3), query_values), max_size=4)
bodies = documents.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30)
kinds = st.sampled_from(
    ["application/json", "text/plain", "multipart/related; boundary=b", "multipart/related", "", "application/json;a"]
)
headers = st.lists(
    st.sampled_from(
        [
            *("If-Match: 1-a", 'If-Match: "', "If-None-Match: *", "Accept: multipart/mixed", "Accept: ;;,"),
            *("Expect: x", "Content-Encoding: gzip", "Range: bytes=9-1", "Origin: null"),
        ]
    ),
    max_size=2,
)


class Fuzzed:
    """One gateway for all examples, in a loop of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ports: Ports) -> None:
        self._loop = loop
        self._ports = ports

    def ask(self, head: str, body: bytes, listener: str) -> tuple[int, bytes]:
        request = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode("utf-8", "replace") + body
        answer = self._loop.run_until_complete(asyncio.wait_for(self._ports.raw(request, listener=listener), 20))
        first, _, rest = answer.partition(b"\r\n")
        return int(first.split(b" ")[1]), rest.partition(b"\r\n\r\n")[2]


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Fuzzed]:
    loop = asyncio.new_event_loop()
    context = listening()
    ports = loop.run_until_complete(context.__aenter__())
    ports.db.docs["a"] = [{"_id": "a", "_rev": "1-a"}]
    yield Fuzzed(loop, ports)
    loop.run_until_complete(context.__aexit__(None, None, None))
    loop.close()


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(METHODS), path=paths, query=queries, body=bodies, kind=kinds, more=headers,
    listener=st.sampled_from(["public", "admin"]),
)  # fmt: skip
def test_no_request_is_a_500(
    fuzzed: Fuzzed, method: str, path: str, query: Any, body: bytes, kind: str, more: list[str], listener: str
) -> None:
    text = "&".join(f"{name}={value}" for name, value in query).replace(" ", "%20")
    head = f"{method} {path}?{text} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {LOGIN}\r\n"
    if listener == "admin":
        more = [one for one in more if not one.startswith("Origin")]
    head += "".join(f"{one}\r\n" for one in [f"Content-Type: {kind}", *more])
    status, answer = fuzzed.ask(head, body, listener)
    assert 200 <= status < 500 or status == 501, (status, answer)
    if status >= 400 and method != "HEAD":
        assert set(json.loads(answer)) == {"error", "reason", "code"}


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=200))
def test_no_bytes_are_a_500(fuzzed: Fuzzed, data: bytes) -> None:
    status, _ = fuzzed.ask("GET / HTTP/1.1\r\nX: ", data, "public")
    assert status < 500
