"""The OpenAPI description as an answer."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from gateway.http import openapi
from gateway.http.answers import accepts, not_modified, plain, vary
from gateway.http.call import Call
from gateway.http.route import Route

_YAML: Final = ("application/yaml", "application/vnd.oai.openapi", "text/yaml", "application/x-yaml")  # RFC 9512


async def answer(call: Call, routes: tuple[Route, ...]) -> web.StreamResponse:
    """These routes: as YAML to those who ask for it and not for JSON too, as JSON to all others."""
    kind = next((kind for kind in _YAML if accepts(call.request, kind)), None)
    if kind is None or accepts(call.request, "application/json"):
        kind, text = "application/json", openapi.as_json(routes)
    else:
        text = await asyncio.to_thread(openapi.as_yaml, routes)
    tag = openapi.tag(text)
    response = not_modified(call.request, tag) or plain(200, text, {"Content-Type": kind, "ETag": tag})
    vary(response, "Accept")
    return response
