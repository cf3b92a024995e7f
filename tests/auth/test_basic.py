"""The Authorization header."""

from __future__ import annotations

import base64

import pytest

from gateway.auth.basic import BasicCredentials, parse_basic
from gateway.errors import InvalidLogin


def basic(text: str | bytes) -> str:
    return "Basic " + base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def test_no_header_is_no_login() -> None:
    assert parse_basic(None) is None


@pytest.mark.parametrize(
    ("header", "name", "password"),
    [
        ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Aladdin", "open sesame"),  # RFC 7617 section 2
        ("Basic dGVzdDoxMjPCow==", "test", "123£"),  # RFC 7617 section 2.1
        ("bAsIc  dGVzdDoxMjPCow== ", "test", "123£"),
        (basic("ann:"), "ann", ""),
        (basic("ann:a:b:c"), "ann", "a:b:c"),
        (basic("%61nn:%62"), "%61nn", "%62"),
        (basic("n" * 239 + ":" + "💥" * 1_024), "n" * 239, "💥" * 1_024),
    ],
)
def test_name_and_password_are_read(header: str, name: str, password: str) -> None:
    assert parse_basic(header) == BasicCredentials(name, password)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic ",
        "Bearer abc",
        "Digest username=ann",
        "Basicdb dGVzdDoxMjPCow==",
        "Basic dGVzdDoxMjPCow",
        "Basic dGVz dDoxMjPCow==",
        "Basic dGVzdDox=jPCow==",
        "Basic dGVzdDoxMjPCow==, Basic dGVzdDoxMjPCow==",
        "Basic \u00e9\u00e9\u00e9\u00e9",
        "Basic \udcff\udcff",
        basic("no colon"),
        basic(":password"),
        basic(b"ann:\xff\xfe"),
        basic("an\nn:password"),
        basic("ann:pass\x00word"),
        basic("n" * 240 + ":password"),
        basic("ann:" + "x" * 1_025),
        "Basic " + "A" * 1_000_000,
    ],
)
def test_anything_else_is_an_invalid_login_and_never_the_guest(header: str) -> None:
    with pytest.raises(InvalidLogin) as refused:
        parse_basic(header)
    assert (refused.value.status, refused.value.reason) == (401, "Invalid login")


def test_the_password_is_not_printed() -> None:
    assert "topsecret" not in repr(parse_basic(basic("ann:topsecret")))
