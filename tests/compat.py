"""`make test-compat`: the protocol tests against npm's pouchdb-server, an independent look-alike of CouchDB.

Starts it in memory on a free port of 127.0.0.1, names it in TEST_COUCHDB_URL, and runs pytest with the arguments given.
Of the tests with several upstreams only those on this one run; CANNOT names what it does otherwise than CouchDB.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.node import COMPATIBLE_SERVER, environment, node

START_SECONDS: Final = 60.0
LOOKALIKE: Final = "TEST_COUCHDB_IS_POUCHDB_SERVER"  # set in the environment of such a run
ONLY_COUCHDB: Final = "TEST_ONLY_COUCHDB"  # set where the tests that need no TEST_COUCHDB_URL are left out

_HASHES: Final = "it computes other revision ids than CouchDB"
_PURGE: Final = "it has no _purge"
_ORDER: Final = "it answers a _bulk_docs with a bad id or an unusual one in another order"
_DIFF: Final = "its _revs_diff calls interior revisions missing, and names no ancestors"
_ERRORS: Final = "its errors for malformed documents are other ones"
_VIEWS: Final = "its views take wrong options, and have reasons of their own"
_CUT: Final = "it stores an upload that breaks off"
_BEHIND: Final = "it sends no attachments behind their documents, and checks those that are sent to it in no way"
_CONTINUOUS: Final = "its _replicate cancels nothing, and ends the server when the database is deleted under it"
CANNOT: Final[Mapping[str, str]] = {
    "test_a_row_names_all_leaves_the_winner_first": "its rows name the leaves in no order",
    "test_an_interior_revision_with_a_body_has_a_row_with_the_same_leaves": "it has no row for an interior revision",
    "test_an_interior_revision_without_a_body_takes_the_one_that_is_sent": "it keeps no body of an interior revision",
    "test_a_feed_ends_when_its_database_is_deleted": "its feeds go on when their database is gone",
    "test_names_with_every_allowed_character_work": "it drops a slash in the name of a database",
    "test_a_deleted_database_is_gone": "it makes a deleted database anew when it is asked about it",
    "test_a_database_created_again_is_another_one": "its instance_start_time is that of the server",
    "test_a_purged_document_leaves_no_row_but_is_remembered": _PURGE,
    "test_purging_one_leaf_leaves_the_others_and_has_a_row": _PURGE,
    "test_only_leaves_are_purged": _PURGE,
    "test_a_purged_document_starts_anew": _PURGE,
    "test_a_raw_request_to_a_database_is_passed_on": "it says text/plain where CouchDB says application/json",
    "test_the_counts_follow_the_documents": _ORDER,
    "test_ids_with_every_kind_of_character_are_found_again": _ORDER,
    "test_a_stub_keeps_the_attachment_in_the_next_revision": "it refuses a stub without a digest",
    "test_revs_diff_names_what_is_missing_and_what_it_may_descend_from": _DIFF,
    "test_revs_diff_has_nothing_for_ids_that_miss_nothing": _DIFF,
    "test_a_new_document_gets_the_revision_that_couchdb_computes": _HASHES,
    "test_an_empty_document_has_the_revision_that_it_has_everywhere": _HASHES,
    "test_a_write_over_the_current_revision_makes_the_next_one": _HASHES,
    "test_a_document_created_again_descends_from_its_tombstone": _HASHES,
    "test_a_live_branch_wins_over_a_longer_deleted_one": "it does not look anew for the winner after such a branch",
    "test_a_malformed_document_refuses_the_whole_write": _ERRORS,
    "test_a_range_of_an_attachment_is_answered": "it knows no Range",
    "test_an_attachment_has_couchdbs_headers": "it knows no Range",
    "test_text_is_kept_compressed_and_served_as_the_client_likes_it": "it compresses no attachments",
    "test_who_loses_the_channel_while_he_sends_stores_nothing": _CUT,
    "test_a_client_that_hangs_up_in_the_middle_leaves_nothing_stored": _CUT,
    "test_a_document_comes_with_its_attachments_behind_it": _BEHIND,
    "test_what_is_asked_for_beside_the_revision_is_in_the_document_before_its_attachments": _BEHIND,
    "test_only_attachments_that_are_newer_come_along": _BEHIND,
    "test_open_revs_come_with_their_attachments": _BEHIND,
    "test_bulk_get_sends_attachments_behind_their_documents": _BEHIND,
    "test_what_was_pulled_can_be_pushed": _BEHIND,
    "test_a_refused_or_broken_push_stores_nothing": _BEHIND,
    "test_large_documents_pass_both_ways_in_little_memory": _BEHIND,
    "test_an_administrator_reads_what_is_upstream": _BEHIND,
    "test_a_revision_that_is_named_comes_without_what_is_told_of_the_winner": "it tells them of every revision",
    "test_documents_divide_the_rows_of_one_key": "its views know no startkey_docid",
    "test_offset_counts_the_rows_before_the_first": "the offset of its views is what was skipped",
    "test_keys_of_every_kind_come_in_one_order": "its views order strings by code units",
    "test_options_come_in_a_body_and_several_queries_in_one": "its views take one query at a time",
    "test_wrong_options_are_refused": _VIEWS,
    "test_what_is_not_there_is_404": _VIEWS,
    "test_a_design_document_whose_function_does_not_compile_is_refused": "it compiles functions when they are asked",
    "test_a_function_that_does_not_compile_is_refused_through_the_gateway": "it compiles functions when they are asked",
    "test_the_index_tells_about_itself": "its _info says little",
    "test_a_continuous_pull_catches_up_and_follows": _CONTINUOUS,
    "test_a_continuous_push_catches_up_and_follows": _CONTINUOUS,
    "test_an_old_index_answers_when_no_update_is_wanted": "its views know no update",
}


def skip_what_it_cannot(items: Sequence[pytest.Item]) -> None:
    """Mark the tests of what pouchdb-server does otherwise than CouchDB."""
    for item in items:
        if reason := CANNOT.get(item.name.partition("[")[0]):
            item.add_marker(pytest.mark.skip(reason=f"pouchdb-server: {reason}"))


@contextmanager
def pouchdb_server() -> Iterator[str]:
    """The URL of a fresh, empty server. Raises RuntimeError when it is not installed or does not start."""
    program = COMPATIBLE_SERVER / "node_modules/pouchdb-server/bin/pouchdb-server"
    if not program.exists():
        raise RuntimeError("pouchdb-server is not installed: run `make test-compat`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as directory, (Path(directory) / "output.txt").open("w+") as output:
        arguments = ["--in-memory", "--host", "127.0.0.1", "--port", str(port), "--no-stdout-logs"]
        server = subprocess.Popen(
            [node(), str(program), *arguments],
            cwd=directory,  # where it writes its log and config
            env=environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            if not _answers(url, server):
                output.seek(0)
                raise RuntimeError(f"pouchdb-server does not start:\n{output.read()}")
            yield url
        finally:
            server.terminate()
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            if httpx.get(url, timeout=5).is_success:
                return True
        except httpx.TransportError:
            time.sleep(0.05)  # until the port is open
    return False


def main(arguments: Sequence[str]) -> int:
    try:
        with pouchdb_server() as url:
            sys.stdout.write(f"pouchdb-server at {url}\n")
            sys.stdout.flush()
            environ = {**os.environ, "TEST_COUCHDB_URL": url, LOOKALIKE: "1", ONLY_COUCHDB: "1"}
            return subprocess.run([sys.executable, "-m", "pytest", *arguments], env=environ, check=False).returncode
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
