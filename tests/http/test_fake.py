"""The database in memory has the form of the real one, or the tests here show nothing."""

from __future__ import annotations

import inspect

import pytest

from gateway.catalogue import Catalogue
from gateway.database import Database
from gateway.explain.explaining import Explaining
from gateway.resync.job import Resync
from gateway.server_users import ServerUsers
from tests.http.conftest import FakeCatalogue, FakeUsers
from tests.http.fake import FakeDatabase, FakeExplaining, FakeResync


@pytest.mark.parametrize(
    ("fake", "original"),
    [
        (FakeDatabase, Database),
        (FakeCatalogue, Catalogue),
        (FakeUsers, ServerUsers),
        (FakeExplaining, Explaining),
        (FakeResync, Resync),
    ],
)
def test_the_fake_takes_the_same_arguments_as_the_real_one(fake: type, original: type) -> None:
    own = {"last"}
    for name, method in vars(fake).items():
        if name.startswith("_") or name in own or not inspect.isfunction(method):
            continue
        real = getattr(original, name)
        assert list(inspect.signature(method).parameters) == list(inspect.signature(real).parameters), name
        assert inspect.iscoroutinefunction(method) == inspect.iscoroutinefunction(real), name
