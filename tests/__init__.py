"""Tests of the gateway; what they share asserts, too, so pytest rewrites it."""

import pytest

pytest.register_assert_rewrite("tests.model", "tests.scenarios.http_timeline", "tests.scenarios.remote")
