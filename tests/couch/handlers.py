"""What a scripted server answers: values, faults, and half of something."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.couch.scripted import Handler, Out, Request

POUCHDB = {"express-pouchdb": "Welcome!", "vendor": {"name": "PouchDB authors"}}


def always(status: int, value: Any, **headers: str) -> Handler:
    async def answer(request: Request, out: Out) -> None:
        await out.json(status, value, **headers)

    return answer


def in_turn(*answers: Handler) -> Handler:
    """The n-th request gets the n-th answer, all later ones the last."""
    left = list(answers)

    async def answer(request: Request, out: Out) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(request, out)

    return answer


async def broken(request: Request, out: Out) -> None:
    out.abort()


async def html_500(request: Request, out: Out) -> None:
    await out.text(500, "<html>s3cret stack trace</html>")


async def half_an_answer(request: Request, out: Out) -> None:
    await out.raw(b'HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n[{"ok":')
    out.abort()


async def silence(request: Request, out: Out) -> None:
    await asyncio.Event().wait()


async def half_and_silence(request: Request, out: Out) -> None:
    await out.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    await silence(request, out)


async def garbage_json(request: Request, out: Out) -> None:
    await out.text(200, '{"results": [', "application/json")
