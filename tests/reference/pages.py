"""Which pages are made, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import yaml

from gateway.http.openapi import describe
from gateway.http.routes import ROUTES
from tests.reference.couchdb_api import page

DOCS: Final = Path(__file__).parents[2] / "docs"


class _Plain(yaml.SafeDumper):
    """Without anchors: whoever reads a part of the file reads it whole."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def openapi() -> str:
    """docs/openapi.yaml: what `/_api` answers."""
    text = yaml.dump(describe(ROUTES), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
    return "# Made from the route table by `make pages`; do not edit it here. Served as JSON at /_api.\n" + text


PAGES: Final[Mapping[Path, Callable[[], str]]] = {DOCS / "couchdb-api.md": page, DOCS / "openapi.yaml": openapi}
