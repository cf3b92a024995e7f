"""The documentation holds: its config examples load, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.settings import Settings, load
from gateway.settings.schema import ConfigFile, keys_at

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CONFIGURATION = ROOT / "docs/configuration.md"

_BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?!https?://|mailto:)([^)\s#]*)(#[^)\s]*)?\)")


def examples() -> list[str]:
    return _BLOCK.findall(CONFIGURATION.read_text(encoding="utf-8"))


def test_there_are_examples_of_configuration() -> None:
    assert len(examples()) >= 3


@pytest.mark.parametrize("text", examples(), ids=lambda text: text.split("\n")[0])
def test_an_example_of_the_configuration_page_loads(text: str, tmp_path: Path) -> None:
    whole = text if re.search(r"^couchdb:", text, re.MULTILINE) else text + "\ncouchdb: {url: 'embedded:couch'}\n"
    (tmp_path / "config").mkdir()
    (tmp_path / "sync_functions").symlink_to(ROOT / "sync_functions")
    file = tmp_path / "config/example.yaml"
    file.write_text(whole, encoding="utf-8")
    assert isinstance(load(file, dict.fromkeys(re.findall(r"\$\{([A-Z_]+)\}", text), "a-secret")), Settings)


def test_every_key_of_the_config_file_is_explained() -> None:
    page = CONFIGURATION.read_text(encoding="utf-8")
    sections = [
        (),
        ("listen",),
        ("couchdb",),
        ("public",),
        ("sessions",),
        ("logging",),
        ("admins", "x"),
        ("databases", "x"),
    ]
    sections += [("databases", "x", "guest"), ("databases", "x", "users", "x"), ("databases", "x", "roles", "x")]
    sections += [("cors",), ("databases", "x", "cors")]
    assert set(keys_at(())) == set(ConfigFile.model_fields)
    for section in sections:
        keys = keys_at(section)
        assert keys
        for key in keys:
            assert f"`{key}`" in page, f"{key} of {section}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_to_a_file_that_is_there(page: Path) -> None:
    for target, _ in _LINK.findall(page.read_text(encoding="utf-8")):
        if target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
