"""What holds for all tests."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import settings

from tests.compat import LOOKALIKE, ONLY_COUCHDB, skip_what_it_cannot

# The same examples at every run, and no time limit on one: a busy machine fails no test. Slow tests draw others.
settings.register_profile("gateway", deadline=None, derandomize=True, database=None)
settings.load_profile("gateway")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `make test-compat` and `make test-sharded`: only what runs on that server, and of this what it can do."""
    if os.environ.get(ONLY_COUCHDB):
        kept = [item for item in items if re.search(r"\[(couchdb(?!-over)|TEST_COUCHDB_URL)\b", item.name)]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
    if os.environ.get(LOOKALIKE):
        skip_what_it_cannot(items)
