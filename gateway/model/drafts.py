"""A document on its way to the upstream: checked as CouchDB would, taken apart into what the rules need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway import limits
from gateway.errors import BadRequest, InvalidDocument, InvalidDocumentId, TooLarge
from gateway.json_text import encode
from gateway.model.revisions import history, parse_rev

# CouchDB takes these back from its own answers and ignores them.
_IGNORED = frozenset({"_revs_info", "_conflicts", "_deleted_conflicts", "_local_seq"})
_MEMBERS = frozenset({"_id", "_rev", "_deleted", "_revisions", "_attachments"})
# CouchDB's replicator writes these, and CouchDB stores them in documents of any database (couch_doc.erl).
_OF_REPLICATIONS = frozenset(
    {
        *("_replication_state", "_replication_state_time", "_replication_state_reason"),
        *("_replication_id", "_replication_stats"),
    }
)
_KNOWN = _IGNORED | _MEMBERS | _OF_REPLICATIONS


class DocumentIdTooLong(InvalidDocumentId):
    """A limit of the gateway's own: another server may well have stored such a document."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One checked document. `doc` is what is sent upstream; `body` is without `_` members."""

    id: str
    new_edits: bool
    parent: str | None  # new_edits: the revision to replace, as the client says; else the first ancestor
    rev: str | None  # new_edits=False: the revision's own id
    ancestors: tuple[str, ...]  # newest first
    deleted: bool
    body: Mapping[str, Any]
    doc: dict[str, Any]
    size: int  # bytes of the encoded document
    has_attachments: bool
    has_stubs: bool

    def shown(self, rev: str | None) -> dict[str, Any]:
        """As the sync function sees it."""
        head: dict[str, Any] = {"_id": self.id}
        if rev is not None:
            head["_rev"] = rev
        if self.deleted:
            head["_deleted"] = True
        return {**head, **self.body}


def check_id(value: object) -> str:
    """A document id, or InvalidDocumentId in CouchDB's words."""
    if not isinstance(value, str):
        raise InvalidDocumentId("Document id must be a string")
    if not value:
        raise InvalidDocumentId("Document id must not be empty")
    if value.startswith("_") and not _has_known_prefix(value):
        raise InvalidDocumentId("Only reserved document ids may start with underscore.")
    if len(value.encode("utf-8", "surrogatepass")) > limits.DOCUMENT_ID_BYTES:
        raise DocumentIdTooLong(f"Document id is longer than {limits.DOCUMENT_ID_BYTES} bytes")
    return value


def _has_known_prefix(value: str) -> bool:
    return any(value.startswith(prefix) and len(value) > len(prefix) for prefix in ("_design/", "_local/"))


def check_rev(value: object) -> str:
    """A revision id as CouchDB keeps it, or BadRequest in its words."""
    try:
        parse_rev(value)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    return _kept(str(value))


def _kept(rev: str) -> str:
    """CouchDB keeps a digest of 32 hexadecimal digits as a number: two cases of it are one revision."""
    number, _, digest = rev.partition("-")
    return f"{number}-{digest.lower()}" if len(digest) == 32 else rev


def draft(doc: object, *, new_edits: bool, may_follow: bool = False) -> Draft:
    """Check a document with its `_id`. Raises BadRequest, InvalidDocument, InvalidDocumentId, TooLarge.

    `may_follow`: attachments may come behind the document, in the parts of a multipart body.
    """
    if not isinstance(doc, dict):
        raise BadRequest("Document must be a JSON object")
    doc_id = check_id(doc.get("_id"))
    for member in doc:
        if member.startswith("_") and member not in _KNOWN:
            raise InvalidDocument(f"Bad special document member: {member}")
    deleted = doc.get("_deleted", False)
    if not isinstance(deleted, bool):
        raise InvalidDocument("_deleted must be true or false")
    rev = check_rev(doc["_rev"]) if doc.get("_rev") is not None else None
    history_of_own = None if new_edits or doc.get("_revisions") is None else _history(doc["_revisions"])
    if history_of_own:
        rev = history_of_own[0]  # whatever `_rev` says, as in CouchDB (couch_doc)
    attachments = _attachments(doc.get("_attachments"), may_follow)
    body = {key: value for key, value in doc.items() if not key.startswith("_")}
    sent = {key: value for key, value in doc.items() if key not in _IGNORED and key != "_rev"}
    if rev is not None:
        sent["_rev"] = rev
    if "_attachments" in sent:
        sent["_attachments"] = attachments
    parent = rev
    ancestors: tuple[str, ...] = () if rev is None else (rev,)
    if new_edits:
        sent.pop("_revisions", None)
        own = None
    else:
        if rev is None:
            raise BadRequest("When `new_edits: false`, the document needs `_rev` or `_revisions` specified")
        own, ancestors = rev, tuple(history_of_own[1:]) if history_of_own else ()
        parent = ancestors[0] if ancestors else None
    size = len(encode(sent))
    without = size if not attachments else len(encode(body))
    if without > limits.DOCUMENT_BYTES:
        raise TooLarge(f"the document has {without} bytes; the limit (DOCUMENT_BYTES) is {limits.DOCUMENT_BYTES}")
    has_stubs = any(one.get("stub") is True or one.get("follows") is True for one in attachments.values())
    return Draft(
        doc_id, new_edits, parent, own, tuple(ancestors), deleted, body, sent, size, bool(attachments), has_stubs
    )


def _history(revisions: object) -> list[str]:
    try:
        revs = history(revisions)
    except ValueError as error:
        raise InvalidDocument(str(error)) from None
    if len(revs) > limits.REVISIONS_COUNT:
        raise InvalidDocument(f"_revisions holds more than {limits.REVISIONS_COUNT} ids")
    return [_kept(rev) for rev in revs]


def _attachments(attachments: object, may_follow: bool) -> dict[str, dict[str, Any]]:
    """Each attachment, made anew of just what the upstream needs.

    CouchDB checks little of the rest: a digest that is none, or a type that is a number, ends the shard's process, and
    with it everything that other people wrote in the same bulk.
    """
    if attachments is None:
        return {}
    if not isinstance(attachments, dict):
        raise InvalidDocument("_attachments must be an object")
    return {name: _attachment(name, attachment, may_follow) for name, attachment in attachments.items()}


def _attachment(name: str, attachment: object, may_follow: bool) -> dict[str, Any]:
    if not isinstance(attachment, dict):
        raise InvalidDocument(f"_attachments.{name} must be an object")
    if not name:
        raise InvalidDocument("Attachment name must not be empty")
    if name.startswith("_"):
        raise BadRequest(f"Attachment name '{name[:100]}' starts with prohibited character '_'")
    kept: dict[str, Any] = {}
    if (content_type := attachment.get("content_type")) is not None:
        if not isinstance(content_type, str):
            raise InvalidDocument(f"_attachments.{name}.content_type must be a string")
        kept["content_type"] = content_type
    if (revpos := attachment.get("revpos")) is not None:
        if type(revpos) is not int or revpos < 0:
            raise InvalidDocument(f"_attachments.{name}.revpos must be a non-negative integer")
        kept["revpos"] = revpos
    if attachment.get("stub") is True:
        return {**kept, "stub": True}
    if attachment.get("follows") is True:
        if not may_follow:
            raise InvalidDocument(f"_attachments.{name} says that it follows, which it can in multipart/related only")
        lengths = {
            key: attachment[key] for key in ("length", "encoding", "encoded_length", "digest") if key in attachment
        }
        return {**kept, **lengths, "follows": True}
    if not isinstance(attachment.get("data"), str):
        raise InvalidDocument(f"_attachments.{name} needs `data` in base64, or `stub`")
    return {**kept, "data": attachment["data"]}
