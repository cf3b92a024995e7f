from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.model.positions import ENDLESS, START, Position, Since, parse_since

NUMBERS = st.integers(0, 10**17)
POSITIONS = st.builds(Position, NUMBERS, st.one_of(st.just(ENDLESS), NUMBERS))


def test_a_plain_position_comes_after_every_place_inside_its_trigger() -> None:
    assert Position(4) < Position(5, 0) < Position(5, 3) < Position(5, 99) < Position(5) < Position(6, 0)


def test_positions_are_written_whole() -> None:
    assert str(Position(12)) == "12"
    assert str(Position(28, 5)) == "28:5"
    assert str(Position(5, 28)) == "5:28"
    assert Position(28, 5).encode("3f2a") == "28:5-3f2a"


@given(position=POSITIONS, epoch=st.text("0123456789abcdef", min_size=1, max_size=8))
def test_what_was_written_is_read_again(position: Position, epoch: str) -> None:
    assert parse_since(position.encode(epoch)) == Since(position, epoch)
    assert parse_since(str(position)) == Since(position)


@given(left=POSITIONS, right=POSITIONS)
def test_positions_compare_as_pairs(left: Position, right: Position) -> None:
    assert (left < right) == ((left.major, left.minor) < (right.major, right.minor))


@pytest.mark.parametrize(
    ("sent", "position", "epoch"),
    [
        (0, START, None),
        (12, Position(12), None),
        ("0", START, None),
        ("", START, None),
        (" 12\n", Position(12), None),
        ('"12"', Position(12), None),
        ('"28:5-3f2a"', Position(28, 5), "3f2a"),
        ("28:5", Position(28, 5), None),
        ("5::28", Position(5), None),  # Sync Gateway's: only L is without gaps
        ("5:28:3", Position(5), None),
        ("5:28:3-3f2a", Position(5), "3f2a"),
        ("12-", Position(12), ""),
        ("12-g1AAAACTeJzLYWBgYMpgTmHgz8tPSTV0MDQy1zMAQsMckEQiQ1L9____szKYExlzgQLs", Position(12), ...),  # CouchDB's own
        ("9" * 18, Position(int("9" * 18)), None),
    ],
)
def test_every_form_of_since_is_taken(sent: object, position: Position, epoch: object) -> None:
    since = parse_since(sent)
    assert since is not None
    assert since.position == position
    assert epoch is ... or since.epoch == epoch


def test_now_is_no_position() -> None:
    assert parse_since("now") is None
    assert parse_since('"now"') is None


@pytest.mark.parametrize(
    "sent",
    [
        *(None, True, False, 1.5, -1, [1], {"seq": 1}, b"1", 10**18, 10**30),
        *("x", "-1", "+1", "1.0", "1e3", "0x1", "1_0", ":", ":5", "5:", "::5", "5::", "1:2:3:4", "1 2", "Now", "null"),
        *('"', '""12""', "'12'", "[1]", "12-a b", "12-\na", "12-é", "١٢", "9" * 19, "1:" + "9" * 19, "12\x00"),
    ],
)
def test_every_other_form_of_since_is_refused_in_couchdbs_words(sent: object) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_since(sent)
    reason = "Malformed sequence supplied in 'since' parameter."
    assert (refused.value.error, refused.value.reason) == ("bad_request", reason)


def test_a_position_of_this_database_is_kept() -> None:
    assert Since(Position(7), "3f2a").within("3f2a", 7) == Position(7)
    assert Since(Position(7, 30), "3f2a").within("3f2a", 7) == Position(7, 30)
    assert Since(Position(7)).within("3f2a", 7) == Position(7)


def test_a_position_of_another_epoch_or_beyond_the_last_sequence_starts_over() -> None:
    assert Since(Position(7), "ffff").within("3f2a", 7) == START
    assert Since(Position(7), "").within("3f2a", 7) == START
    assert Since(Position(8), "3f2a").within("3f2a", 7) == START
    assert Since(Position(8)).within("3f2a", 7) == START
    assert Since(Position(8, 1)).within("3f2a", 7) == START
