"""The command `couch-gateway`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway import __version__, limits
from gateway.demo.guide import guide
from gateway.demo.load import load as load_demo
from gateway.errors import GatewayError
from gateway.fixtures import command as fixtures
from gateway.server import Server, StartError
from gateway.settings.load import load
from gateway.settings.problems import SettingsError
from gateway.settings.values import Settings

DEMO_CONFIG = Path("config/demo.yaml")  # of this directory, else of the repository that this code stands in


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status: 0 done, 1 failed, 2 wrong arguments or configuration."""
    parser = _parser()
    given = parser.parse_args(arguments)
    limits.check()
    if given.command == "sync-function":
        return fixtures.run(given)
    try:
        settings = load(given.config, os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    if given.command == "check-config":
        print(f"{given.config}: in order, {_count(len(settings.databases), 'database')}")
        return 0
    _log_to_stderr(settings)
    os.umask(0o077)  # what is stored holds every document, and hashes of passwords: nobody else's to read
    # A request hops between the loop and the store's threads; with the usual 5 ms each hop could wait that long for
    # the interpreter's lock. Measured: 40 % more reads per second.
    sys.setswitchinterval(0.0005)
    try:
        asyncio.run(_serve(settings, given.config, demo=given.command == "demo"))
    except (StartError, GatewayError) as error:
        print(f"couch-gateway: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before anything was begun; later SIGINT ends it in good order
        return 130
    return 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


async def _serve(settings: Settings, config: Path, *, demo: bool) -> None:
    server = Server(settings, config)
    try:
        if await server.start():
            if demo:
                await _show_demo(server)
            await server.serve_until_stopped()
    finally:
        await server.stop()


async def _show_demo(server: Server) -> None:
    (database,) = server.databases.values()
    count = await load_demo(database)
    print(guide(server.address("public"), server.address("admin"), database.name, count), flush=True)


def _log_to_stderr(settings: Settings) -> None:
    logging.basicConfig(
        level=settings.logging.level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


def _demo_config() -> Path:
    beside = Path(__file__).parent.parent / DEMO_CONFIG
    return beside if beside.exists() and not DEMO_CONFIG.exists() else DEMO_CONFIG


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="couch-gateway", description="A channel router in front of Apache CouchDB.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"couch-gateway {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", allow_abbrev=False, help="run the gateway")
    serve.add_argument("--config", type=Path, required=True, metavar="FILE", help="the YAML or JSON configuration")
    check = commands.add_parser(
        "check-config", allow_abbrev=False, help="say everything that is wrong with a configuration file"
    )
    check.add_argument("config", type=Path, metavar="FILE")
    demo = commands.add_parser(
        "demo", allow_abbrev=False, help="run the gateway with a demo database on the embedded upstream"
    )
    demo.add_argument("--config", type=Path, default=_demo_config(), metavar="FILE", help=f"default: {DEMO_CONFIG}")
    fixtures.add_parsers(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
