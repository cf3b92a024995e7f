"""A gateway of each test's own, over the embedded upstream, with a database whose function is changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest_asyncio

from tests.protocol.site import PATIENCE_SECONDS, Person, Place, site_on

BY_ROOM: Final = "function (doc) { channel(doc.room); if (doc.grants) { access(doc.grants, doc.to); } }"
BY_OWNER: Final = """
function (doc) {
  if (doc.bad) { throw({forbidden: "no bad ones"}); }
  if (doc.broken) { doc.broken.not.there; }
  channel(doc.owner || doc.room);
  if (doc.grants && !doc.revoked) { access(doc.grants, doc.to); }
  if (doc.joins) { access(doc.joins, doc.room); }
}
"""
JAVASCRIPT: Final = {"Content-Type": "application/javascript"}


@pytest_asyncio.fixture(loop_scope="session")
async def rooms(tmp_path: Path) -> AsyncIterator[Place]:
    """The database `rooms`, routed by BY_ROOM."""
    async with site_on("embedded", tmp_path, {"rooms": {"sync": BY_ROOM}}) as running, AsyncExitStack() as stack:
        yield Place(running, "rooms", stack)


async def want(admin: Person, source: str) -> int:
    """Change the sync function; the number of its version."""
    answer = await admin.http.put("/_config/sync", content=source, headers=JAVASCRIPT)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["version"])


async def resync(admin: Person, **asked: Any) -> dict[str, Any]:
    """Start one; its status. Fails the test when it is refused."""
    answer = await admin.http.post("/_resync", json=asked)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def ended(admin: Person, expected: str = "completed") -> dict[str, Any]:
    """The status once it has this one."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (told := await admin.get("/_resync"))["status"] != expected:
            assert told["status"] in ("running", "waiting"), told
            await asyncio.sleep(0.01)
    return dict(told)
