"""The house rules of docs/architecture.md: which module may import which, and how long a file may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gateway

PACKAGE = Path(gateway.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Every part may import itself, and those named here. What is in no part's list is imported by nobody.
BASE = {"errors", "limits", "json_text", "multipart", "pauses"}
ALLOWED = {
    "model": BASE,
    "mango": BASE,
    "couch": BASE | {"model", "embedded"},  # embedded by open.py alone
    "embedded": BASE | {"model", "mango", "couch", "syncfn", "viewfn"},  # syncfn: the processes that run JavaScript
    "store": BASE | {"model", "couch"},
    "syncfn": BASE | {"model"},
    "viewfn": BASE | {"syncfn"},
    "auth": BASE | {"model", "store"},  # store by sessions.py alone
    "settings": BASE | {"model", "auth", "syncfn"},
    "callers": BASE | {"model", "auth"},
    "queries": BASE | {"model"},
    "routing": BASE | {"model", "couch", "store", "syncfn", "queries"},
    "paging": BASE,
    "feeds": BASE | {"model", "mango", "couch", "store", "queries", "callers", "paging"},
    "explain": BASE | {"model", "store", "feeds"},
    "finding": BASE | {"model", "mango", "couch", "store", "feeds", "callers"},
    "documents": BASE | {"model", "couch", "store", "feeds", "queries", "callers"},
    "listing": BASE | {"model", "store", "feeds", "documents", "queries", "callers", "paging"},
    "local_documents": BASE | {"model", "couch", "store", "callers"},
    "revision_parts": BASE | {"couch", "documents", "queries", "callers"},
    "attachments": BASE | {"model", "couch", "routing", "documents", "queries", "callers"},
    "accounts": BASE | {"model", "auth", "store", "settings"},
    "sync_versions": BASE | {"store", "syncfn", "settings"},
    "resync": BASE | {"model", "couch", "store", "syncfn", "sync_versions", "queries"},
    "trials": BASE | {"model", "syncfn", "queries", "callers", "users"},
    "users": BASE | {"model", "store", "auth", "callers"},
    "database": BASE
    | {
        "model", "couch", "store", "syncfn", "auth", "settings", "routing", "feeds", "documents", "accounts",
        "attachments", "revision_parts", "queries", "callers", "mango", "finding", "listing", "local_documents",
        "users", "explain", "trials", "sync_versions", "resync",
    },
    "server_users": BASE | {"model", "auth", "store", "database", "callers"},
    "sign_up": BASE | {"server_users"},
    "catalogue": BASE | {"model", "couch", "store", "auth", "settings", "database", "server_users", "sign_up"},
    "http": BASE | {"model", "mango", "auth", "database", "catalogue", "queries", "callers"},
    "logins": BASE | {"model", "store", "database", "callers"},
    "demo": BASE | {"database", "callers"},
    "descriptors": BASE,
    "server": BASE
    | {
        "couch", "store", "auth", "settings", "accounts", "database", "catalogue", "http", "callers", "logins",
        "descriptors",
    },
    "fixtures": BASE | {"model", "settings", "syncfn"},
    "cli": BASE | {"settings", "server", "demo", "fixtures"},
    "errors": set(),
    "limits": set(),
    "json_text": {"errors", "limits"},
    "multipart": {"errors", "limits"},
    "pauses": {"limits"},
}  # fmt: skip
# The types that pass through: an upstream's streamed answer is handed to http/ as it is.
EXCEPTIONS = {("http", "couch.upstream")}


def part_of(file: Path) -> str:
    inside = file.relative_to(PACKAGE)
    return inside.parts[0].removesuffix(".py")


def imported_modules(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            if node.module == "gateway":
                found |= {alias.name for alias in node.names if alias.name != "__version__"}
            elif node.module.startswith("gateway."):
                found.add(node.module.removeprefix("gateway."))
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("gateway.") for alias in node.names if alias.name.startswith("gateway.")}
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down_the_house_and_never_up(file: Path) -> None:
    part = part_of(file)
    if part == "__init__":
        return
    wrong = {
        module
        for module in imported_modules(file)
        if (top := module.partition(".")[0]) != part and top not in ALLOWED[part] and (part, module) not in EXCEPTIONS
    }
    assert not wrong, f"{file.relative_to(PACKAGE)} must not import {sorted(wrong)}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_file_grows_past_600_lines(file: Path) -> None:
    assert len(file.read_text("utf-8").splitlines()) <= 600
