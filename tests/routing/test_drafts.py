"""Documents on their way upstream: what is refused, what is taken apart, what is sent."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import limits
from gateway.errors import BadRequest, InvalidDocument, InvalidDocumentId, TooLarge
from gateway.model.drafts import draft
from tests.routing.world import grafted

HEX = "ABCDEF0123456789ABCDEF0123456789"


@pytest.mark.parametrize("new_edits", [True, False])
@pytest.mark.parametrize(
    ("doc", "error"),
    [
        (3, BadRequest),
        ({}, InvalidDocumentId),
        ({"_id": ""}, InvalidDocumentId),
        ({"_id": 7}, InvalidDocumentId),
        ({"_id": "_x"}, InvalidDocumentId),
        ({"_id": "é" * limits.DOCUMENT_ID_BYTES}, InvalidDocumentId),
        ({"_id": "d", "_unknown": 1}, InvalidDocument),
        ({"_id": "d", "_rev": 3}, BadRequest),
        ({"_id": "d", "_rev": "x"}, BadRequest),
        ({"_id": "d", "_rev": "1-a", "_deleted": "yes"}, InvalidDocument),
        ({"_id": "d", "_rev": "1-a", "_attachments": []}, InvalidDocument),
        ({"_id": "d", "_rev": "1-a", "_attachments": {"f": 1}}, InvalidDocument),
        ({"_id": "d", "_rev": "1-a", "_attachments": {"_f": {}}}, BadRequest),
        ({"_id": "d", "_rev": "1-a", "_attachments": {"f": {}}}, InvalidDocument),
        ({"_id": "d", "_rev": "1-a", "_attachments": {"f": {"data": 1}}}, InvalidDocument),
        ({"_id": "d", "_rev": "1-a", "_attachments": {"f": {"data": "", "content_type": 1}}}, InvalidDocument),
        ({"_id": "d", "_rev": "1-a", "_attachments": {"f": {"data": "", "revpos": "1"}}}, InvalidDocument),
        ({"_id": "d", "_rev": "1-a", "_attachments": {"f": {"stub": True, "revpos": -1}}}, InvalidDocument),
        ({"_id": "d", "_rev": "1-a", "_attachments": {"f": {"follows": True, "length": 1}}}, InvalidDocument),
        ({"_id": "d", "_rev": "1-a", "big": "x" * limits.DOCUMENT_BYTES}, TooLarge),
    ],
)
def test_what_couchdb_would_refuse_is_refused(doc: Any, error: type[Exception], new_edits: bool) -> None:
    with pytest.raises(error):
        draft(doc, new_edits=new_edits)


@pytest.mark.parametrize(
    ("attachment", "sent"),
    [
        (
            {"content_type": "image/png", "data": "YQ==", "digest": "md5-!", "encoding": "no", "length": "x"},
            {"content_type": "image/png", "data": "YQ=="},
        ),
        ({"data": ""}, {"data": ""}),
        ({"stub": True, "revpos": 2, "digest": "md5-!", "length": -1}, {"revpos": 2, "stub": True}),
    ],
)
def test_of_an_attachment_only_what_couchdb_needs_is_sent(attachment: dict[str, Any], sent: dict[str, Any]) -> None:
    # CouchDB takes much of the rest unchecked, and ends the process that other people's documents are in.
    found = draft({"_id": "d", "_attachments": {"f": attachment}}, new_edits=True)
    assert found.doc["_attachments"] == {"f": sent}


@pytest.mark.parametrize("revisions", [[], {}, {"start": 2, "ids": []}, {"start": 1, "ids": ["a", "b"]}])
def test_a_history_that_does_not_belong_to_the_revision_is_refused(revisions: Any) -> None:
    with pytest.raises(InvalidDocument):
        draft({"_id": "d", "_rev": "2-b", "_revisions": revisions}, new_edits=False)


def test_the_history_says_which_revision_it_is_whatever_rev_says() -> None:
    history = {"start": 2, "ids": ["other", "a"]}
    found = draft({"_id": "d", "_rev": "2-b", "_revisions": history}, new_edits=False)
    assert (found.rev, found.parent, found.ancestors) == ("2-other", "1-a", ("1-a",))
    assert found.doc["_rev"] == "2-other"


def test_a_replicated_document_needs_a_revision() -> None:
    with pytest.raises(BadRequest, match="needs `_rev` or `_revisions`"):
        draft({"_id": "d"}, new_edits=False)


def test_a_history_alone_says_which_revision_it_is() -> None:
    doc = grafted("d", "2-b", "1-a")
    del doc["_rev"]
    found = draft(doc, new_edits=False)
    assert (found.rev, found.ancestors, found.doc["_rev"]) == ("2-b", ("1-a",), "2-b")


def test_two_cases_of_a_hexadecimal_digest_are_one_revision_as_in_couchdb() -> None:
    found = draft(grafted("d", f"2-{HEX}", "1-SHORT"), new_edits=False)
    assert (found.rev, found.ancestors) == (f"2-{HEX.lower()}", ("1-SHORT",))
    assert found.doc["_rev"] == found.rev
    assert draft({"_id": "d", "_rev": f"1-{HEX}"}, new_edits=True).parent == f"1-{HEX.lower()}"


def test_what_couchdb_gave_along_is_ignored_when_it_comes_back() -> None:
    doc = {"_id": "d", "_rev": "1-a", "_conflicts": [], "_revs_info": [], "_local_seq": 3, "_revisions": {}, "v": 1}
    found = draft(doc, new_edits=True)
    assert found.doc == {"_id": "d", "_rev": "1-a", "v": 1}
    assert found.body == {"v": 1}
    assert found.shown("2-b") == {"_id": "d", "_rev": "2-b", "v": 1}


def test_attachments_do_not_count_as_the_documents_size_but_stubs_are_seen() -> None:
    attachments = {"f": {"data": "A" * limits.DOCUMENT_BYTES}, "g": {"stub": True}}
    found = draft({"_id": "d", "_attachments": attachments}, new_edits=True)
    assert found.size > limits.DOCUMENT_BYTES
    assert (found.has_attachments, found.has_stubs) == (True, True)
