"""The config file: what it gives, and that it says everything that is wrong with it at once, with its place."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from gateway.settings import Address, Problem, SessionSettings, Settings, SettingsError, load
from gateway.syncfn.default import DEFAULT_SYNC_FUNCTION

SMALL = """
couchdb: {url: "http://127.0.0.1:5984"}
"""


def no_javascript_problem(_: str) -> str | None:
    return None


def read(
    directory: Path,
    text: str,
    environ: dict[str, str] | None = None,
    *,
    name: str = "gateway.yaml",
    js: str | None = None,
) -> Settings:
    file = directory / name
    file.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
    return load(file, environ or {}, compile_error=lambda _: js)


def problems(
    directory: Path,
    text: str,
    environ: dict[str, str] | None = None,
    *,
    name: str = "gateway.yaml",
    js: str | None = None,
) -> list[Problem]:
    with pytest.raises(SettingsError) as raised:
        read(directory, text, environ, name=name, js=js)
    return raised.value.problems


def texts(found: list[Problem]) -> dict[str, str]:
    return {problem.place: problem.text for problem in found}


class TestWhatItGives:
    def test_databases_made_by_request_are_like_the_default_database(self, tmp_path: Path) -> None:
        given = """
            couchdb: {url: "embedded:./couch"}
            default_database:
              sync: function (doc) { channel("all"); }
              hide_existence: true
              resync: automatic
              guest: {disabled: false, admin_channels: [all]}
            """
        made = read(tmp_path, given).created("orders")
        assert (made.name, made.upstream, made.hide_existence) == ("orders", "orders", True)
        assert made.resync == "automatic"
        assert made.sync_source == 'function (doc) { channel("all"); }'
        assert made.guest.admin_channels == {"all"}
        plain = read(tmp_path, 'couchdb: {url: "embedded:./couch"}\n').created("a/b")
        assert (plain.name, plain.upstream, plain.sync_source) == ("a/b", "a/b", DEFAULT_SYNC_FUNCTION)
        assert plain.guest.disabled
        (problem,) = problems(tmp_path, given.replace("hide_existence: true", "upstream: other"))
        assert (problem.place, "remove this" in problem.text) == ("default_database.upstream", True)
        (problem,) = problems(tmp_path, given.replace("hide_existence: true", "allow_conflicts: true"))
        assert problem.text == "comes with a later version"

    def test_the_file_of_the_design_is_read_whole(self, tmp_path: Path) -> None:
        (tmp_path / "sync.js").write_text("function (doc) { channel(doc.channels); }", encoding="utf-8")
        settings = read(
            tmp_path,
            """
            listen: {public: "127.0.0.1:4984", admin: "127.0.0.1:4985", metrics: "127.0.0.1:4986"}
            metadata: "sqlite:./data/metadata.db"
            couchdb: {url: "http://127.0.0.1:5984", username: admin, password: "${COUCHDB_PASSWORD}"}
            admins: {ops: {password: "${OPS_PASSWORD}"}}
            public: {allow_admins: false}
            databases:
              notes:
                upstream: notes
                sync: sync.js
                guest: {disabled: true, admin_channels: []}
                users: {ann: {password: "${ANN_PASSWORD:-ann}", admin_channels: [staff], admin_roles: [editor]}}
                roles: {editor: {admin_channels: [drafts]}}
            """,
            {"COUCHDB_PASSWORD": "relax", "OPS_PASSWORD": "opsops"},
        )
        assert settings.listen.public == ("127.0.0.1", 4984)
        assert settings.listen.admin == ("127.0.0.1", 4985)
        assert settings.listen.metrics == ("127.0.0.1", 4986)
        assert settings.metadata == tmp_path / "data/metadata.db"
        assert settings.upstream.url == "http://127.0.0.1:5984"
        assert settings.upstream.embedded is None
        assert settings.upstream.username == "admin"
        assert settings.upstream.password is not None
        assert settings.upstream.password.get_secret_value() == "relax"
        assert settings.admins["ops"].get_secret_value() == "opsops"
        assert not settings.public.allow_admins
        notes = settings.databases["notes"]
        assert (notes.name, notes.upstream) == ("notes", "notes")
        assert notes.sync_source == "function (doc) { channel(doc.channels); }"
        assert notes.sync_place == str(tmp_path / "sync.js")
        assert notes.guest.disabled
        assert notes.users["ann"].password.get_secret_value() == "ann"
        assert notes.users["ann"].admin_channels == {"staff"}
        assert notes.users["ann"].admin_roles == {"editor"}
        assert notes.roles["editor"].admin_channels == {"drafts"}

    def test_what_is_left_out_has_a_default(self, tmp_path: Path) -> None:
        settings = read(tmp_path, SMALL + "databases: {notes: }\n")
        assert settings.listen.public == ("127.0.0.1", 4984)
        assert settings.listen.admin == ("127.0.0.1", 4985)
        assert settings.listen.metrics == ("127.0.0.1", 4986)
        assert settings.metadata == tmp_path / "data/metadata.db"
        assert settings.logging.level == "info"
        assert settings.sessions == SessionSettings(600, "lax", secure=False)
        assert settings.admins == {}
        notes = settings.databases["notes"]
        assert notes.upstream == "notes"
        assert "channel(doc.channels)" in notes.sync_source
        assert notes.sync_place == "the default sync function"
        assert notes.guest.disabled
        assert notes.users == {}
        assert notes.roles == {}

    def test_sessions_are_configured(self, tmp_path: Path) -> None:
        text = SMALL + 'sessions: {timeout_s: "${TIMEOUT:-3600}", same_site: none, secure: true}\n'
        assert read(tmp_path, text).sessions == SessionSettings(3_600, "none", secure=True)
        text = SMALL + 'sessions: {timeout_s: 60, same_site: strict, secure: "${SECURE:-auto}"}\n'
        assert read(tmp_path, text).sessions == SessionSettings(60, "strict", secure=False)

    def test_sign_up_is_off_unless_it_is_switched_on(self, tmp_path: Path) -> None:
        assert not read(tmp_path, SMALL).public.sign_up
        assert read(tmp_path, SMALL + "public: {sign_up: true}\n").public.sign_up

    def test_the_time_to_stop_is_configured(self, tmp_path: Path) -> None:
        assert read(tmp_path, SMALL).shutdown.drain_s == 10
        assert read(tmp_path, SMALL + 'shutdown: {drain_s: "${DRAIN:-25}"}\n').shutdown.drain_s == 25

    def test_json_is_read_too_also_with_tabs_and_escapes(self, tmp_path: Path) -> None:
        value = {
            "couchdb": {"url": "embedded:couch"},
            "databases": {"notes": {"users": {"🍪é": {"password": "tab\tand ${NOTHING:-more}"}}, "guest": None}},
        }
        settings = read(tmp_path, json.dumps(value, indent="\t"), name="gateway.json")
        assert settings.databases["notes"].users["🍪é"].password.get_secret_value() == "tab\tand more"
        assert settings.upstream.embedded == tmp_path / "couch"

    def test_relative_paths_belong_to_the_directory_of_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "config").mkdir()
        (tmp_path / "functions").mkdir()
        (tmp_path / "functions/f.js").write_text("function () {}", encoding="utf-8")
        (tmp_path / "config/g.yaml").write_text(
            "metadata: sqlite:../m.db\n"
            "couchdb: {url: 'embedded:../couch'}\n"
            "databases: {n: {sync: ../functions/f.js}}\n",
            encoding="utf-8",
        )
        monkeypatch.chdir(tmp_path / "functions")
        settings = load("../config/g.yaml", {}, compile_error=no_javascript_problem)
        assert settings.metadata == tmp_path / "m.db"
        assert settings.upstream.embedded == tmp_path / "couch"
        assert settings.upstream.url == f"embedded:{tmp_path / 'couch'}"
        assert settings.databases["n"].sync_source == "function () {}"

    def test_listeners_can_be_switched_off(self, tmp_path: Path) -> None:
        settings = read(tmp_path, SMALL + "listen: {admin: off, metrics: 'off', public: '[::1]:0'}\n")
        assert settings.listen.admin is None
        assert settings.listen.metrics is None
        assert settings.listen.public == Address("::1", 0)
        assert str(settings.listen.public) == "[::1]:0"

    def test_words_that_yaml_once_took_for_booleans_are_names(self, tmp_path: Path) -> None:
        settings = read(
            tmp_path, SMALL + "databases: {on: {users: {no: {password: yes-yes, admin_channels: [off, no]}}}}\n"
        )
        assert settings.databases["on"].users["no"].admin_channels == {"off", "no"}

    def test_the_listeners_may_all_ask_for_a_free_port(self, tmp_path: Path) -> None:
        settings = read(
            tmp_path, SMALL + 'listen: {public: "localhost:0", admin: "localhost:0", metrics: "localhost:0"}'
        )
        assert settings.listen.public == ("localhost", 0)

    def test_roles_that_exist_nowhere_may_be_given(self, tmp_path: Path) -> None:
        text = SMALL + "databases: {n: {users: {ann: {password: secret, admin_roles: [later]}}}}"
        assert read(tmp_path, text).databases["n"].users["ann"].admin_roles == {"later"}

    def test_an_admin_may_be_given_by_a_hash(self, tmp_path: Path) -> None:
        hashed = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21l$8yOvIvhHqk7KfbFvvQ8wgl1CUrOBQ5kG5VTpQtNvtKY"
        settings = read(tmp_path, SMALL + f"admins: {{ops: {{password: '{hashed}'}}}}")
        assert settings.admins["ops"].get_secret_value() == hashed


class TestTheSyncFunction:
    def test_dollars_in_the_function_are_its_own(self, tmp_path: Path) -> None:
        settings = read(
            tmp_path,
            """
            couchdb: {url: "embedded:couch"}
            databases:
              notes:
                sync: |
                  function (doc) { channel(`shop-${doc.shop}`); requireUser("$$" + doc.owner); }
            """,
        )
        source = settings.databases["notes"].sync_source
        assert source == 'function (doc) { channel(`shop-${doc.shop}`); requireUser("$$" + doc.owner); }\n'
        assert settings.databases["notes"].sync_place == f"{tmp_path / 'gateway.yaml'}:4 databases.notes.sync"

    def test_dollars_in_the_functions_of_the_default_database_are_their_own(self, tmp_path: Path) -> None:
        made = read(
            tmp_path,
            """
            couchdb: {url: "embedded:couch"}
            default_database:
              sync: function (doc) { channel(`shop-${doc.shop}`); }
              import_filter: function (doc) { return `${doc.shop}` === "1"; }
            """,
        ).created("n")
        assert made.sync_source == "function (doc) { channel(`shop-${doc.shop}`); }"
        assert made.imports.filter_source == 'function (doc) { return `${doc.shop}` === "1"; }'

    def test_a_function_that_mentions_a_js_file_last_is_no_path(self, tmp_path: Path) -> None:
        settings = read(
            tmp_path,
            'couchdb: {url: "embedded:c"}\ndatabases:\n  n:\n    sync: |\n      function () {}\n      // f.js\n',
        )
        assert settings.databases["n"].sync_source == "function () {}\n// f.js\n"

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        found = problems(tmp_path, SMALL + "databases: {notes: {sync: nowhere.js}}")
        assert texts(found) == {"databases.notes.sync": f"there is no file {tmp_path / 'nowhere.js'}"}

    def test_bad_javascript_is_told_with_its_file(self, tmp_path: Path) -> None:
        (tmp_path / "f.js").write_text("function (", encoding="utf-8")
        found = problems(tmp_path, SMALL + "databases: {notes: {sync: f.js}}", js="SyntaxError in line 1")
        assert texts(found) == {"databases.notes.sync": f"{tmp_path / 'f.js'}: SyntaxError in line 1"}

    def test_the_real_engine_is_asked_when_no_other_is_given(self, tmp_path: Path) -> None:
        file = tmp_path / "gateway.yaml"
        file.write_text(SMALL + "databases: {notes: {sync: 'function (doc) { channel(doc.; }'}}", encoding="utf-8")
        with pytest.raises(SettingsError) as raised:
            load(file, {})
        [problem] = raised.value.problems
        assert problem.place == "databases.notes.sync"
        assert problem.text.startswith("in the function: SyntaxError")
        file.write_text(
            SMALL + "databases: {notes: {sync: 'function (doc) { channel(`${doc.shop}`); }'}}", encoding="utf-8"
        )
        assert load(file, {}).databases["notes"].sync_source == "function (doc) { channel(`${doc.shop}`); }"

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "the sync function is empty"),
            (b"\xff\xfe", "is not UTF-8 text"),
            (b"/" * 1_000_001, "exceeds 1000000 bytes"),
        ],
    )
    def test_a_file_that_can_be_no_function_is_refused(self, tmp_path: Path, content: bytes, said: str) -> None:
        (tmp_path / "f.js").write_bytes(content)
        [problem] = problems(tmp_path, SMALL + "databases: {notes: {sync: f.js}}")
        assert said in problem.text


class TestTheEnvironment:
    def password(self, directory: Path, written: str, **environ: str) -> str:
        text = SMALL + f"databases: {{n: {{users: {{ann: {{password: '{written}'}}}}}}}}"
        return read(directory, text, environ).databases["n"].users["ann"].password.get_secret_value()

    def test_a_variable_is_put_in_and_not_looked_at_again(self, tmp_path: Path) -> None:
        assert self.password(tmp_path, "a-${PW}-b", PW="${OTHER}$$") == "a-${OTHER}$$-b"

    def test_the_default_stands_in_for_an_unset_and_an_empty_variable(self, tmp_path: Path) -> None:
        assert self.password(tmp_path, "${PW:-fall:-back}") == "fall:-back"
        assert self.password(tmp_path, "${PW:-fallback}", PW="") == "fallback"
        assert self.password(tmp_path, "${PW:-fallback}", PW="given") == "given"

    def test_two_dollars_are_one_and_a_lone_one_stays(self, tmp_path: Path) -> None:
        assert self.password(tmp_path, "$${PW} $PW $") == "${PW} $PW $"

    def test_a_flag_can_come_from_the_environment(self, tmp_path: Path) -> None:
        text = SMALL + "databases: {n: {guest: {disabled: '${CLOSED:-true}'}}}"
        assert read(tmp_path, text).databases["n"].guest.disabled
        assert not read(tmp_path, text, {"CLOSED": "false"}).databases["n"].guest.disabled

    def test_an_unset_variable_is_the_only_problem_told_of_its_value(self, tmp_path: Path) -> None:
        found = problems(
            tmp_path,
            """
            couchdb: {url: "embedded:c"}
            databases:
              notes:
                users:
                  ann: {password: "${ANN}"}
                  bob: {password: "${BOB}"}
                  cid: {password: "x${CID"}
            """,
            {"BOB": ""},
        )
        assert [str(problem) for problem in found] == [
            "5:23 databases.notes.users.ann.password: the environment variable ANN is not set, and no default is given",
            "6:23 databases.notes.users.bob.password: the environment variable BOB is empty, and no default is given",
            '7:23 databases.notes.users.cid.password: "${" must be followed by a name and "}", as in ${NAME} or '
            "${NAME:-default}; $$ stands for $",
        ]


class TestProblems:
    def test_all_are_told_at_once_in_the_order_of_the_file(self, tmp_path: Path) -> None:
        found = problems(
            tmp_path,
            """
            listen: {public: "127.0.0.1:70000", admim: "off"}
            metadata: "postgresql://user@host/db"
            databases:
              notes:
                snyc: f.js
                users:
                  ann: {password: "ab"}
                  b/b: {password: secret}
                  cid: {admin_channels: ["a,b"]}
              notes:
                sync: g.js
              Upper:
                guest: {disabled: maybe}
              other:
                upstream: notes
                allow_conflicts: true
            loging: {level: info}
            """,
        )
        assert [(problem.line, problem.place, problem.text) for problem in found] == [
            (1, "couchdb", "`couchdb` is missing"),
            (1, "listen.public", "port 70000 does not exist; the highest is 65535"),
            (1, "listen.admim", "this key is not known; did you mean `admin`?"),
            (2, "metadata", "PostgreSQL comes with a later version; use sqlite:PATH"),
            (5, "databases.notes.snyc", "this key is not known; did you mean `sync`?"),
            (7, "databases.notes.users.ann.password", "a password must have at least 3 characters"),
            (8, "databases.notes.users.b/b", "invalid name: must not contain /"),
            (9, "databases.notes.users.cid", "needs a password"),
            (
                9,
                "databases.notes.users.cid.admin_channels[0]",
                'Illegal channel name "a,b": must not contain a comma',
            ),
            (10, "databases.notes", "this key is there twice, first in line 4"),
            (
                12,
                "databases.Upper",
                "Name: 'Upper'. Only lowercase characters (a-z), digits (0-9), and any of the characters _, $, (, ), "
                "+, -, and / are allowed. Must begin with a letter.",
            ),
            (13, "databases.Upper.guest.disabled", "must be true or false"),
            (
                15,
                "databases.other.upstream",
                'the databases "notes" and "other" would share the upstream database "notes"',
            ),
            (16, "databases.other.allow_conflicts", "comes with a later version"),
            (17, "loging", "this key is not known; did you mean `logging`?"),
        ]

    def test_the_message_counts_and_places_them(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError) as raised:
            read(tmp_path, "couchdb: {url: 5}\nlisten: 4984\n")
        assert str(raised.value) == (
            f"{tmp_path / 'gateway.yaml'}: 2 problems\n"
            "  1:16 couchdb.url: must be text; put it in quotes\n"
            "  2:9 listen: must be a mapping of keys to values"
        )

    def test_a_key_in_no_way_like_a_known_one_gets_the_list(self, tmp_path: Path) -> None:
        found = problems(tmp_path, SMALL + "public: {zzz: 1}")
        assert texts(found) == {"public.zzz": "this key is not known; here may be allow_admins, sign_up"}

    @pytest.mark.parametrize(
        ("text", "place", "said"),
        [
            ("databases: {n: {users: {ann: {password: 12345}}}}", "databases.n.users.ann.password", "put it in quotes"),
            ("databases: {n: {users: {ann: {password: }}}}", "databases.n.users.ann.password", "must be text"),
            ("databases: {n: {users: {ann: }}}", "databases.n.users.ann", "needs a password"),
            ("databases: {n: {users: [ann]}}", "databases.n.users", "must be a mapping of names"),
            ("databases: {n: {users: {GUEST: {password: abc}}}}", "databases.n.users.GUEST", "stands under `guest`"),
            (
                "databases: {n: {roles: {r: {admin_channels: x}}}}",
                "databases.n.roles.r.admin_channels",
                "must be a list",
            ),
            ("databases: {n: {roles: {r: {admin_channels: [1]}}}}", "databases.n.roles.r.admin_channels[0]", "quotes"),
            ("databases: {n: {roles: {r: {admin_channels: ['']}}}}", "databases.n.roles.r.admin_channels[0]", "empty"),
            ("databases: {n: {upstream: _users}}", "databases.n.upstream", "Only lowercase"),
            ("databases: {n: {sync: }}", "databases.n.sync", "must be text"),
            ("databases: {n: {sync: ' '}}", "databases.n.sync", "leave the key out"),
            ("sessions: {timeout_s: 9}", "sessions.timeout_s", "must be a number of seconds from 10 to 2678400"),
            ("sessions: {timeout_s: ten}", "sessions.timeout_s", "must be a number of seconds from 10 to 2678400"),
            ("shutdown: {drain_s: 0}", "shutdown.drain_s", "must be a number of seconds from 1 to 600"),
            ("shutdown: {drain_s: 601}", "shutdown.drain_s", "must be a number of seconds from 1 to 600"),
            ("shutdown: {wait: 1}", "shutdown.wait", "this key is not known"),
            ("sessions: {same_site: off}", "sessions.same_site", "must be 'lax', 'strict' or 'none'"),
            ("sessions: {secure: false}", "sessions.secure", "must be auto or true"),
            ("logging: {level: loud}", "logging.level", "must be 'debug', 'info', 'warning' or 'error'"),
            ("metadata: data/metadata.db", "metadata", "must be sqlite:PATH"),
            ("metadata: 'sqlite::memory:'", "metadata", "must name a file"),
            ("metadata: 'sqlite:.'", "metadata", "is a directory"),
            ("admins: {ops: {password: $argon2i$nonsense}}", "admins.ops.password", "argon2"),
            (
                "admins: {ops: {password: '$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$hFwUIs8yRd1RJ5eRVtbbsg'}}",
                "admins.ops.password",
                "argon2id",
            ),
            ("admins: {ops: {}}", "admins.ops", "needs a password"),
            ("public: {allow_admins: true}", "public.allow_admins", "there are no `admins`"),
            ("listen: {public: ':4984'}", "listen.public", 'use "0.0.0.0:4984" for every network'),
            ("listen: {public: '*:4984'}", "listen.public", "names no host"),
            ("listen: {public: localhost}", "listen.public", "HOST:PORT"),
            ("listen: {public: 4984}", "listen.public", "in quotes"),
            ("listen: {public: '1.2.3:80'}", "listen.public", "is no IPv4 address"),
            ("listen: {public: '[::z]:80'}", "listen.public", "is no IPv6 address"),
            ("listen: {public: 'a b:80'}", "listen.public", "is no host name"),
            ("listen: {public: '::1:80'}", "listen.public", "HOST:PORT"),
            ("listen: {admin: '127.0.0.1:4984'}", "listen.admin", "which `public` has taken"),
            ("listen: {public: '0.0.0.0:4985'}", "listen.admin", "which `public` has taken"),
            ("listen: {admin: '0.0.0.0:4985'}", "listen.admin", "name `admins` first"),
            ("listen: {admin: '[::]:4985'}", "listen.admin", "name `admins` first"),
            ("listen: {admin: 'gateway.example:4985'}", "listen.admin", "name `admins` first"),
        ],
    )
    def test_each_is_told_at_its_place(self, tmp_path: Path, text: str, place: str, said: str) -> None:
        [problem] = problems(tmp_path, SMALL + text)
        assert problem.place == place
        assert said in problem.text
        assert problem.line == 2

    @pytest.mark.parametrize(
        ("couchdb", "place", "said"),
        [
            ("{url: 'ftp://h'}", "couchdb.url", "must be http://HOST:PORT"),
            ("{url: 'http://'}", "couchdb.url", "must be http://HOST:PORT"),
            ("{url: 'http://h:x'}", "couchdb.url", "malformed"),
            ("{url: 'http://h:0'}", "couchdb.url", "must be http://HOST:PORT"),
            ("{url: 'http://h/?q'}", "couchdb.url", "query"),
            ("{url: 'http://ann:topsecret@h'}", "couchdb.url", "must not hold credentials"),
            ("{url: 'embedded:'}", "couchdb.url", "must name a directory"),
            ("{url: 'embedded:gateway.yaml'}", "couchdb.url", "is not a directory"),
            ("{url: 'embedded:c', username: ann}", "couchdb.username", "the embedded upstream has no login"),
            ("{url: 'http://h', username: ann}", "couchdb.username", "needs `password`"),
            ("{url: 'http://h', password: topsecret}", "couchdb.password", "needs `username`"),
            ("{url: 'http://h', username: 'a:b', password: topsecret}", "couchdb.username", "colon"),
            ("{url: 'http://h', username: '', password: topsecret}", "couchdb.username", "must not be empty"),
            ("{url: 'http://h h'}", "couchdb.url", "must be http://HOST:PORT"),
            ("{}", "couchdb.url", "`url` is missing"),
        ],
    )
    def test_the_upstream_is_checked(self, tmp_path: Path, couchdb: str, place: str, said: str) -> None:
        [problem] = problems(tmp_path, f"couchdb: {couchdb}")
        assert problem.place == place
        assert said in problem.text
        assert "topsecret" not in str(problem)

    def test_names_with_dots_are_quoted_in_the_place(self, tmp_path: Path) -> None:
        [problem] = problems(tmp_path, SMALL + "databases: {n: {users: {ann.b: {password: ab}}}}")
        assert problem.place == 'databases.n.users["ann.b"].password'

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "the file is empty"),
            ("# only a comment\n", "the file is empty"),
            ("~", "the file is empty"),
            ("- a\n", "the file must be a mapping"),
            ("a: [\n", "this is not YAML"),
            ("a: b: c\n", "this is not YAML"),
            ("a: 1\n---\nb: 2\n", "this is not YAML"),
            ("a: \x01\n", "U+0001"),
            ("a: &x {b: *x}\n", "nested deeper"),
            ("a: " + "[" * 400 + "]" * 400, "nested deeper"),
            ("a: !!python/object:os.system {}\n", "this key is not known"),
        ],
    )
    def test_a_file_that_cannot_be_read_is_one_problem(self, tmp_path: Path, text: str, said: str) -> None:
        assert any(said in problem.text for problem in problems(tmp_path, text))

    def test_aliases_cannot_make_the_file_endless(self, tmp_path: Path) -> None:
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
        [problem] = problems(tmp_path, "\n".join(lines))
        assert "more than 100000 values" in problem.text

    def test_broken_json_has_its_line(self, tmp_path: Path) -> None:
        [problem] = problems(tmp_path, '{"a": 1,\n "b" 2}', name="gateway.json")
        assert (problem.line, problem.column) == (2, 6)
        assert "this is not JSON" in problem.text

    def test_bytes_that_are_no_text_have_their_line(self, tmp_path: Path) -> None:
        (tmp_path / "g.yaml").write_bytes(b"a: b\nc: \xff\n")
        with pytest.raises(SettingsError) as raised:
            load(tmp_path / "g.yaml", {})
        assert raised.value.problems == [Problem("", "the file is not UTF-8 text", 2, 1)]

    def test_a_missing_config_file_is_a_problem_too(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="there is no such file"):
            load(tmp_path / "none.yaml", {})
        with pytest.raises(SettingsError, match="cannot be read"):
            load(tmp_path, {})


class TestSecrets:
    def test_no_secret_is_printed_with_the_settings(self, tmp_path: Path) -> None:
        settings = read(
            tmp_path,
            """
            couchdb: {url: "http://h:5984", username: admin, password: topsecret-1}
            admins: {ops: {password: topsecret-2}}
            databases: {n: {users: {ann: {password: topsecret-3}}}}
            """,
        )
        assert "topsecret" not in repr(settings) + str(settings)

    def test_no_secret_is_told_with_a_problem(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError) as raised:
            read(
                tmp_path,
                """
                couchdb: {url: "http://h:5984", username: admin, password: [topsecret]}
                admins: {ops: {password: {is: topsecret}}, other: topsecret}
                databases: {n: {users: {ann: {password: "${PW}", pasword: topsecret}, bob: topsecret}}}
                """,
                {"PW": "topsecret" * 1_000},
            )
        error = raised.value
        assert len(error.problems) >= 6
        assert "topsecret" not in str(error) + repr(error.problems)
        assert error.__cause__ is None
        assert error.__context__ is None


class TestTheRulesOfImport:
    def test_everything_is_taken_in_by_default(self, tmp_path: Path) -> None:
        rules = read(tmp_path, 'couchdb: {url: "embedded:c"}\ndatabases: {n: }\n').databases["n"].imports
        assert (rules.enabled, rules.filter_source) == (True, None)

    def test_a_filter_may_be_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "some.js").write_text("function (doc) { return doc.a; }")
        text = 'couchdb: {url: "embedded:c"}\ndatabases: {n: {import_filter: some.js}}\n'
        assert read(tmp_path, text).databases["n"].imports.filter_source == "function (doc) { return doc.a; }"

    @pytest.mark.parametrize(
        ("given", "place", "said"),
        [
            ("import: maybe", "databases.n.import", "true or false"),
            ('import_filter: ""', "databases.n.import_filter", "the import filter is empty"),
            ('import: false, import_filter: "function () {}"', "databases.n", "leave import_filter out"),
            ("import_: true", "databases.n.import_", "import"),
        ],
    )
    def test_what_makes_no_sense_is_named(self, tmp_path: Path, given: str, place: str, said: str) -> None:
        (problem,) = problems(tmp_path, f'couchdb: {{url: "embedded:c"}}\ndatabases: {{n: {{{given}}}}}\n')
        assert problem.place == place
        assert said in problem.text

    def test_a_filter_that_does_not_compile_is_a_problem(self, tmp_path: Path) -> None:
        text = 'couchdb: {url: "embedded:c"}\ndatabases: {n: {import_filter: "function (doc {"}}\n'
        (problem,) = problems(tmp_path, text, js="SyntaxError: expecting ')'")
        assert (problem.place, "SyntaxError" in problem.text) == ("databases.n.import_filter", True)
