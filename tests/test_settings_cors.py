"""CORS in the config file: what it gives, and what is refused there."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.auth.origins import CorsPolicy
from gateway.server import needs_restart
from tests.test_settings import SMALL, problems, read

APP = CorsPolicy(frozenset({"https://app.example"}))


def test_without_the_key_no_page_is_allowed(tmp_path: Path) -> None:
    settings = read(tmp_path, SMALL + "databases: {notes: }")
    assert settings.cors is None
    assert settings.databases["notes"].cors is None


def test_every_key_is_taken(tmp_path: Path) -> None:
    text = """
        couchdb: {url: "embedded:c"}
        cors:
          origins: ["https://app.example", "http://localhost:3000"]
          credentials: true
          headers: [X-Trace, x-other]
          max_age_s: 60
    """
    assert read(tmp_path, text).cors == CorsPolicy(
        frozenset({"https://app.example", "http://localhost:3000"}), True, frozenset({"x-trace", "x-other"}), 60
    )
    least = read(tmp_path, SMALL + 'cors: {origins: ["*"], headers: }').cors
    assert least == CorsPolicy(frozenset({"*"}), False, frozenset(), 600)


def test_a_database_has_the_servers_unless_it_has_its_own(tmp_path: Path) -> None:
    text = """
        couchdb: {url: "embedded:c"}
        cors: {origins: ["https://app.example"], max_age_s: 5}
        databases:
          same: {}
          other: {cors: {origins: ["*"]}}
          closed: {cors: off}
          false: {cors: false}
    """
    databases = read(tmp_path, text).databases
    assert databases["same"].cors == CorsPolicy(frozenset({"https://app.example"}), max_age_seconds=5)
    assert databases["other"].cors == CorsPolicy(frozenset({"*"}))  # nothing of the server's is left in it
    assert databases["closed"].cors is databases["false"].cors is None


def test_databases_made_by_request_have_the_servers_too_or_their_own(tmp_path: Path) -> None:
    text = SMALL + 'cors: {origins: ["https://app.example"]}\n'
    assert read(tmp_path, text).default_database.cors == APP
    assert read(tmp_path, text + "default_database: {cors: off}").default_database.cors is None
    [problem] = problems(tmp_path, text + 'default_database: {cors: {origins: ["*"], credentials: true}}')
    assert problem.place == "default_database.cors.credentials"


def test_a_database_may_have_it_where_the_server_has_none(tmp_path: Path) -> None:
    text = SMALL + 'cors: off\ndatabases: {n: {cors: {origins: ["https://app.example"]}}}'
    settings = read(tmp_path, text)
    assert settings.cors is None
    assert settings.databases["n"].cors == APP


def test_it_can_come_from_the_environment(tmp_path: Path) -> None:
    text = SMALL + 'cors: {origins: ["${APP}"], credentials: "${LOGIN:-false}", max_age_s: "${AGE:-600}"}'
    assert read(tmp_path, text, {"APP": "https://app.example"}).cors == APP
    assert read(tmp_path, SMALL + "cors: ${CORS:-off}").cors is None


@pytest.mark.parametrize(
    ("written", "place", "said"),
    [
        ("", "cors.origins", "`origins` is missing"),
        ("{credentials: true}", "cors.origins", "`origins` is missing"),
        ("true", "cors", "must be a mapping with `origins`, or off"),
        ("'*'", "cors", "must be a mapping with `origins`, or off"),
        ("['*']", "cors", "must be a mapping with `origins`, or off"),
        ("{origins: '*'}", "cors.origins", "must be a list"),
        ("{origins: []}", "cors.origins", "at least one origin"),
        ("{origins: }", "cors.origins", "at least one origin"),
        ("{origins: [7]}", "cors.origins[0]", "must be text"),
        ("{origins: ['*', 'https://*.example']}", "cors.origins[1]", "one exact origin"),
        ("{origins: ['https://app.example/']}", "cors.origins[0]", 'browsers send it: "https://app.example"'),
        ("{origins: ['null']}", "cors.origins[0]", "cannot be told apart"),
        ("{origins: ['*'], credentials: true}", "cors.credentials", "every web page could act"),
        ("{origins: ['http://a', '*'], credentials: 'true'}", "cors.credentials", "every web page could act"),
        ("{origins: ['*'], credentials: perhaps}", "cors.credentials", "must be true or false"),
        ("{origins: ['*'], headers: ['*']}", "cors.headers[0]", "the name of one request header"),
        ("{origins: ['*'], headers: 'X-A'}", "cors.headers", "must be a list"),
        ("{origins: ['*'], max_age_s: -1}", "cors.max_age_s", "from 0 to 86400"),
        ("{origins: ['*'], max_age_s: 86401}", "cors.max_age_s", "from 0 to 86400"),
        ("{origins: ['*'], max_age_s: 1.5}", "cors.max_age_s", "from 0 to 86400"),
        ("{origins: ['*'], max_age_s: true}", "cors.max_age_s", "from 0 to 86400"),
        ("{origins: ['*'], max_age_s: soon}", "cors.max_age_s", "from 0 to 86400"),
        ("{origin: ['*'], origins: ['*']}", "cors.origin", "did you mean `origins`?"),
        ("{origins: ['*'], methods: [GET]}", "cors.methods", "this key is not known"),
    ],
)
def test_what_cannot_be_meant_is_told_at_its_place(tmp_path: Path, written: str, place: str, said: str) -> None:
    for text, prefix in ((f"cors: {written}", ""), (f"databases: {{n: {{cors: {written}}}}}", "databases.n.")):
        [problem] = problems(tmp_path, SMALL + text)
        assert problem.place == prefix + place
        assert said in problem.text
        assert problem.line == 2


def test_a_reload_takes_it_over_without_a_restart(tmp_path: Path) -> None:
    before = read(tmp_path, SMALL + "databases: {notes: }")
    after = read(tmp_path, SMALL + 'cors: {origins: ["https://app.example"]}\ndatabases: {notes: {cors: off}}')
    assert not needs_restart(before, after)
