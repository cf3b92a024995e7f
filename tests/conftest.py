"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# The same examples at every run, and no time limit on one: a busy machine fails no test. Slow tests draw others.
settings.register_profile("gateway", deadline=None, derandomize=True, database=None)
settings.load_profile("gateway")
