from __future__ import annotations

import pytest

from gateway import limits
from gateway.errors import IllegalName
from gateway.model.names import check_channel_name, check_database_name, check_principal_name


@pytest.mark.parametrize(
    "name", ["ann", "GUEST", "a", "0", "ann@example.org", "Ann B.", "é", "日本", "a*!-_|", "a" * 239]
)
def test_a_principal_may_be_called_so(name: str) -> None:
    assert check_principal_name(name) == name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (None, "must be a string"),
        (7, "must be a string"),
        ("", "letter or number"),
        ("-_.", "letter or number"),
        ("a/b", "must not contain /"),
        ("a:b", "must not contain :"),
        ("a,b", "must not contain ,"),
        ("a`b", "must not contain `"),
        ("role:r", "must not contain :"),
        ("a\nb", "control characters"),
        ("a\x00", "control characters"),
        ("a" * 240, "exceeds 239 bytes"),
        ("é" * 120, "exceeds 239 bytes"),
        ("a\ud800", "valid UTF-8"),
    ],
)
def test_a_principal_may_not_be_called_so(name: object, problem: str) -> None:
    with pytest.raises(IllegalName, match=problem):
        check_principal_name(name)


def test_every_problem_of_a_name_is_told_at_once() -> None:
    with pytest.raises(IllegalName, match=r"letter or number.*must not contain , /.*control characters"):
        check_principal_name("/,\n")


@pytest.mark.parametrize("name", ["A", "!", "*", "a b", "a:b/c", "é", "x" * limits.CHANNEL_NAME_BYTES])
def test_a_channel_may_be_called_so(name: str) -> None:
    assert check_channel_name(name) == name


@pytest.mark.parametrize("name", [None, 1, "", "a,b", "x" * (limits.CHANNEL_NAME_BYTES + 1), "a\udfff"])
def test_a_channel_may_not_be_called_so(name: object) -> None:
    with pytest.raises(IllegalName, match="channel"):
        check_channel_name(name)


@pytest.mark.parametrize("name", ["a", "notes", "a0_$()+-/", "a" * 238])
def test_a_database_may_be_called_so(name: str) -> None:
    assert check_database_name(name) == name


@pytest.mark.parametrize("name", [None, 1, "", "A", "1a", "_users", "a b", "a.b", "é", "a\n", "a" * 239, "../a"])
def test_a_database_may_not_be_called_so(name: object) -> None:
    with pytest.raises(IllegalName, match="Only lowercase characters"):
        check_database_name(name)
