"""Update functions (https://docs.couchdb.org/en/stable/api/ddoc/render.html#db-design-design-doc-update-update-name)."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import sqlite3
from functools import partial
from typing import Any
from urllib.parse import quote

from gateway import json_text, limits
from gateway.couch.upstream import Document, UpstreamResponse
from gateway.embedded import reading
from gateway.embedded.database import EmbeddedDatabase
from gateway.embedded.documents import check_id, incoming
from gateway.embedded.filters import FunctionName, ascii_json, function_doc, read_function
from gateway.embedded.http.document_routes import result_error
from gateway.embedded.http.message import Request, raw
from gateway.embedded.http.request_object import request_object
from gateway.embedded.reading import DocOptions
from gateway.embedded.views.failures import ViewFailed, named_failure

log = logging.getLogger(__name__)
_DOC = DocOptions(revs=True, conflicts=True)
_FRAMING = ("content-length", "transfer-encoding", "connection")


async def update(request: Request) -> UpstreamResponse:
    """`_design/{ddoc}/_update/{name}`, with or without a document id: store and answer what the function says."""
    database = await request.database()
    _, design, _, name, *rest = request.parts
    named = FunctionName(design.removeprefix("_design/"), ("updates", name))
    script = await database.reading(partial(read_function, named=named))
    id = "/".join(rest) if rest else None
    body = (await request.body(limits.EMBEDDED_UPDATE_BODY_BYTES)).decode(errors="replace")
    given = await request_object(request, database, body=body, id=id)
    doc = None if id is None else await database.reading(partial(_open, id=id))
    line = b"update\t%s\t%s\t%s\n" % (ascii_json(named.path), ascii_json(doc), ascii_json(given))
    (found,) = await database.views.scripts.call(script, [line])
    said = await database.readers.work(lambda: json_text.parse(found))
    for text in said.get("logs", ()):
        log.info("%s: %s: %s", database.name, script.id, text)
    if "error" in said:
        raise named_failure(said["error"])
    new = said.get("doc")
    if not isinstance(new, dict):
        return _answer(200, said["response"], {})
    rev = await _store(database, new)
    headers = {"X-Couch-Update-NewRev": rev, "X-Couch-Id": quote(new["_id"], safe="")}
    return _answer(201, said["response"], headers)


def _open(connection: sqlite3.Connection, id: str) -> Document | None:
    """The document as its function sees it; None when there is none, or it is deleted."""
    found = reading.find(connection, [id]).get(id)
    if found is None:
        return None
    rev, deleted = found.leaves()[0]
    return None if deleted else function_doc(connection, found, rev, _DOC)


async def _store(database: EmbeddedDatabase, new: Document) -> str:
    """The new revision. Raises what a refused write of a document does."""
    check_id(new.get("_id", ""))
    prepared = await database.readers.work(lambda: incoming(new, new_edits=True))
    (result,) = await database.write_incoming([prepared], new_edits=True)
    if result.rev is None:
        raise result_error(result)
    return result.rev


def _answer(code: int, response: dict[str, Any], ours: dict[str, str]) -> UpstreamResponse:
    """The answer that a function describes (chttpd_external:parse_external_response)."""
    kind, data, headers = "application/json", b"", dict[str, str]()
    for name, value in response.items():
        if name == "code" and type(value) is int and 200 <= value <= 599:
            code = value
        elif name == "json":
            kind, data = "application/json", json_text.encode(value) + b"\n"
        elif name == "body" and isinstance(value, str):
            kind, data = "text/html; charset=utf-8", value.encode(errors="replace")
        elif name == "base64" and isinstance(value, str):
            kind, data = "application/binary", _bytes(value)
        elif name == "headers" and isinstance(value, dict):
            headers = {header: _header(header, text) for header, text in value.items()}
        elif name != "stop":
            raise _malformed(name, value)
    shown = {"content-type": kind} | {header.lower(): text for header, text in (headers | ours).items()}
    return raw(code, data, {header: text for header, text in shown.items() if header not in _FRAMING})


def _bytes(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        raise _malformed("base64", value) from None


def _header(name: str, value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    token = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    if not token or not all(" " <= character <= "~" for character in text):
        raise _malformed("headers", {name: value})
    return text


def _malformed(name: str, value: Any) -> ViewFailed:
    shown = json.dumps({name: value})[:200]
    return ViewFailed("external_response_error", f"Invalid data from external server: {shown}")
