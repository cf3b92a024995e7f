"""The same requests to the embedded server and to another: the same answers."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, given, settings

from tests.compat import LOOKALIKE as IS_LOOKALIKE
from tests.differential.conftest import Other
from tests.differential.known import GATEWAY, LOOKALIKE, compare
from tests.differential.not_compared import left_to_digests, names_no_leaf
from tests.differential.requests import Ask, for_the_lookalike, sequences, without_design_documents

# More where revisions are named in another way: `make test-compat` is no part of `make test`.
_EXAMPLES = 100 if os.environ.get(IS_LOOKALIKE) else 15


@settings(max_examples=_EXAMPLES, phases=[Phase.generate, Phase.shrink], suppress_health_check=[HealthCheck.too_slow])
@given(asked=sequences)
def test_a_sequence_of_requests_has_the_same_answers(other: Other, asked: list[Ask]) -> None:
    if other.kind in GATEWAY:
        asked = [without_design_documents(ask) for ask in asked]  # they are in no feed of the gateway
    if other.kind == LOOKALIKE:
        asked = [for_the_lookalike(ask) for ask in asked]
    ours, theirs = other.sides()
    try:
        for number, ask in enumerate(asked):
            if ours.lookalike and (left_to_digests(ours, ask) or names_no_leaf(ours, ask)):
                continue
            first, second = ours.ask(ask), theirs.ask(ask)
            compared = compare(other.kind, ask, first, second)
            if not compared.same:
                before = "\n".join(f"  {one}" for one in asked[:number])
                raise AssertionError(f"{ask}\nembedded: {first}\n{other.kind}: {second}\nafter\n{before}")
            if compared.parted:
                break
    finally:
        other.close(ours, theirs)
