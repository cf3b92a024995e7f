from __future__ import annotations

import errno
import logging
import resource
import subprocess
import sys
from typing import Any

import pytest

from gateway import limits
from gateway.descriptors import Complaints, connections_of


def test_a_low_soft_limit_is_raised_to_what_the_system_allows() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = limits.DESCRIPTORS_COUNT if hard == resource.RLIM_INFINITY else min(hard, limits.DESCRIPTORS_COUNT)
    script = "import resource; from gateway.descriptors import allow_all; print(allow_all())"
    lowered = f"ulimit -Sn 64 && exec {sys.executable} -c '{script}'"
    said = subprocess.run(["sh", "-c", lowered], capture_output=True, text=True, check=True)
    assert int(said.stdout) == allowed


@pytest.mark.parametrize(
    ("descriptors", "clients"), [(256, 128), (1_024, 512), (4_096, 3_496), (10**6, limits.CONNECTIONS_COUNT)]
)
def test_there_are_fewer_clients_than_descriptors(descriptors: int, clients: int) -> None:
    assert connections_of(descriptors) == clients


class Loop:
    """As much of an event loop as a handler of its exceptions needs."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.told.append(context)


def test_exhaustion_is_one_line_and_everything_else_is_told_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    loop: Any = Loop()
    complain = Complaints()
    with caplog.at_level(logging.ERROR):
        for _ in range(1_000):
            complain(loop, {"message": "accept failed", "exception": OSError(errno.EMFILE, "Too many open files")})
    assert len(caplog.records) == 1
    assert "Too many open files" in caplog.text
    context = {"message": "a task failed", "exception": ValueError("ours")}
    complain(loop, context)
    assert loop.told == [context]
