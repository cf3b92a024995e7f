"""From a path to its handler: the table of everything that the embedded server answers."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote_plus

from gateway.couch.upstream import UpstreamResponse
from gateway.embedded.http import (
    attachment_routes,
    bulk_routes,
    changes_routes,
    database_routes,
    document_routes,
    find_routes,
    index_routes,
    listing_routes,
    server_routes,
    update_routes,
    view_routes,
)
from gateway.embedded.http.message import BodyFailed, Params, Request, answer
from gateway.errors import BadRequest, GatewayError, MethodNotAllowed, NotFound, NotImplementedUpstream

if TYPE_CHECKING:
    from gateway.embedded.server import EmbeddedServer

log = logging.getLogger(__name__)
Handler: TypeAlias = Callable[[Request], Awaitable[UpstreamResponse]]
Methods: TypeAlias = Mapping[str, Handler]  # HEAD is served by GET

SERVER: Mapping[str, Methods] = {
    "_all_dbs": {"GET": server_routes.all_dbs},
    "_dbs_info": {"GET": server_routes.dbs_info, "POST": server_routes.dbs_info},
    "_uuids": {"GET": server_routes.uuids},
    "_up": {"GET": server_routes.up},
    "_session": {"GET": server_routes.session, "POST": server_routes.login, "DELETE": server_routes.logout},
    "_active_tasks": {"GET": server_routes.active_tasks},
    "_membership": {"GET": server_routes.membership},
}
DATABASE: Methods = {
    "GET": database_routes.info,
    "PUT": database_routes.create,
    "DELETE": database_routes.delete,
    "POST": document_routes.post,
}
BELOW_DATABASE: Mapping[str, Methods] = {
    "_bulk_docs": {"POST": bulk_routes.bulk_docs},
    "_bulk_get": {"POST": bulk_routes.bulk_get},
    "_revs_diff": {"POST": bulk_routes.revs_diff},
    "_missing_revs": {"POST": bulk_routes.missing_revs},
    "_changes": {"GET": changes_routes.changes, "POST": changes_routes.changes},
    "_all_docs": {"GET": listing_routes.all_docs, "POST": listing_routes.all_docs},
    "_design_docs": {"GET": listing_routes.all_docs, "POST": listing_routes.all_docs},
    "_local_docs": {"GET": listing_routes.local_docs, "POST": listing_routes.local_docs},
    "_find": {"POST": find_routes.find},
    "_explain": {"POST": find_routes.explain},
    "_index": {"GET": index_routes.listed, "POST": index_routes.create},
    "_purge": {"POST": database_routes.purge},
    "_purged_infos": {"GET": database_routes.purged_infos},
    "_purged_infos_limit": {
        "GET": database_routes.purged_infos_limit,
        "PUT": database_routes.set_purged_infos_limit,
    },
    "_revs_limit": {"GET": database_routes.revs_limit, "PUT": database_routes.set_revs_limit},
    "_security": {"GET": database_routes.security, "PUT": database_routes.set_security},
    "_compact": {"POST": database_routes.compact},
    "_ensure_full_commit": {"POST": database_routes.ensure_full_commit},
    "_view_cleanup": {"POST": view_routes.cleanup},
}
QUERIES: Methods = {"POST": listing_routes.queries}
COMPACT_VIEWS: Methods = {"POST": view_routes.compact}
VIEW: Methods = {"GET": view_routes.get, "POST": view_routes.post}
VIEW_QUERIES: Methods = {"POST": view_routes.queries}
VIEW_INFO: Methods = {"GET": view_routes.info}
UPDATE: Methods = {"POST": update_routes.update, "PUT": update_routes.update, "DELETE": update_routes.update}
INDEX: Methods = {"DELETE": index_routes.delete}
INDEXES: Methods = {"POST": index_routes.bulk_delete}
DOCUMENT: Methods = {
    "GET": document_routes.get,
    "PUT": document_routes.put,
    "DELETE": document_routes.delete,
    "COPY": document_routes.copy,
}
LOCAL: Methods = {
    "GET": document_routes.get_local,
    "PUT": document_routes.put_local,
    "DELETE": document_routes.delete_local,
}
ATTACHMENT: Methods = {
    "GET": attachment_routes.get,
    "PUT": attachment_routes.put,
    "DELETE": attachment_routes.delete,
}


def find_methods(parts: tuple[str, ...]) -> tuple[Methods, tuple[str, ...]]:
    """The handlers of a path, and its segments with a document id as one.

    Raises NotImplementedUpstream for what CouchDB has and the embedded server has not, NotFound for the rest.
    """
    if not parts:
        return {"GET": server_routes.welcome}, parts
    first = parts[0]
    if first.startswith("_"):
        if first in SERVER and len(parts) == 1:
            return SERVER[first], parts
        raise NotImplementedUpstream(f"the embedded server has no /{first}")
    if len(parts) == 1:
        return DATABASE, parts
    return _below_database(parts)


def _below_database(parts: tuple[str, ...]) -> tuple[Methods, tuple[str, ...]]:
    name, rest = parts[1], parts[2:]
    if name == "_design" and rest:
        if len(rest) > 1 and rest[1].startswith("_"):
            return _design_function(rest), (parts[0], f"_design/{rest[0]}", *rest[1:])
        parts = (parts[0], f"_design/{rest[0]}", *rest[1:])
    elif name == "_local":
        if len(rest) != 1 or not rest[0]:
            raise BadRequest("Invalid _local document id.")
        return LOCAL, (parts[0], f"_local/{rest[0]}")
    elif name.startswith("_local/"):
        return LOCAL, parts
    elif name.startswith("_") and not name.startswith("_design/"):
        return _special(name, rest), parts
    return (DOCUMENT if len(parts) == 2 else ATTACHMENT), parts


def _design_function(rest: tuple[str, ...]) -> Methods:
    """What is below a design document."""
    kind, names = rest[1], rest[2:]
    if kind == "_view" and len(names) == 1:
        return VIEW
    if kind == "_view" and len(names) == 2 and names[1] == "queries":
        return VIEW_QUERIES
    if kind == "_info" and not names:
        return VIEW_INFO
    if kind == "_update" and names:
        return UPDATE
    if kind == "_view":
        raise NotFound("missing_named_view")
    raise NotImplementedUpstream(f"the embedded server runs no design functions ({kind})")


def _special(name: str, rest: tuple[str, ...]) -> Methods:
    if name in BELOW_DATABASE and not rest:
        return BELOW_DATABASE[name]
    if name in ("_all_docs", "_design_docs", "_local_docs") and rest == ("queries",):
        return QUERIES
    if name == "_index" and (len(rest) == 3 or (len(rest) == 4 and rest[0] == "_design")):
        return INDEX
    if name == "_index" and rest == ("_bulk_delete",):
        return INDEXES
    if name == "_compact" and len(rest) == 1:
        return COMPACT_VIEWS
    raise NotImplementedUpstream(f"the embedded server has no {'/'.join((name, *rest))}")


async def handle(
    server: EmbeddedServer,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes | AsyncIterator[bytes] | None,
) -> UpstreamResponse:
    """Answer one request. `path` is percent-encoded. Errors are answers, too; only what `body` raises is raised."""
    try:
        request = Request(
            server,
            "GET" if method == "HEAD" else method,
            _segments(path),
            Params.parse(query),
            {name.lower(): value for name, value in headers.items()},
            body,
            head=method == "HEAD",
        )
        methods, request.parts = find_methods(request.parts)
        handler = methods.get(request.method)
        if handler is None:
            allowed = sorted({*methods, *(["HEAD"] if "GET" in methods else [])})
            return answer(
                405,
                {"error": MethodNotAllowed.error, "reason": f"Only {','.join(allowed)} allowed"},
                {"allow": ", ".join(allowed)},
            )
        response = await handler(request)
    except BodyFailed as failed:
        raise failed.error from None
    except GatewayError as error:
        if error.status >= 500 and not isinstance(error, NotImplementedUpstream):
            log.warning("%s %s: %s", method, path, error.reason)
        response = answer(error.status, {"error": error.body()["error"], "reason": error.reason})
    except Exception:
        log.exception("%s %s failed", method, path)
        response = answer(500, {"error": "internal_server_error", "reason": "the log of the embedded server says more"})
    if method == "HEAD":
        await close(response.content)
        response.content = _nothing()
    return response


def _segments(path: str) -> tuple[str, ...]:
    """The decoded segments of a path, where `+` is a space; a trailing slash is none.

    Raises BadRequest, NotFound for an empty one.
    """
    if not path.strip("/"):
        return ()
    try:
        parts = tuple(unquote_plus(part, errors="strict") for part in path.lstrip("/").split("/"))
    except UnicodeDecodeError:
        raise BadRequest("the path is not UTF-8") from None
    if parts[-1] == "" and len(parts) < 3:
        parts = parts[:-1]
    if "" in parts:
        raise NotFound
    return parts


async def close(content: AsyncIterator[bytes]) -> None:
    """Close an answer's content that will not be read to its end."""
    if isinstance(content, AsyncGenerator):
        await content.aclose()


async def _nothing() -> AsyncIterator[bytes]:
    empty: tuple[bytes, ...] = ()
    for nothing in empty:
        yield nothing
