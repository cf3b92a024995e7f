"""gzip of answers (RFC 9110 sections 8.4 and 12.5.3): JSON and text that is long enough, to whom it may be sent so.

ETags stay as they are, since clients take them for revisions. Feeds that wait are not compressed: each of their rows
has to arrive at once.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from functools import lru_cache
from typing import Final

from aiohttp import web

from gateway import limits
from gateway.http import answers
from gateway.http.cors import Cors

_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\Z", re.IGNORECASE)
_GZIP_BITS: Final = 16  # added to the window's, it asks zlib for gzip's header


@lru_cache(maxsize=128)
def takes_gzip(header: str | None) -> bool:
    """Whether `Accept-Encoding` allows gzip and does not prefer none. Without the header nothing is compressed.

    A coding with a malformed quality value is one that was not named.
    """
    if header is None:
        return False
    qualities: dict[str, float] = {}
    for part in header.split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        quality = 1.0
        if parameters:
            found = _QUALITY.match(parameters[0])
            if found is None or len(parameters) > 1:
                continue
            quality = float(found[1])
        name = name.lower()
        qualities["gzip" if name == "x-gzip" else name] = quality
    wanted = qualities.get("gzip", qualities.get("*", 0.0))
    return wanted > 0 and wanted >= qualities.get("identity", 0.0)


async def compress(request: web.BaseRequest, response: web.StreamResponse, cors: Cors) -> None:
    """Compress an answer that has not begun, if that can and may be done.

    What HEAD says of the length is that of the plain answer, as CouchDB's: clients ask for a document's size so.
    """
    if response.status == 304:
        answers.vary(response, "Accept-Encoding")
        return
    if not isinstance(response, web.Response) or not _is_text(response):
        return
    body = response.body
    if not isinstance(body, bytes) or len(body) < limits.COMPRESSED_ANSWER_BYTES_MIN:
        return
    answers.vary(response, "Accept-Encoding")
    if request.method == "HEAD" or not _may(request, cors):
        return
    if len(body) <= limits.COMPRESSED_INLINE_BYTES:
        # A small window costs a fifth of a large one, most of which is its memory.
        response.body = _gzip(body, level=1, window_bits=12)
    else:
        response.body = await asyncio.to_thread(_gzip, body, level=4, window_bits=15)
    response.headers["Content-Encoding"] = "gzip"


def compress_stream(request: web.BaseRequest, response: answers.Stream, cors: Cors) -> None:
    """The same for an answer that is written in pieces: call it before the first. Each can be read when it arrives."""
    answers.vary(response, "Accept-Encoding")
    if request.method == "HEAD" or not _may(request, cors):
        return
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP_BITS + 15)

    def pack(data: bytes, end: bool) -> bytes:
        return packer.compress(data) + packer.flush(zlib.Z_FINISH if end else zlib.Z_SYNC_FLUSH)

    response.pack = pack
    response.headers["Content-Encoding"] = "gzip"


def _gzip(data: bytes, *, level: int, window_bits: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, _GZIP_BITS + window_bits, 7)
    return packer.compress(data) + packer.flush()


def _is_text(response: web.Response) -> bool:
    headers = response.headers
    if "Content-Encoding" in headers or "Content-Range" in headers:
        return False
    return headers.get("Content-Type", "").lower().startswith(("application/json", "text/"))


def _may(request: web.BaseRequest, cors: Cors) -> bool:
    return takes_gzip(request.headers.get("Accept-Encoding")) and not _foreign(request, cors)


def _foreign(request: web.BaseRequest, cors: Cors) -> bool:
    """Whether a page that nobody listed may have caused this request with its visitor's login.

    Such a page cannot read the answer, but who also watches the wire could guess at it by the length to which it is
    compressed together with what the page asked for (BREACH, https://www.breachattack.com/).
    """
    headers = request.headers
    if "Authorization" not in headers and "Cookie" not in headers:
        return False
    if cors.lists(request):
        return False
    site = headers.get("Sec-Fetch-Site")
    if site is None:
        return "Origin" in headers
    return site.strip().lower() not in ("same-origin", "none")
