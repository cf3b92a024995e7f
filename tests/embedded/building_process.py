"""A process that builds a view's index until it is killed, and says when part of it is stored. See test_view_builds."""

from __future__ import annotations

import asyncio
import os
import sys

from gateway import limits
from gateway.embedded import EmbeddedServer
from gateway.embedded.views import index
from tests.embedded.test_view_builds import DESIGN, DOCUMENTS


async def main(directory: str) -> None:
    setattr(limits, "EMBEDDED_VIEW_BATCH_DOCUMENTS_COUNT", 20)  # noqa: B010  steps that are soon stored
    server = EmbeddedServer(directory)
    database = await server.open("db", create=True)
    await database.write(DOCUMENTS, new_edits=True)
    await database.write([DESIGN], new_edits=True)
    design = await database.views.design("_design/x")
    building = database.views.update(design)
    while not building.done():
        state = await database.reading(lambda connection: index.state(connection, design.signature))
        if state is not None and state.seq >= 40:
            os.write(1, f"{state.seq}\n".encode())
        await asyncio.sleep(0.005)
    os.write(1, b"built\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
