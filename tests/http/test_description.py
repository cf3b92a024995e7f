"""The OpenAPI description at `/_api`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.http.conftest import Ports

COMMITTED = Path(__file__).parents[2] / "docs/openapi.yaml"


async def described(http: httpx.AsyncClient, **headers: str) -> Any:
    answer = await http.get("/_api", headers=headers)
    assert answer.status_code == 200, answer.text
    return yaml.safe_load(answer.text)  # JSON, too


def at(port: str) -> Any:
    """The part of the committed description that is at this port: its paths with their methods."""
    paths = yaml.safe_load(COMMITTED.read_text("utf-8"))["paths"]
    found = {
        path: {
            name: one
            for name, one in item.items()
            if name == "parameters" or port in one.get("x-ports", ["public", "admin"])
        }
        for path, item in paths.items()
    }
    return {path: item for path, item in found.items() if item.keys() - {"parameters"}}


async def test_each_port_describes_what_is_there(gateway: Ports) -> None:
    assert (await described(gateway.public))["paths"] == at("public")
    assert (await described(gateway.admin))["paths"] == at("admin")


async def test_the_public_port_tells_nothing_of_the_endpoints_of_the_admin_port(gateway: Ports) -> None:
    paths = (await described(gateway.public))["paths"]
    assert "/{db}/_changes" in paths
    assert not {"/_status", "/_metrics", "/{db}/_user/{name}"} & paths.keys()


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/yaml", "application/yaml"),
        ("text/yaml", "text/yaml"),
        ("application/vnd.oai.openapi, application/json;q=0", "application/vnd.oai.openapi"),
        ("*/*", "application/json"),
        ("application/json, application/yaml", "application/json"),
        ("text/html", "application/json"),
    ],
)
async def test_accept_chooses_between_json_and_yaml(gateway: Ports, accept: str, kind: str) -> None:
    answer = await gateway.public.get("/_api", headers={"Accept": accept})
    assert answer.headers["content-type"] == kind
    assert "accept" in answer.headers["vary"].lower()
    assert answer.text.startswith("{" if kind == "application/json" else "openapi:")


async def test_json_and_yaml_say_the_same(gateway: Ports) -> None:
    assert await described(gateway.public) == await described(gateway.public, Accept="application/yaml")


async def test_a_description_that_is_held_already_is_not_sent_again(gateway: Ports) -> None:
    tag = (await gateway.public.get("/_api")).headers["etag"]
    answer = await gateway.public.get("/_api", headers={"If-None-Match": tag})
    assert (answer.status_code, answer.content) == (304, b"")
    other = await gateway.public.get("/_api", headers={"If-None-Match": tag, "Accept": "application/yaml"})
    assert other.status_code == 200
