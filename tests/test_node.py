"""Node and the packages from npm, as `make test` installs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import node as module
from tests.node import CLIENTS, COMPATIBLE_SERVER, major_version, node, npm, run_script


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    node.cache_clear()


def executable(path: Path, says: str) -> str:
    path.write_text(f"#!/bin/sh\necho {says}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_a_new_enough_node_is_found() -> None:
    assert major_version(node()) >= 20


def test_npm_runs_beside_it() -> None:
    answer = subprocess.run(
        [*npm(), "--version"], env=module.environment(), capture_output=True, text=True, check=True, timeout=60
    )
    assert int(answer.stdout.split(".")[0]) >= 9


def test_the_chosen_node_is_taken_and_an_old_one_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE", executable(tmp_path / "new", "v22.1.0"))
    assert node() == str(tmp_path / "new")
    node.cache_clear()
    monkeypatch.setenv("NODE", executable(tmp_path / "old", "v18.20.0"))
    with pytest.raises(RuntimeError, match="no Node 20"):
        node()


def test_an_old_node_of_the_machine_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path / "node", "v18.20.0")
    packaged = executable(tmp_path / "packaged", "v24.0.0")
    monkeypatch.delenv("NODE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "_packaged", lambda name: packaged if name == "bin/node" else None)
    assert node() == packaged
    node.cache_clear()
    monkeypatch.setattr(module, "_packaged", lambda name: None)
    with pytest.raises(RuntimeError, match="make test"):
        node()


def test_what_cannot_run_is_no_node(tmp_path: Path) -> None:
    assert major_version(str(tmp_path / "none")) == 0
    assert major_version(executable(tmp_path / "other", "hello")) == 0
    assert major_version(sys.executable) == 0


def test_pouchdb_nine_and_its_plugins_work() -> None:
    answer = run_script(CLIENTS / "installed.mjs")
    assert answer.returncode == 0, answer.stderr
    content = json.loads(answer.stdout)
    assert content["pouchdb"].split(".")[0] == "9"
    assert content["found"] == ["b"]
    assert content["nano"] is True


@pytest.mark.parametrize("directory", [CLIENTS, COMPATIBLE_SERVER], ids=lambda path: path.name)
def test_the_lock_file_pins_each_package_by_digest_and_names_no_registry(directory: Path) -> None:
    packages = json.loads((directory / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert len(packages) > 50
    for name, package in packages.items():
        assert "resolved" not in package, name
        assert not name or package["integrity"].startswith("sha512-") or package["integrity"].startswith("sha1-"), name
