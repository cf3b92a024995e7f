"""The command line: what it says to whom, and with which exit status."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest
import yaml

from gateway import __version__
from gateway.cli import main
from tests.commands import couch_gateway
from tests.running import write_config

BROKEN = """\
listen: {public: "127.0.0.1:PORT", admin: "0.0.0.0:4985", metrics: nowhere}
metadata: mysql://there
couchdb: {url: "ftp://127.0.0.1", username: admin, pasword: topsecret}
databases:
  Notes:
    sync: "function (doc) { channel(doc.channels"
  other:
    users:
      ann: {password: ab, admin_channels: ["a,b"]}
      "b/b": {password: "hunter22"}
    roles: [editor]
    surprise: true
"""
PLACES = (
    "listen.metrics", "listen.admin", "metadata", "couchdb.url", "couchdb.pasword", "databases.Notes",
    "databases.Notes.sync", "databases.other.users.ann.password", "databases.other.users.ann.admin_channels[0]",
    "databases.other.users.b/b", "databases.other.roles", "databases.other.surprise",
)  # fmt: skip


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    file = tmp_path / "broken.yaml"
    file.write_text(BROKEN.replace("PORT", str(_free_port())))
    return file


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_the_version_is_told() -> None:
    ended = await couch_gateway("--version")
    assert (ended.status, ended.output) == (0, f"couch-gateway {__version__}\n")


async def test_without_arguments_the_usage_is_told() -> None:
    ended = await couch_gateway()
    assert ended.status == 2
    assert "usage: couch-gateway" in ended.errors
    assert "Traceback" not in ended.errors


@pytest.mark.parametrize("arguments", [["serve"], ["check-config"], ["fly"], ["serve", "--conf", "x"]], ids=str)
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert "usage: couch-gateway" in capsys.readouterr().err


async def test_a_config_in_order_is_said_to_be(tmp_path: Path) -> None:
    config = write_config(tmp_path, {"notes": {}, "more": {}})
    ended = await couch_gateway("check-config", str(config))
    assert (ended.status, ended.errors) == (0, "")
    assert "in order, 2 databases" in ended.output
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", [["check-config"], ["serve", "--config"]], ids=str)
async def test_every_problem_of_a_config_is_told_with_its_place(command: list[str], broken: Path) -> None:
    ended = await couch_gateway(*command, str(broken))
    assert ended.status == 2
    assert "Traceback" not in ended.errors
    first, *problems = ended.errors.splitlines()
    assert first == f"{broken}: {len(problems)} problems"
    told = {match[1] for line in problems if (match := re.match(r"  \d+:\d+ ([^:]+): ", line))}
    assert set(PLACES) <= told, set(PLACES) - told
    assert "topsecret" not in ended.errors
    assert "hunter22" not in ended.errors


def test_nothing_is_touched_before_the_config_is_in_order(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = broken.read_text().replace("mysql://there", "sqlite:./data/metadata.db")
    broken.write_text(content.replace("ftp://127.0.0.1", "embedded:./data/couch"))
    assert main(["serve", "--config", str(broken)]) == 2
    assert "port: http" not in capsys.readouterr().err
    assert [file.name for file in broken.parent.iterdir()] == ["broken.yaml"]


@pytest.mark.parametrize("content", ["", "[]", "{", "a: b: c", "\x00", "? : :", "&a [*a]", "\xff"], ids=repr)
def test_what_is_no_config_is_refused(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "no.yaml"
    file.write_bytes(content.encode("latin-1"))
    assert main(["check-config", str(file)]) == 2
    assert "problem" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["absent.yaml", "."])
def test_a_missing_config_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", str(tmp_path / name)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_a_variable_that_is_not_set_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path, {"notes": {"users": {"ann": {"password": "${ANN_SECRET}"}}}})
    assert main(["check-config", str(config)]) == 2
    assert "ANN_SECRET" in capsys.readouterr().err
    monkeypatch.setenv("ANN_SECRET", "good enough")
    assert main(["check-config", str(config)]) == 0


def test_json_is_taken_as_well(tmp_path: Path) -> None:
    as_json = tmp_path / "gateway.json"
    as_json.write_text(json.dumps(yaml.safe_load(write_config(tmp_path, {"notes": {}}).read_text())))
    assert main(["check-config", str(as_json)]) == 0
