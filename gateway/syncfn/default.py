"""The sync function of a database that is given none: `sync_functions/by_document_channels.js` without its comments."""

from typing import Final

DEFAULT_SYNC_FUNCTION: Final = "function (doc, oldDoc, meta) {\n  channel(doc.channels);\n}\n"
