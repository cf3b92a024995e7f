"""Which attachments CouchDB compresses, and how: digests and revision ids depend on the very bytes."""

from __future__ import annotations

import re
import zlib

# CouchDB's defaults of [attachments] compressible_types and compression_level.
_COMPRESSIBLE = re.compile(
    r"\s*(?:text/.*|application/javascript|application/json|application/xml)(?:\s*;.*?)?\s*\Z", re.I | re.S
)
_LEVEL = 8


def is_compressible(content_type: str) -> bool:
    """couch_db:compressible_att_type."""
    return _COMPRESSIBLE.match(content_type) is not None


def gzip_compressor() -> zlib._Compress:
    """What it makes does not depend on the pieces it is given."""
    return zlib.compressobj(_LEVEL, zlib.DEFLATED, 31, 8, zlib.Z_DEFAULT_STRATEGY)
