"""The pages made from the route table are those it makes now, and the OpenAPI description is well formed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from gateway import json_text
from gateway.http.openapi import as_json, as_yaml, describe
from gateway.http.openapi_schemas import BODIES, FORMS, JSON_PARAMETERS, PARAMETERS
from gateway.http.routes import ROUTES
from tests.reference.couchdb_api import endpoints
from tests.reference.pages import PAGES

DESCRIPTION: Final = describe(ROUTES)
METHODS: Final = {"get", "put", "post", "delete", "x-copy"}


def operations() -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    for path, item in DESCRIPTION["paths"].items():
        for method in METHODS & item.keys():
            yield path, method, item, item[method]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from references(one)


def resolved(reference: str) -> Any:
    found: Any = DESCRIPTION
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_as_the_route_table_makes_it(page: Path) -> None:
    assert page.read_text("utf-8") == PAGES[page](), f"{page.name} is old: `make pages` writes it"


def test_yaml_and_json_say_the_same() -> None:
    assert yaml.safe_load(as_yaml(ROUTES)) == json_text.parse(as_json(ROUTES)) == DESCRIPTION


def test_every_endpoint_is_described_once() -> None:
    described = {(path, method.removeprefix("x-").upper()) for path, method, _, _ in operations()}
    assert described == {(route.path.replace("...", ""), method) for route in ROUTES for method in route.methods}
    names = [operation["operationId"] for _, _, _, operation in operations()]
    assert len(set(names)) == len(names)


def test_no_two_paths_differ_in_the_names_of_variables_only() -> None:
    shapes = [re.sub(r"\{[^}]*\}", "{}", path) for path in DESCRIPTION["paths"]]
    assert len(set(shapes)) == len(shapes)


def test_each_variable_of_a_path_is_declared_and_each_parameter_once() -> None:
    for path, method, item, operation in operations():
        every = [resolved(one["$ref"]) for one in item.get("parameters", []) + operation.get("parameters", [])]
        keys = [(one["in"], one["name"]) for one in every]
        assert len(set(keys)) == len(keys), (method, path)
        assert {name for place, name in keys if place == "path"} == set(re.findall(r"\{([^}]*)\}", path))
        assert all(("schema" in one) != ("content" in one) for one in every)
        assert all(one["required"] for one in every if one["in"] == "path")


def test_each_operation_names_the_parameters_of_its_route() -> None:
    by_name = {(method, route.path.replace("...", "")): route for route in ROUTES for method in route.methods}
    for path, method, item, operation in operations():
        every = [resolved(one["$ref"]) for one in item.get("parameters", []) + operation.get("parameters", [])]
        told = {one["name"] for one in every if one["in"] == "query"}
        assert told == by_name[method.removeprefix("x-").upper(), path].parameters, (method, path)


def test_every_reference_leads_somewhere_and_every_component_is_used() -> None:
    used = set(references(DESCRIPTION))
    for one in used:
        resolved(one)
    for family in ("schemas", "parameters", "responses"):
        unused = {f"#/components/{family}/{name}" for name in DESCRIPTION["components"][family]} - used
        assert not unused


def test_every_endpoint_that_takes_json_is_said_to_and_nothing_is_said_of_others() -> None:
    there = {(method, route.path) for route in ROUTES for method in route.methods}
    assert not set(BODIES) - there
    assert not set(FORMS) - there
    described = {
        (method.removeprefix("x-").upper(), path) for path, method, _, one in operations() if "requestBody" in one
    }
    said_to_have_none = {(method, path.replace("...", "")) for (method, path), body in BODIES.items() if body is None}
    refusing = {
        (method, route.path.replace("...", "")) for route in ROUTES if route.refuses for method in route.methods
    }
    bodied = {(method, path.replace("...", "")) for method, path in there if method in ("PUT", "POST")}
    assert bodied - said_to_have_none - refusing <= described


def test_every_parameter_has_a_schema_and_no_other_has() -> None:
    assert {name for route in ROUTES for name in route.parameters} == set(PARAMETERS)
    assert set(PARAMETERS) >= JSON_PARAMETERS


def test_couchdbs_endpoints_are_named_once_with_parameters_named_once() -> None:
    names = [endpoint.name for endpoint in endpoints()]
    assert len(set(names)) == len(names)
    for endpoint in endpoints():
        assert len(set(endpoint.parameters)) == len(endpoint.parameters), endpoint.name
