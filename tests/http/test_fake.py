"""The database in memory has the form of the real one, or the tests here show nothing."""

from __future__ import annotations

import inspect

from gateway.database import Database
from tests.http.fake import FakeDatabase


def test_the_fake_takes_the_same_arguments_as_the_real_database() -> None:
    own = {"last"}
    for name, method in vars(FakeDatabase).items():
        if name.startswith("_") or name in own or not inspect.isfunction(method):
            continue
        real = getattr(Database, name)
        assert list(inspect.signature(method).parameters) == list(inspect.signature(real).parameters), name
        assert inspect.iscoroutinefunction(method) == inspect.iscoroutinefunction(real), name
