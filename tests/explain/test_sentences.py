"""What an administrator is told, word for word: one sentence for every way in which access is there or is not."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import Forbidden, NotFound
from gateway.explain.explaining import Explaining
from gateway.feeds.viewers import Viewers
from gateway.model.names import GUEST
from gateway.model.sentences import enumerated
from gateway.store.protocol import PrincipalChange
from tests.model.timeline import Timeline
from tests.store.telling import document, leaf


def explain(t: Timeline, user: str, doc: str, rev: str | None = None) -> dict[str, Any]:
    return t.run(Explaining(t.store, Viewers()).explain(user, doc, rev))


def told(t: Timeline, user: str, doc: str, rev: str | None = None) -> tuple[str, str]:
    """The verdict and what the sentence says after the colon."""
    found = explain(t, user, doc, rev)
    head, _, because = found["sentence"].partition(": ")
    can = "can" if found["can_read"] else "cannot"
    assert f"{can} read" in head
    return found["verdict"], because


def test_a_channel_from_an_administrator(t: Timeline) -> None:
    t.user("ann", "A")
    rev = t.write("d", "A B")
    found = explain(t, "ann", "d")
    assert found == {
        "user": "ann",
        "doc": "d",
        "can_read": True,
        "verdict": "open",
        "sentence": f'"ann" can read "d" (revision {rev}): it is in channel "A" since sequence 2,'
        ' which "ann" has since sequence 1 from an administrator.',
        "account": {"exists": True, "since": 1, "disabled": False},
        "document": {
            "seq": 2,
            "winner": rev,
            "deleted": False,
            "purged": False,
            "rev": rev,
            "rev_deleted": False,
            "rev_seq": 2,
            "channels": [{"channel": "A", "since": 2}, {"channel": "B", "since": 2}],
        },
        "paths": [
            {
                "channel": "A",
                "kind": "open",
                "since": 1,
                "ways": [{"since": 1, "from": [{"source": "admin", "since": 1}]}],
            }
        ],
    }


def test_a_document_is_in_a_channel_since_it_came_and_not_since_its_last_change(t: Timeline) -> None:
    t.user("ann", "A")
    t.write("d", "A")
    t.write("d", "A")
    assert 'channel "A" since sequence 2' in explain(t, "ann", "d")["sentence"]


def test_a_granting_document_is_named_with_its_revision_now(t: Timeline) -> None:
    t.write("g", grants="ann:A")
    now = t.write("g", "B", grants="ann:A")
    t.write("d", "A")
    t.user("ann")
    found = explain(t, "ann", "d")
    assert found["sentence"].endswith(f'which "ann" has since sequence 4 from document "g" (revision {now}).')
    assert found["paths"][0]["ways"] == [
        {"since": 4, "from": [{"source": "document", "since": 1, "doc": "g", "rev": now}]}
    ]


def test_a_role_is_named_with_where_it_comes_from(t: Timeline) -> None:
    member = t.write("m", roles="ann:crew")
    t.user("ann")
    t.write("d", "A")
    t.run(t.store.put_principal("role", "crew", PrincipalChange({"origin": "config"}, ["A"])))
    verdict, because = told(t, "ann", "d")
    assert verdict == "open"
    assert because.endswith(
        f'which "ann" has since sequence 4 through role "crew" (a member from document "m" (revision {member});'
        " the role has it from the config file)."
    )


def test_several_sources_are_all_named(t: Timeline) -> None:
    t.user("ann", "A")
    granting = t.write("g", grants="ann:A")
    t.write("d", "A")
    assert told(t, "ann", "d")[1].endswith(f'from an administrator and from document "g" (revision {granting}).')


def test_a_member_of_the_database_has_all_channels(t: Timeline) -> None:
    t.user("ann")
    t.write("d", "A")
    t.run(t.store.set_security({"members": {"names": ["ann"]}}))
    assert told(t, "ann", "d") == (
        "open",
        'channel "*" holds every document, and "ann" has it since sequence 3 from the database\'s _security.',
    )


def test_what_is_public_everybody_reads(t: Timeline) -> None:
    t.user("ann")
    t.write("d", "!")
    assert told(t, "ann", "d") == ("open", 'it is in channel "!", which everybody has.')


def test_the_guest_reads_only_where_guests_are_let_in(t: Timeline) -> None:
    t.write("d", "!")
    t.write("e", "A")
    t.run(t.store.put_principal("user", GUEST, PrincipalChange({"disabled": True})))
    assert told(t, GUEST, "d") == (
        "disabled-user",
        'guests are not let in; otherwise it could, for it is in channel "!", which everybody has.',
    )
    assert told(t, GUEST, "e") == (
        "disabled-user",
        'guests are not let in; nor could it otherwise, for it is in channel "A"; the guest has only the public'
        ' channel "!".',
    )
    assert explain(t, GUEST, "d")["otherwise"] == "open"
    t.run(t.store.put_principal("user", GUEST, PrincipalChange({"disabled": None})))
    assert explain(t, GUEST, "d")["sentence"].startswith('The guest can read "d"')


def test_a_disabled_user_reads_nothing(t: Timeline) -> None:
    t.user("ann", "A")
    t.write("d", "A")
    t.run(t.store.put_principal("user", "ann", PrincipalChange({"disabled": True})))
    verdict, because = told(t, "ann", "d")
    assert verdict == "disabled-user"
    assert because.startswith('the user is disabled; otherwise it could, for it is in channel "A"')


def test_users_that_are_not_there(t: Timeline) -> None:
    t.write("d", "A", grants="bob:A")
    assert told(t, "ann", "d") == ("unknown-user", "there is no such user.")
    assert told(t, "bob", "d") == ("unknown-user", "there is no such user."), "a grant alone makes no user"
    t.user("ann", "A")
    t.drop_user("ann")
    assert told(t, "ann", "d") == ("deleted-user", "the user was deleted at sequence 3.")
    assert explain(t, "ann", "d")["account"] == {"exists": False, "since": 2, "until": 3}


def test_documents_that_are_not_there(t: Timeline) -> None:
    t.user("ann", "*")
    assert told(t, "ann", "d") == ("unknown-document", "there is no such document.")
    assert told(t, "ann", "_design/d")[0] == told(t, "ann", "_local/d")[0] == "not-routed"
    rev = t.write("d", "A")
    assert told(t, "ann", "d", "9-f") == (
        "no-such-revision",
        "9-f is no current revision of it, and users read current ones only.",
    )
    assert told(t, "ann", "d", rev)[0] == "open"
    t.purge("d")
    assert told(t, "ann", "d") == ("purged", "the document was purged, nothing of it is left.")


def test_a_refused_revision_says_so(t: Timeline) -> None:
    t.user("ann", "A")
    refused = document("d", leaf("1-a", refused=Forbidden("not today")))
    t.run(t.store.apply([refused], upstream_since=None, now=1.0))
    assert told(t, "ann", "d") == (
        "refused",
        'the sync function refused this revision ("not today"), and it is in no channel, so only users with all'
        ' channels ("*") read it.',
    )


def test_access_that_was_lost_is_told_with_its_end(t: Timeline) -> None:
    t.user("ann", "A")
    t.write("d", "A")
    t.user("ann")
    assert told(t, "ann", "d") == (
        "access-lost",
        'it is in channel "A"; "ann" could read it through channel "A" until sequence 3.',
    )
    assert explain(t, "ann", "d")["nearest"] == {
        "had": [{"channel": "A", "since": 2, "until": 3}],
        "lost": [{"channel": "A", "since": 1, "until": 3}],
        "left": [],
        "missing_roles": [],
        "user_channels": [{"channel": "!", "since": 1}],
        "user_channels_count": 1,
    }


def test_a_channel_that_was_lost_before_the_document_came_is_told_too(t: Timeline) -> None:
    t.user("ann", "A")
    t.user("ann")
    t.write("d", "A")
    assert told(t, "ann", "d") == ("access-lost", 'it is in channel "A"; "ann" had channel "A" until sequence 2.')


def test_a_document_that_left_is_told_with_the_moment(t: Timeline) -> None:
    t.user("ann", "A")
    t.write("d", "A")
    t.write("d", "B")
    assert told(t, "ann", "d") == (
        "left",
        'it is in channel "B"; at sequence 3 it left channel "A", which "ann" has.',
    )
    t.user("ann", "C")
    assert told(t, "ann", "d")[1].endswith('it left channel "A", which "ann" had then.')


def test_a_document_that_left_before_the_user_came_is_told_too(t: Timeline) -> None:
    t.write("d", "A")
    t.write("d", "B")
    t.user("ann", "A")
    assert told(t, "ann", "d")[0] == "left"


def test_what_the_user_could_really_read_counts_more_than_what_would_have_fitted(t: Timeline) -> None:
    t.user("ann", "A B")
    t.user("ann", "A")
    t.write("d", "A B")
    t.write("d", "B")
    assert told(t, "ann", "d")[1].endswith('at sequence 4 it left channel "A", which "ann" has.')


def test_a_role_that_does_not_exist_is_told(t: Timeline) -> None:
    t.write("g", grants="role:boss:A", roles="ann:boss")
    t.write("d", "A")
    t.user("ann")
    assert told(t, "ann", "d") == (
        "role-missing",
        'it is in channel "A"; "ann" is given role "boss", which has channel "A", but there is no such role.',
    )
    assert [way["role"] for way in explain(t, "ann", "d")["nearest"]["missing_roles"]] == ["boss"]
    t.role("boss")
    assert told(t, "ann", "d")[0] == "open"


def test_channels_that_do_not_meet_are_named(t: Timeline) -> None:
    t.user("ann", "B C D E F G H")
    t.write("d", "X A")
    assert told(t, "ann", "d") == (
        "no-common-channel",
        'it is in channels "A" and "X"; "ann" has channels "B", "C", "D", "E", "F" and 2 more.',
    )
    t.write("e")
    assert told(t, "ann", "e") == (
        "no-channel",
        'it is in no channel, so only users with all channels ("*") read it.',
    )


def test_a_deletion_is_told_to_whoever_could_read_the_document(t: Timeline) -> None:
    t.user("ann", "A")
    t.user("bob", "B")
    t.user("eve", "C")
    t.write("d", "A")
    rev = t.delete("d", "B")
    found = explain(t, "ann", "d")
    assert found["verdict"] == "inherited"
    assert found["sentence"] == (
        f'"ann" can read the deletion of "d" (revision {rev}): "ann" could read it before, through channel "A",'
        " which it had since sequence 1."
    )
    assert told(t, "bob", "d")[1].startswith('it was deleted in channel "B", which "bob" has since sequence 2')
    t.user("bob")
    assert told(t, "bob", "d") == (
        "was-open",
        '"bob" had channel "B" (since sequence 2) when it was deleted at sequence 5.',
    )
    assert told(t, "eve", "d") == ("no-common-channel", 'it was deleted in channel "B"; "eve" has channel "C".')
    readers = t.run(Explaining(t.store, Viewers()).readers("d", "", 10))
    assert [(one["user"], one["kind"]) for one in readers["readers"]] == [("ann", "inherited"), ("bob", "was-open")]


def test_each_branch_of_a_conflict_is_told_for_itself(t: Timeline) -> None:
    t.user("ann", "A")
    root = t.write("d")
    mine, other = t.write("d", "A", onto=root), t.write("d", "B", onto=root, branch=True)
    found = explain(t, "ann", "d")
    readable = {one["rev"]: one["can_read"] for one in found["document"]["revisions"]}
    assert readable == {mine: True, other: False}
    for rev, can in readable.items():
        assert explain(t, "ann", "d", rev)["can_read"] is can


def test_lists_of_what_does_not_exist_are_refused(t: Timeline) -> None:
    explaining = Explaining(t.store, Viewers())
    t.write("d", "A")
    t.purge("d")
    t.user("ann")
    t.drop_user("ann")
    with pytest.raises(NotFound, match="no such document"):
        t.run(explaining.readers("d", "", 10))
    with pytest.raises(NotFound, match="no such user"):
        t.run(explaining.documents("ann", start="", since=0, limit=10))
    with pytest.raises(NotFound, match="no such channel"):
        t.run(explaining.channel("never", "", 10))


@pytest.mark.parametrize(
    ("words", "more", "said"),
    [
        (["a"], False, "a"),
        (["a", "b"], False, "a and b"),
        (["a"], True, "a and others"),
        (list("abcdefg"), False, "a, b, c, d, e and 2 more"),
        (list("abcdefg"), True, "a, b, c, d, e and others"),
    ],
)
def test_many_things_are_not_all_named(words: list[str], more: bool, said: str) -> None:
    assert enumerated(words, more=more) == said
