"""What a sync function can say: channels, grants, roles, expiry, refusals, and what goes to the log."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import (
    IllegalName,
    RefusedBySyncFunction,
    SyncFunctionBadName,
    SyncFunctionFailed,
    SyncFunctionRanAway,
    UnauthorizedBySyncFunction,
)
from gateway.model.names import check_principal_name
from gateway.model.routing import ADMIN, NO_ROUTING, Routing, Verdict, Writer
from tests.syncfn.asking import ANN, GUEST, NOW, Quick, ask, body

SAY_ALL = Quick(body("channel.apply(null, doc.arguments)"))
GIVE = Quick(body("access(doc.users, doc.channels)"))
GIVE_ROLES = Quick(body("role(doc.users, doc.roles)"))
names = st.text(st.characters(exclude_characters=",", exclude_categories=["Cs"]), min_size=1, max_size=20)
noise = st.one_of(st.none(), st.integers(-5, 5), st.booleans(), st.just({}), st.just({"a": "b"}), st.just(["nested"]))
arguments = st.one_of(names, noise.filter(lambda value: not isinstance(value, list)), st.lists(st.one_of(names, noise)))


def strings(argument: Any) -> set[str]:
    items = argument if isinstance(argument, list) else [argument]
    return {item for item in items if isinstance(item, str)}


def routed(verdict: Verdict) -> Routing:
    assert verdict.error is None, verdict
    return verdict.routing


def refusal(verdict: Verdict) -> tuple[type[Exception], str]:
    assert verdict.error is not None, verdict
    assert verdict.routing == NO_ROUTING
    return type(verdict.error), verdict.error.reason


# ---- channel()


@given(st.lists(arguments, max_size=4))
def test_channel_takes_strings_and_arrays_of_strings_and_leaves_out_all_else(given_arguments: list[Any]) -> None:
    said: set[str] = set().union(*map(strings, given_arguments))
    expected = {"*"} if "*" in said else said
    assert routed(SAY_ALL({"arguments": given_arguments})).channels == expected


def test_calls_of_channel_add_up() -> None:
    assert routed(ask('channel("a"); channel("b", ["c"])')).channels == {"a", "b", "c"}


def test_a_document_put_into_star_is_in_no_other_channel() -> None:
    assert routed(ask('channel("a", "*")')).channels == {"*"}


def test_a_function_that_says_nothing_routes_nowhere() -> None:
    assert routed(ask("")) == NO_ROUTING


def test_what_channel_ignores_is_logged() -> None:
    verdict = ask('channel(5, ["a", ["b"], null])')
    assert routed(verdict).channels == {"a"}
    assert verdict.logs == (
        "warn: channel() takes strings and arrays of strings, not a number",
        "warn: channel() ignored an array in an array",
    )


@pytest.mark.parametrize("name", ["", "a,b", "x" * 1001, "é" * 501, "\ud800", "\ud800," + "x" * 2000])
def test_an_illegal_channel_name_refuses_the_document_and_is_named(name: str) -> None:
    kind, reason = refusal(Quick(body("channel(doc.name)"))({"name": name}))
    assert kind is SyncFunctionBadName
    assert name[:50].replace("\ud800", "?") in reason
    assert len(reason.encode()) < 300


def test_an_illegal_name_cannot_be_caught_away() -> None:
    assert refusal(ask('try { channel("x".repeat(5000)) } catch (e) { channel("a") }'))[0] is SyncFunctionBadName


# ---- access() and role()


@given(arguments, arguments)
def test_access_gives_each_user_each_channel(users: Any, channels: Any) -> None:
    verdict = GIVE({"users": users, "channels": channels})
    pairs = {(user, channel) for user in strings(users) for channel in strings(channels)}
    if all(is_name(user.removeprefix("role:")) for user, _ in pairs):
        assert routed(verdict).grants == pairs
    else:
        assert refusal(verdict)[0] is SyncFunctionBadName


def is_name(text: str) -> bool:
    try:
        check_principal_name(text)
    except IllegalName:
        return False
    return True


def test_access_gives_to_a_role_by_its_prefix() -> None:
    routing = routed(ask('access(["ann", "role:editor"], "news")'))
    assert routing.grants == {("ann", "news"), ("role:editor", "news")}


def test_access_to_star_is_given() -> None:
    assert routed(ask('access("ann", ["*", "a"])')).grants == {("ann", "*"), ("ann", "a")}


@pytest.mark.parametrize(
    "nothing", ["null, 'a'", "'ann', null", "undefined, 'a'", "[], 'a'", "'ann', []", "'ann'", "", "[null], ['a']"]
)
def test_access_of_nobody_or_to_nothing_gives_nothing(nothing: str) -> None:
    verdict = ask(f"access({nothing})")
    assert routed(verdict) == NO_ROUTING
    assert verdict.logs == ()


@pytest.mark.parametrize("user", ["", "a/b", "a:b", "role:", "role:a:b", "x" * 240, "--", "a\nb"])
def test_access_of_an_illegal_user_refuses_the_document(user: str) -> None:
    assert refusal(GIVE({"users": user, "channels": "a"}))[0] is SyncFunctionBadName


@pytest.mark.parametrize("channel", ["", "a,b", "x" * 1001])
def test_access_to_an_illegal_channel_refuses_the_document(channel: str) -> None:
    assert refusal(GIVE({"users": "ann", "channels": channel}))[0] is SyncFunctionBadName


def test_role_gives_roles_without_their_prefix() -> None:
    assert routed(ask('role(["ann", "bob"], "role:editor")')).roles == {("ann", "editor"), ("bob", "editor")}
    assert routed(ask('role(null, "role:editor"); role("ann", null)')) == NO_ROUTING


@pytest.mark.parametrize("role", ["editor", "role:", "Role:editor", "role:a:b", ""])
def test_a_role_without_prefix_or_with_an_illegal_name_refuses_the_document(role: str) -> None:
    assert refusal(GIVE_ROLES({"users": "ann", "roles": role}))[0] is SyncFunctionBadName


def test_roles_have_no_roles() -> None:
    assert refusal(GIVE_ROLES({"users": "role:a", "roles": "role:b"}))[0] is SyncFunctionBadName


# ---- who may write

REQUIREMENTS = [
    ("requireUser", '"ann"', '"bob"', "sg wrong user"),
    ("requireRole", '"editor"', '"role:editor"', "sg missing role"),
    ("requireAccess", '"news"', '"sport"', "sg missing channel access"),
]


@pytest.mark.parametrize(("name", "good", "bad", "reason"), REQUIREMENTS)
def test_a_requirement_passes_the_named_and_refuses_the_others(name: str, good: str, bad: str, reason: str) -> None:
    for passing in (good, f"[{bad}, {good}]"):
        assert routed(ask(f'{name}({passing}); channel("a")', writer=ANN)).channels == {"a"}
    for failing in (bad, f"[{bad}]", f"[[{good}]]", "", "null", "[]", "{}", "5", '""'):
        assert refusal(ask(f"{name}({failing})", writer=ANN)) == (RefusedBySyncFunction, reason)
        assert refusal(ask(f"{name}({failing})", writer=GUEST)) == (RefusedBySyncFunction, reason)
        assert routed(ask(f'{name}({failing}); channel("a")', writer=ADMIN)).channels == {"a"}


def test_only_an_admin_is_an_admin() -> None:
    assert routed(ask('requireAdmin(); channel("a")')).channels == {"a"}
    for writer in (ANN, GUEST):
        assert refusal(ask("requireAdmin()", writer=writer)) == (RefusedBySyncFunction, "sg admin required")


def test_the_guest_is_nobody_but_the_guest() -> None:
    assert refusal(ask('requireUser(["", null, "ann"])', writer=GUEST))[0] is RefusedBySyncFunction
    assert routed(ask('requireUser("GUEST")', writer=GUEST)) == NO_ROUTING


def test_having_all_channels_is_not_having_a_certain_one() -> None:
    everything = Writer("ann", channels=frozenset({"*"}))
    assert refusal(ask('requireAccess("news")', writer=everything))[0] is RefusedBySyncFunction
    assert routed(ask('requireAccess(["news", "*"])', writer=everything)) == NO_ROUTING


def test_a_second_writer_is_not_taken_for_the_first() -> None:
    only_ann = Quick(body('requireUser("ann")'))
    assert only_ann(writer=ANN).error is None
    assert only_ann(writer=Writer("bob")).error is not None
    assert only_ann(writer=ANN).error is None


@pytest.mark.parametrize(
    "requirement", ["requireAdmin()", 'requireUser("x")', 'requireRole("x")', 'requireAccess("x")']
)
def test_a_refusal_stands_even_if_the_function_catches_it(requirement: str) -> None:
    source = f'try {{ {requirement}; channel("x") }} catch (e) {{ channel("y") }}'
    assert refusal(ask(source, writer=ANN))[0] is RefusedBySyncFunction
    assert routed(ask(source)).channels == {"x"}


def test_the_first_refusal_is_the_reason() -> None:
    source = 'try { requireUser("x") } catch (e) {} throw({unauthorized: "later"})'
    assert refusal(ask(source, writer=ANN)) == (RefusedBySyncFunction, "sg wrong user")


def test_a_requirement_throws_what_the_function_could_have_thrown() -> None:
    verdict = ask("try { requireAdmin() } catch (e) { log(e) }", writer=ANN)
    assert verdict.logs == ('{"forbidden":"sg admin required"}',)


# ---- throw and reject()


@pytest.mark.parametrize("writer", [ADMIN, ANN])
def test_throwing_forbidden_or_unauthorized_refuses_with_the_reason(writer: Writer) -> None:
    assert refusal(ask('throw({forbidden: "no"})', writer=writer)) == (RefusedBySyncFunction, "no")
    assert refusal(ask('throw({unauthorized: "who?"})', writer=writer)) == (UnauthorizedBySyncFunction, "who?")


@pytest.mark.parametrize(
    ("thrown", "reason"),
    [
        ("{forbidden: 5}", "5"),
        ("{forbidden: true}", "true"),
        ("{forbidden: {}}", "forbidden"),
        ("{forbidden: null}", "forbidden"),
        ("{forbidden: ['a']}", "forbidden"),
        ("{forbidden: ''}", ""),
        ("{forbidden: 'x'.repeat(5000)}", "x" * 1000),
        ("{forbidden: '\\ud800'}", "?"),
        ("{forbidden: 'no', unauthorized: 'who?'}", "no"),
        ("Object.assign(new Error('e'), {forbidden: 'no'})", "no"),
    ],
)
def test_a_strange_reason_refuses_all_the_same(thrown: str, reason: str) -> None:
    assert refusal(ask(f"throw({thrown})")) == (RefusedBySyncFunction, reason)


@pytest.mark.parametrize(
    "thrown",
    [
        '"x"',
        "5",
        "undefined",
        "{}",
        "new Error('secret')",
        "new TypeError()",
        "Symbol('s')",
        "[]",
        "{forbidden: undefined}",
        "{get forbidden() { throw 1 }}",
        "new Proxy({}, {get() { throw 1 }})",
        "Object.create(null)",
        "{toJSON() { throw 1 }}",
        "{toJSON() { return this.toJSON }}",
        "Object.assign(new Error(), {toString() { throw 1 }})",
    ],
)
def test_throwing_anything_else_is_a_failure_that_tells_the_client_nothing(thrown: str) -> None:
    assert refusal(ask(f"throw({thrown})")) == (SyncFunctionFailed, "Exception in JS sync function")


def test_the_log_is_told_what_was_thrown_and_where() -> None:
    verdict = Quick("function (doc) {\n  log('here');\n  doc.missing.x = 1;\n}")()
    assert refusal(verdict)[0] is SyncFunctionFailed
    here, error = verdict.logs
    assert here == "here"
    assert error.startswith("error: TypeError: cannot set property 'x' of undefined at line 3 column ")


def test_an_error_of_the_api_is_placed_in_the_function_not_in_the_prelude() -> None:
    verdict = Quick("function (doc) {\n  access(1, 2, 3);\n}")()
    assert verdict.logs[0].startswith(
        "error: TypeError: access() takes as its third argument nothing but {expires: when} at line 2"
    )


def test_reject_refuses_without_stopping_and_the_first_counts() -> None:
    verdict = ask('reject(403, "first"); reject(401, "second"); log("goes on")')
    assert refusal(verdict) == (RefusedBySyncFunction, "first")
    assert verdict.logs == ("goes on",)
    assert refusal(ask('reject(401, "who?")')) == (UnauthorizedBySyncFunction, "who?")
    assert refusal(ask('reject(418, "tea")')) == (RefusedBySyncFunction, "tea")


@pytest.mark.parametrize("arguments", ["200, 'fine'", "'403', 'text'", "NaN, 'x'", ""])
def test_reject_without_an_error_status_is_nothing(arguments: str) -> None:
    assert routed(ask(f"reject({arguments})")) == NO_ROUTING


# ---- expiry()


def test_the_last_valid_expiry_counts() -> None:
    assert routed(ask("expiry(100); expiry('2000000000'); expiry('soon'); expiry(null)")).expiry == 2_000_000_000
    assert routed(ask("expiry(100)")).expiry == NOW + 100
    assert routed(ask("expiry(new Date(2000000000000)); expiry(new Date(NaN))")).expiry == 2_000_000_000
    assert routed(ask("expiry({}); expiry([5]); expiry(true); expiry('9'.repeat(100))")).expiry is None


# ---- the log


def test_what_is_printed_goes_to_the_log_with_its_level() -> None:
    verdict = ask('console.log("a", 1, {b: [null]}); console.error("c"); console.warn(undefined); log(new Error("e"))')
    assert verdict.logs == ('a 1 {"b":[null]}', "error: c", "warn: undefined", "Error: e")


def test_printing_has_limits() -> None:
    verdict = ask('for (let i = 0; i < 1000; i++) log("x".repeat(100000)); let o = {}; o.o = o; log(o)')
    assert verdict.logs == ("x" * 1000,) * 20
    assert ask("let o = {}; o.o = o; log(o)").logs == ("[cannot be printed]",)


# ---- how much it can say


@pytest.mark.parametrize(
    "much",
    [
        'for (let i = 0; i < 2000; i++) channel("c" + i)',
        'try { for (let i = 0; i < 2000; i++) channel("c" + i) } catch (e) {}',
        'const a = []; for (let i = 0; i < 200; i++) a.push("c" + i); access(a, a)',
        'const a = []; for (let i = 0; i < 200; i++) a.push("role:c" + i); role(a.map((r) => r.slice(5)), a)',
        "for (let i = 0; i < 2000; i++) expiry(i)",
    ],
)
def test_saying_more_than_the_limits_allow_is_an_error(much: str) -> None:
    kind, reason = refusal(ask(much))
    assert kind is SyncFunctionRanAway
    assert "more than" in reason


def test_saying_the_same_again_is_not_more() -> None:
    source = 'for (let i = 0; i < 20000; i++) { channel("c"); access("ann", "c"); role("ann", "role:r"); expiry(5) }'
    assert routed(ask(source)) == Routing(
        frozenset({"c"}), frozenset({("ann", "c")}), frozenset({("ann", "r")}), NOW + 5
    )
