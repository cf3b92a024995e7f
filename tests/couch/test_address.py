from __future__ import annotations

import base64

import pytest

from gateway.couch.address import Address, database_path, document_path


def test_credentials_in_the_url_are_used_and_the_password_is_never_shown() -> None:
    address = Address.parse("http://ann:p%40ss:word@couch:5984/")
    assert address.base == "http://couch:5984"
    assert address.shown == "http://ann@couch:5984"
    assert address.authorization == "Basic " + base64.b64encode(b"ann:p@ss:word").decode()
    assert "p@ss" not in repr(address)
    assert "Basic" not in repr(address)


def test_credentials_that_are_given_win_over_those_in_the_url() -> None:
    address = Address.parse("https://bob:old@couch/prefix/", "ann", "né")
    assert (address.base, address.shown) == ("https://couch/prefix", "https://ann@couch/prefix")
    assert address.authorization == "Basic " + base64.b64encode("ann:né".encode()).decode()


def test_without_credentials_none_are_sent() -> None:
    address = Address.parse("http://[::1]:5984")
    assert (address.base, address.shown, address.authorization) == ("http://[::1]:5984", "http://[::1]:5984", None)


@pytest.mark.parametrize(
    "url",
    ["ftp://couch", "couch:5984", "http://", "http://u:s3cret@", "http://u:s3cret@h:port", "http://h?a=s3cret", ""],
)
def test_a_url_that_cannot_be_one_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ValueError, match="CouchDB URL") as caught:
        Address.parse(url)
    assert "s3cret" not in str(caught.value)


def test_a_password_without_username_and_a_username_with_colon_are_refused() -> None:
    with pytest.raises(ValueError, match="no username"):
        Address.parse("http://couch", None, "x")
    with pytest.raises(ValueError, match="colon"):
        Address.parse("http://couch", "a:b", "x")


def test_names_and_ids_are_encoded_as_couchdb_reads_them() -> None:
    assert database_path("a/b+c") == "/a%2Fb%2Bc"
    assert document_path("x/y é?") == "/x%2Fy%20%C3%A9%3F"
    assert document_path("_design/a/b") == "/_design/a%2Fb"
    assert document_path("_local/a") == "/_local/a"


def test_a_path_is_sent_exactly_as_it_is_given() -> None:
    assert str(Address.parse("http://h").url("/a%2fb/%41", "x=%7E")) == "http://h/a%2fb/%41?x=%7E"
