"""Which pages are made, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from gateway.http.openapi import as_yaml
from gateway.http.routes import ROUTES
from tests.reference.couchdb_api import page

DOCS: Final = Path(__file__).parents[2] / "docs"


def openapi() -> str:
    """docs/openapi.yaml: all ports together; `/_api` answers what is at its own."""
    head = "# Made from the route table by `make pages`; do not edit it here. Each port serves its part at /_api.\n"
    return head + as_yaml(ROUTES).decode()


PAGES: Final[Mapping[Path, Callable[[], str]]] = {DOCS / "couchdb-api.md": page, DOCS / "openapi.yaml": openapi}
