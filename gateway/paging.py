"""How much is read and held at once of an answer that is sent in pieces."""

from __future__ import annotations

from gateway import limits


class Portion:
    """How many documents to read for the next piece: as many as lately came to about PORTION_BYTES.

    Nobody knows how large the first ones are, so they are few.
    """

    __slots__ = ("_most", "count")

    def __init__(self, *, attachments: bool) -> None:
        self.count = limits.PORTION_FIRST_ATTACHED_COUNT if attachments else limits.PORTION_FIRST_COUNT
        self._most = limits.UPSTREAM_BATCH_ATTACHMENTS_COUNT if attachments else limits.UPSTREAM_BATCH_DOCUMENTS_COUNT

    def learn(self, documents: int, size: int) -> None:
        """These many documents made `size` bytes of JSON."""
        if documents:
            self.count = min(self._most, max(1, limits.PORTION_BYTES * documents // max(size, 1)))
