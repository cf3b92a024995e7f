"""`access()` and `role()` with `{expires: when}`."""

from __future__ import annotations

import pytest

from gateway.errors import SyncFunctionBadExpiry, SyncFunctionFailed, SyncFunctionRanAway
from gateway.model.routing import ADMIN, Call, Routing
from gateway.syncfn.engine import EngineLimits
from gateway.syncfn.runtime import SyncFunction
from tests.syncfn.asking import NOW, Quick, ask, body

SECONDS_2030 = 1_893_456_000


def ends(source: str) -> set[tuple[str, str, float]]:
    verdict = ask(source)
    assert verdict.error is None, verdict
    assert {(who, what) for who, what, _ in verdict.routing.grant_ends} <= verdict.routing.grants
    return set(verdict.routing.grant_ends)


@pytest.mark.parametrize(
    ("when", "end"),
    [
        ("60", NOW + 60),
        ('"60"', NOW + 60),
        ("1.9", NOW + 1),
        (f"{SECONDS_2030}", SECONDS_2030),
        ('"2030-01-01T00:00:00Z"', SECONDS_2030),
        ('"2030-01-01T01:00:00+01:00"', SECONDS_2030),
        ("new Date(Date.UTC(2030, 0, 1))", SECONDS_2030),
        ('"1999-01-01T00:00:00Z"', 915_148_800),  # over already: the store makes nothing of it
    ],
)
def test_a_grant_ends_at_any_time_that_expiry_takes(when: str, end: float) -> None:
    assert ends(f'access("ann", "news", {{expires: {when}}})') == {("ann", "news", end)}


def test_one_end_is_for_all_users_and_channels_of_the_call() -> None:
    assert ends('access(["ann", "role:crew"], ["a", "b"], {expires: 9})') == {
        (who, what, NOW + 9) for who in ("ann", "role:crew") for what in ("a", "b")
    }


def test_roles_end_too() -> None:
    routing = ask('role("ann", "role:crew", {expires: 9}); role("ann", "role:staff")').routing
    assert routing.roles == {("ann", "crew"), ("ann", "staff")}
    assert routing.role_ends == {("ann", "crew", NOW + 9)}


def test_of_several_ends_the_latest_counts_in_whatever_form_they_are() -> None:
    for calls in (["9", f"{SECONDS_2030}", '"2020-01-01T00:00:00Z"'], [f"{SECONDS_2030}", '"9"', "8", "9"]):
        source = "".join(f'access("ann", "a", {{expires: {when}}});' for when in calls)
        assert ends(source) == {("ann", "a", SECONDS_2030)}


def test_a_grant_without_end_outlasts_all_others() -> None:
    limited, open_ended = 'access("ann", ["a", "b"], {expires: 9});', 'access("ann", "a");'
    for source in (limited + open_ended, open_ended + limited):
        assert ends(source) == {("ann", "b", NOW + 9)}
        assert ask(source).routing.grants == {("ann", "a"), ("ann", "b")}


@pytest.mark.parametrize(
    "when",
    [
        *(
            "0",
            '"0"',
            "0.5",
            "-1",
            "NaN",
            "Infinity",
            "1e300",
            "null",
            "undefined",
            "true",
            "[5]",
            "{}",
            '""',
            '"soon"',
        ),
        *('"2030-02-30T00:00:00Z"', '"9".repeat(100)', "doc.until", "Symbol.iterator", "1n"),
        *("new Date(NaN)", "Object.create(Date.prototype)", "new Date(8640000000000000)"),
    ],
)
def test_an_end_that_is_no_time_refuses_the_document_and_says_so(when: str) -> None:
    """A typo must not give access for ever."""
    for call, name in (('access("ann", "a"', "access()"), ('role("ann", "role:a"', "role()")):
        verdict = ask(f"{call}, {{expires: {when}}})")
        assert type(verdict.error) is SyncFunctionBadExpiry, verdict
        assert verdict.error.status == 400
        assert f"{name} got no time for `expires`: " in verdict.error.reason
        assert verdict.routing == Routing()


def test_an_end_that_is_no_time_refuses_even_if_the_function_catches_it() -> None:
    source = 'try { access("ann", "a", {expires: null}) } catch (error) { access("ann", "a") }'
    assert type(ask(source).error) is SyncFunctionBadExpiry
    beside = 'access("ann", "a", {expires: "soon"}); access("ann", "a", {expires: 60})'
    assert type(ask(beside).error) is SyncFunctionBadExpiry


@pytest.mark.parametrize(
    "more", ["undefined", "null", "60", "{}", "[60]", "{expire: 60}", "{expires: 60, more: 1}", "{expires: 60}, 1"]
)
def test_an_option_that_is_not_known_is_an_error_and_no_unlimited_grant(more: str) -> None:
    for call in ('access("ann", "a"', 'role("ann", "role:a"'):
        assert type(ask(f"{call}, {more})").error) is SyncFunctionFailed


def test_many_ends_are_as_many_grants() -> None:
    few = EngineLimits(grants=10)
    same = Quick(body('for (let i = 0; i < 100; i++) access("ann", "a", {expires: 60})'), few)
    assert same().error is None
    others = Quick(body('for (let i = 1; i < 100; i++) access("ann", "a", {expires: i})'), few)
    assert type(others().error) is SyncFunctionRanAway


async def test_relative_times_count_from_when_the_function_was_asked_first() -> None:
    """Who asks again about a recorded revision says when that was: then nothing lasts longer for it."""
    function = SyncFunction(body('access("ann", "a", {expires: 60}); expiry(70)'))
    try:
        first, again = await function.run(
            [Call({"_id": "d"}, None, ADMIN), Call({"_id": "d"}, None, ADMIN, asked_at=NOW)], now=NOW + 500
        )
    finally:
        await function.close()
    assert first.routing == Routing(
        grants=frozenset({("ann", "a")}), expiry=NOW + 570, grant_ends=frozenset({("ann", "a", NOW + 560)})
    )
    assert again.routing == Routing(
        grants=frozenset({("ann", "a")}), expiry=NOW + 70, grant_ends=frozenset({("ann", "a", NOW + 60)})
    )
    assert (first.routing.asked_at, again.routing.asked_at) == (NOW + 500, NOW)
