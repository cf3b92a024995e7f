from __future__ import annotations

from pathlib import Path

import pytest

from gateway.couch.client import CouchDB
from gateway.couch.open import open_upstream


async def test_a_url_opens_a_couchdb() -> None:
    upstream = open_upstream("http://ann:x@127.0.0.1:5984")
    assert isinstance(upstream, CouchDB)
    assert upstream.address.username == "ann"
    await upstream.close()


async def test_a_directory_opens_the_embedded_one(tmp_path: Path) -> None:
    upstream = open_upstream(f"embedded:{tmp_path / 'couch'}")
    await upstream.check()
    database = await upstream.open("db", create=True)
    (written,) = await database.write([{"_id": "a"}], new_edits=True)
    assert written.rev == "1-967a00dff5e02add41819138abb3284d"
    await upstream.close()


@pytest.mark.parametrize("url", ["embedded:", "sqlite:x", "", "127.0.0.1:5984"])
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="embedded"):
        open_upstream(url)


def test_the_embedded_one_takes_no_credentials() -> None:
    with pytest.raises(ValueError, match="no username"):
        open_upstream("embedded:x", "ann", "pw")
