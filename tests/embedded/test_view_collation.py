from __future__ import annotations

import json
import random
import subprocess
import unicodedata
from itertools import pairwise
from typing import Any

import pytest

from gateway.mango.collation import raw_sort_key, sort_key
from tests.node import environment, node

# CouchDB's own list (couch_mrview_collation_tests.erl), and some more of each kind.
ASCENDING: list[Any] = [
    None, False, True,
    -1e300, -2, -1, -0.5, 0, 1e-300, 1, 2, 3.0, 4, 10, 1e300, 10**400,
    "",
    " ", "_", "-", ",", "!", "~", "$", "0", "10", "9", "a", "A", "á", "Á", "aa", "aé", "b", "B", "ba", "bb", "c", "Z",
    "я", "日", "\ufff0", [], [None], [1], ["a"], ["b"], ["b", "c"], ["b", "c", "a"], ["b", "d"], ["b", "d", "e"],
    [[]], [{}], {}, {"a": 1}, {"a": 2}, {"b": 1}, {"b": 2}, {"b": 2, "a": 1}, {"b": 2, "c": 2}, {"\ufff0": None},
]  # fmt: skip


def test_values_of_every_kind_come_in_couchdbs_order() -> None:
    shuffled = random.Random(1).sample(ASCENDING, len(ASCENDING))
    assert sorted(shuffled, key=sort_key) == ASCENDING
    keys = [sort_key(value) for value in ASCENDING]
    assert all(low < high for low, high in pairwise(keys))


@pytest.mark.parametrize(
    ("left", "right"),
    [(1, 1.0), (0, -0.0), ("c", "c\u200b"), ("é", "e\u0301"), (["x", {"y": 2}], ["x", {"y": 2.0}])],
)
def test_what_is_equal_to_icu_has_one_key(left: Any, right: Any) -> None:
    assert sort_key(left) == sort_key(right)


def test_raw_collation_is_erlangs_order_of_terms() -> None:
    ascending: list[Any] = [
        -1, 2.5, 10, False, None, True, {"a": 1}, {"b": 0},
        [], [1], [1, "a"], ["a"], "", "A", "B", "a", "a\x00", "aa", "é",
    ]  # fmt: skip
    assert sorted(random.Random(2).sample(ascending, len(ascending)), key=raw_sort_key) == ascending


def characters(*ranges: tuple[int, int]) -> list[str]:
    found = [chr(code) for first, last in ranges for code in range(first, last)]
    return [one for one in found if unicodedata.category(one) not in ("Cn", "Cs")]


ALPHABETS = {
    "ascii": characters((32, 127)),
    "latin": characters((32, 127), (0xA1, 0x250)),
    "accents and case": list("aAáàÁäÄbBßsSæÆeE -_1²①ªα"),
    "many scripts": characters(
        *((9, 14), (32, 127), (0xA1, 0x250), (0x300, 0x340), (0x370, 0x530), (0x5D0, 0x5EB), (0x621, 0x64B)),
        *((0x1E00, 0x2000), (0x2010, 0x2050), (0x20A0, 0x20C0), (0x3041, 0x30FF), (0x4E00, 0x4E40), (0xAC00, 0xAC40)),
        (0xFF01, 0xFF60),
    ),
}
# Characters that newer Unicode data has may sort otherwise in a Node with older data: both must know them.
COMPARE = """
const collator = new Intl.Collator("en-u-co-standard");
let text = "";
process.stdin.on("data", (chunk) => { text += chunk; });
process.stdin.on("end", () => {
  console.log(JSON.stringify(JSON.parse(text).map(([a, b]) => Math.sign(collator.compare(a, b)))));
});
"""


@pytest.mark.parametrize("name", ALPHABETS)
def test_strings_compare_as_icu_compares_them(name: str) -> None:
    """Node has ICU. The order of its `en` is that of the root."""
    dice = random.Random(name)
    alphabet = ALPHABETS[name]
    texts = ["".join(dice.choices(alphabet, k=dice.randint(1, 4))) for _ in range(6_000)]
    pairs = list(zip(texts[::2], texts[1::2], strict=True))
    answer = subprocess.run(
        [node(), "-e", COMPARE], input=json.dumps(pairs), capture_output=True, text=True, check=True, env=environment()
    )
    icu = json.loads(answer.stdout)
    ours = [(sort_key(a) > sort_key(b)) - (sort_key(a) < sort_key(b)) for a, b in pairs]
    assert [pair for pair, one, other in zip(pairs, ours, icu, strict=True) if one != other] == []
