"""Multipart bodies as streams: parts however they arrive, and documents with what follows them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.multipart import Following, MultipartReader, Related, boundary_of


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def read(body: bytes, boundary: str, size: int) -> list[tuple[dict[str, str], bytes]]:
    parts = MultipartReader(boundary, pieces(body, size)).parts()
    return [(dict(part.headers), b"".join([chunk async for chunk in part.content])) async for part in parts]


async def contents(*datas: bytes, size: int = 3) -> AsyncIterator[AsyncIterator[bytes]]:
    for data in datas:
        yield pieces(data, size)


def announced(*sizes: int) -> list[Following]:
    return [Following(f"f{at}", "a/b", size, None) for at, size in enumerate(sizes)]


@given(
    datas=st.lists(st.binary(max_size=30) | st.sampled_from([b"\r\n", b"--", b"\r\n--", b"\r\n--x"]), max_size=4),
    size=st.integers(1, 70),
)
async def test_what_is_written_is_read_in_pieces_of_any_size(datas: list[bytes], size: int) -> None:
    related = Related(b'{"a":1}', announced(*map(len, datas)))
    body = b"".join([piece async for piece in related.body(contents(*datas))])
    assert len(body) == related.size
    (_, document), *following = await read(body, boundary_of(related.content_type), size)
    assert (document, [data for _, data in following]) == (b'{"a":1}', datas)
    assert [headers["content-length"] for headers, _ in following] == [str(len(data)) for data in datas]


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=4))
async def test_the_last_piece_holds_the_last_byte_that_counts(datas: list[bytes]) -> None:
    """Whoever keeps it back keeps the upstream from storing the document."""
    related = Related(b"{}", announced(*map(len, datas)))
    *before, last = [piece async for piece in related.body(contents(*datas))]
    ended = max((at for at, data in enumerate(datas) if data), default=None)
    if ended is None:
        assert not before
        return
    separator = len("\r\n--") + len(boundary_of(related.content_type))
    after = sum(len(one.headers()) + separator for one in announced(*map(len, datas))[ended + 1 :])
    assert len(last) > separator + after + len("--")


@pytest.mark.parametrize(
    ("sizes", "datas"), [([2], [b"x"]), ([2], [b"xxx"]), ([1], []), ([], [b"x"]), ([1], [b"x", b""]), ([0], [b"x"])]
)
async def test_what_follows_must_be_what_was_announced(sizes: Sequence[int], datas: Sequence[bytes]) -> None:
    body = Related(b"{}", announced(*sizes)).body(contents(*datas))
    with pytest.raises(BadRequest, match=r"announced|should follow"):
        async for _ in body:
            pass


@pytest.mark.parametrize("body", [b"", b"--b", b"--b\r\n", b"--bx\r\n\r\n\r\n--b--", b"--b\r\n\r\nx\r\n--b", b"x--b--"])
async def test_what_is_no_multipart_body_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        await read(body, "b", 2)


async def test_preamble_padding_and_epilogue_are_passed_over() -> None:
    body = b"preamble\r\n--b \t\r\nX-A:  1 \r\n\r\nx\r\n--b\r\n\r\n\r\n--b--\r\nepilogue"
    assert await read(body, "b", 4) == [({"x-a": "1"}, b"x"), ({}, b"")]
