"""The forms of `expiry()`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.syncfn.expiry import expiry_of

NOW = 1_800_000_000.0
MONTH = 30 * 24 * 3600


@given(st.integers(1, MONTH - 1))
def test_less_than_thirty_days_counts_from_now(seconds: int) -> None:
    assert expiry_of([seconds], NOW) == expiry_of([str(seconds)], NOW) == NOW + seconds


@given(st.integers(MONTH, 2**32 - 1))
def test_more_than_thirty_days_is_a_date(seconds: int) -> None:
    assert expiry_of([seconds], NOW) == expiry_of([str(seconds)], NOW) == seconds


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
)
def test_a_date_by_rfc_3339_is_that_moment(moment: datetime, offset: int) -> None:
    there = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    assert expiry_of([there.isoformat()], NOW) == pytest.approx(there.timestamp(), abs=1e-3)


def test_a_date_may_have_nanoseconds_small_letters_or_a_space() -> None:
    moment = datetime(2030, 5, 6, 7, 8, 9, tzinfo=UTC).timestamp()
    for text in ("2030-05-06T07:08:09.000000001Z", "2030-05-06t07:08:09z", "2030-05-06 07:08:09Z"):
        assert expiry_of([text], NOW) == moment


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -1,
        2**32,
        1e300,
        "",
        "soon",
        "-5",
        "1.5",
        "٣",
        "2030-05-06",
        "2030-05-06T07:08:09",
        "2030-02-30T00:00:00Z",
        "2030-05-06T25:00:00Z",
        "20300506T070809Z",
        "2030-05-06T07:08:09+99:99",
        [],
        {},
    ],
)
def test_what_is_no_time_is_ignored(value: Any) -> None:
    assert expiry_of([value], NOW) is None
    assert expiry_of([500, value], NOW) == NOW + 500


def test_the_last_valid_one_counts_and_zero_takes_it_back() -> None:
    assert expiry_of([10, 20, "x"], NOW) == NOW + 20
    assert expiry_of([10, 0], NOW) is None
    assert expiry_of([], NOW) is None


def test_a_date_long_ago_is_past_and_not_never() -> None:
    expiry = expiry_of(["1950-01-01T00:00:00Z"], NOW)
    assert expiry is not None
    assert expiry < NOW
