"""A process that writes until it is killed, and says which writes were acknowledged. Started by test_durability."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys

from gateway.embedded import EmbeddedServer


async def main(directory: str) -> None:
    server = EmbeddedServer(directory)
    database = await server.open("db", create=True)
    numbers = itertools.count()

    async def write() -> None:
        for number in numbers:
            docs = [{"_id": f"{number}-{part}", "n": number, "text": "x" * 500} for part in range(3)]
            results = await database.write(docs, new_edits=True)
            (again,) = await database.write([{"_id": docs[0]["_id"], "_rev": results[0].rev, "n": -1}], new_edits=True)
            revs = [again.rev, results[1].rev, results[2].rev]
            os.write(1, f"{number} {' '.join(str(rev) for rev in revs)}\n".encode())

    await asyncio.gather(*(write() for _ in range(8)))


asyncio.run(main(sys.argv[1]))
