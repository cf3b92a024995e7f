"""`python -m gateway.embedded --directory DIR --port N [--username U --password P]`"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from gateway.embedded.http.app import Credentials, serve
from gateway.embedded.server import EmbeddedServer
from gateway.errors import GatewayError


async def run(directory: Path, host: str, port: int, credentials: Credentials | None) -> None:
    """Serve until SIGINT or SIGTERM. Prints the address once it listens."""
    server = EmbeddedServer(directory)
    try:
        listener = await serve(server, host, port, credentials=credentials)
        try:
            sys.stdout.write(f"embedded CouchDB on {listener.url}\n")
            sys.stdout.flush()
            stop = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            await stop.wait()
        finally:
            await server.close()  # first: it ends the feeds, which would hold the port open
            await listener.close()
    finally:
        await server.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m gateway.embedded", description="A CouchDB-compatible server on SQLite."
    )
    parser.add_argument("--directory", type=Path, required=True, help="where the databases are kept")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5984, help="0 takes any free port")
    parser.add_argument("--username", help="demand HTTP Basic authentication")
    parser.add_argument("--password", default=os.environ.get("EMBEDDED_PASSWORD"), help="or EMBEDDED_PASSWORD")
    given = parser.parse_args()
    credentials = None
    if given.username is not None:
        if not given.password:
            parser.error("--username needs --password or EMBEDDED_PASSWORD")
        credentials = Credentials(given.username, given.password)
    os.umask(0o077)  # the files hold every document
    try:
        asyncio.run(run(given.directory, given.host, given.port, credentials))
    except (GatewayError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
