"""Access that changes, as timelines that are told to the oracle, a real store and, over HTTP, a running gateway."""

import pytest

pytest.register_assert_rewrite(
    "tests.model.client", "tests.model.timeline", "tests.scenarios.http_timeline", "tests.scenarios.remote"
)
