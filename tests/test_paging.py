from __future__ import annotations

from gateway import limits
from gateway.paging import Portion


def test_portions_follow_the_size_of_documents_within_their_bounds() -> None:
    portion = Portion(attachments=False)
    assert portion.count == limits.PORTION_FIRST_COUNT
    portion.learn(10, 10 * 1_000)
    assert portion.count == limits.UPSTREAM_BATCH_DOCUMENTS_COUNT
    portion.learn(10, 10 * 100_000)
    assert portion.count == limits.PORTION_BYTES // 100_000
    portion.learn(1, 50 * limits.PORTION_BYTES)
    assert portion.count == 1
    portion.learn(0, 0)
    assert portion.count == 1
    portion.learn(1, 0)
    assert portion.count == limits.UPSTREAM_BATCH_DOCUMENTS_COUNT


def test_portions_with_attachments_are_smaller() -> None:
    portion = Portion(attachments=True)
    assert portion.count == limits.PORTION_FIRST_ATTACHED_COUNT
    portion.learn(2, 200)
    assert portion.count == limits.UPSTREAM_BATCH_ATTACHMENTS_COUNT
