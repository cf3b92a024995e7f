"""The admin port without admins answers this machine, and no web page that its browsers show."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from gateway.auth.local import check_local_request, is_loopback
from gateway.errors import Forbidden


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.8.9.10", "::1"])
def test_these_are_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "0.0.0.0",  # noqa: S104 (asked about, not bound)
        "::",
        "10.0.0.1",
        "128.0.0.1",
        "127.1",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
    ],
)
def test_these_may_be_others(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost:4985"},
        {"host": "127.0.0.1:4985"},
        {"Host": "[::1]:4985"},
        {"Host": "localhost"},
        {"Host": "localhost:4985", "Origin": "http://localhost:4985", "Sec-Fetch-Site": "same-origin"},
        {"Host": "localhost", "Origin": "http://localhost:80"},
        {"Host": "localhost:443", "Origin": "https://LOCALHOST"},
        {"Host": "[::1]:4985", "origin": "http://[::1]:4985"},
        {"Host": "localhost:4985", "Sec-Fetch-Site": "none"},
    ],
)
def test_programs_and_its_own_pages_are_answered(headers: dict[str, str]) -> None:
    check_local_request(CIMultiDict(headers))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": ""},
        {"Host": "evil.example"},
        {"Host": "evil.example:4985"},
        {"Host": "localhost.evil.example:4985"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "192.168.1.7:4985"},
        {"Host": "localhost:"},
        {"Host": "localhost:49x"},
        {"Host": "localhost:\u0664"},
        {"Host": "localhost@evil.example"},
        {"Host": "evil.example#localhost"},
        {"Host": "[::1"},
        {"Host": "[localhost]"},
        {"Host": "::1"},
        {"Host": "[::1]x"},
        {"Host": "localhost:4985", "Origin": "http://evil.example"},
        {"Host": "localhost:4985", "Origin": "http://localhost:3000"},
        {"Host": "localhost:4985", "Origin": "http://127.0.0.1:4985"},
        {"Host": "localhost:4985", "Origin": "http://localhost"},
        {"Host": "localhost:4985", "Origin": "null"},
        {"Host": "localhost:4985", "Origin": ""},
        {"Host": "localhost:4985", "Origin": "http://"},
        {"Host": "localhost:4985", "Origin": "ftp://localhost:4985"},
        {"Host": "localhost:4985", "Origin": "http://localhost:4985/x"},
        {"Host": "localhost:4985", "Sec-Fetch-Site": "cross-site"},
        {"Host": "localhost:4985", "sec-fetch-site": "same-site"},
        {"Host": "localhost:4985", "Origin": "http://localhost:4985", "Sec-Fetch-Site": "cross-site"},
        {"Host": "localhost:4985", "Sec-Fetch-Site": ""},
    ],
)
def test_foreign_pages_and_rebound_names_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        check_local_request(CIMultiDict(headers))
