"""The route table: every endpoint of every listener, who may call it, and what answers.

What is not in it is nobody's: 404. Documentation and the no-leak tests are made from it.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from gateway.http import (
    access,
    all_docs,
    attachments,
    bulk,
    changes,
    copying,
    database_routes,
    documents,
    local,
    metrics,
    passthrough,
    principals,
    resync,
    served_description,
    server_lists,
    server_routes,
    sessions,
    sync_config,
    trials,
    users_db,
)
from gateway.http.call import Call, Handler
from gateway.http.route import ListenerName, Policy, Route

_GET: Final = ("GET",)
_POST: Final = ("POST",)
_GET_POST: Final = ("GET", "POST")
_ANY: Final = ("GET", "PUT", "POST", "DELETE")
_ADMIN: Final[tuple[ListenerName, ...]] = ("admin",)
_ALL: Final[tuple[ListenerName, ...]] = ("public", "admin", "metrics")


def _user(methods: tuple[str, ...], path: str, handler: Handler, parameters: frozenset[str] = frozenset()) -> Route:
    return Route(methods, path, handler, "user", parameters=parameters)


def _upstream(methods: tuple[str, ...], path: str) -> Route:
    return Route(methods, path, passthrough.pass_through, "admin")


def _server(methods: tuple[str, ...], *paths: str) -> tuple[Route, ...]:
    return tuple(Route(methods, path, passthrough.pass_through_server, "admin") for path in paths)


def _admin(methods: tuple[str, ...], path: str, handler: Handler, parameters: frozenset[str] = frozenset()) -> Route:
    return Route(methods, path, handler, "admin", _ADMIN, parameters)


async def description(call: Call) -> web.StreamResponse:
    """What is at this port for programs: endpoints and their parameters, as OpenAPI 3.1, JSON or YAML by `Accept`."""
    return await served_description.answer(call, tuple(route for route in ROUTES if call.gate.name in route.listeners))


_PUBLIC: Final[Policy] = "public"
_SERVER: Final[Policy] = "server"
_OWN: Final[Policy] = "own"
_REV: Final = frozenset({"rev"})
_WRITE: Final = frozenset({"rev", "new_edits", "batch"})

ROUTES: Final[tuple[Route, ...]] = (
    # The server
    Route(_GET, "/", server_routes.welcome, _PUBLIC),
    Route(_GET, "/_up", server_routes.up, _PUBLIC, _ALL),
    Route(_GET, "/_session", sessions.session, _PUBLIC, parameters=sessions.WHO),
    Route(_POST, "/_session", sessions.log_in, _PUBLIC, parameters=sessions.REDIRECTS),
    Route(("DELETE",), "/_session", sessions.log_out, _PUBLIC, parameters=sessions.REDIRECTS),
    Route(_GET, "/_all_dbs", server_lists.all_dbs, _SERVER, parameters=server_lists.PARAMETERS),
    Route(_GET_POST, "/_dbs_info", server_lists.dbs_info, _SERVER, parameters=server_lists.PARAMETERS),
    Route(_GET, "/_uuids", server_lists.uuids, _PUBLIC, parameters=server_lists.UUIDS_PARAMETERS),
    Route(_GET, "/_api", description, _PUBLIC),
    Route(_GET, "/favicon.ico", server_lists.favicon, _PUBLIC, refuses=404),
    _admin(_GET, "/_status", server_routes.status),
    Route(_GET, "/_metrics", metrics.metrics, _PUBLIC, ("metrics",)),
    Route(_GET, "/metrics", metrics.metrics, _PUBLIC, ("metrics",)),
    # Users of the server, for administrators; with sign-up each for himself
    Route(_GET, "/_users", users_db.info, _SERVER),
    Route(("PUT",), "/_users", users_db.create, _SERVER, refuses=412),
    Route(_POST, "/_users", users_db.post, _OWN),
    Route(_GET_POST, "/_users/_all_docs", users_db.all_docs, _SERVER, parameters=all_docs.PARAMETERS),
    Route(_POST, "/_users/_ensure_full_commit", users_db.ensure_full_commit, _SERVER),
    Route(_GET, "/_users/_security", users_db.security, _SERVER),
    Route(("PUT",), "/_users/_security", users_db.set_security, _SERVER, refuses=501),
    Route(_GET, "/_users/{doc}", users_db.get, _OWN, parameters=_REV),
    Route(("PUT",), "/_users/{doc}", users_db.put, _OWN, parameters=_REV),
    Route(("DELETE",), "/_users/{doc}", users_db.delete, _OWN, parameters=_REV),
    *(Route(_ANY, f"/_users/{name}", users_db.not_there, _SERVER, refuses=501) for name in users_db.NOT_THERE),
    # The rest of CouchDB's server
    *_server(_GET, "/_active_tasks", "/_membership", "/_db_updates", "/_scheduler/{rest...}"),
    *_server(_POST, "/_replicate", "/_reload_query_servers", "/_search_analyze", "/_nouveau_analyze"),
    *_server(_GET_POST, "/_cluster_setup"),
    *_server(_ANY, "/_reshard", "/_reshard/{rest...}", "/_node/{rest...}"),
    *_server((*_ANY, "COPY"), "/_replicator", "/_replicator/{rest...}"),
    *_server((*_ANY, "COPY"), "/_global_changes", "/_global_changes/{rest...}"),
    # A database
    _user(_GET, "/{db}", database_routes.info),
    Route(
        ("PUT",), "/{db}", database_routes.create, "user", parameters=database_routes.CREATE_PARAMETERS, unknown=True
    ),
    Route(("DELETE",), "/{db}", database_routes.delete, "user", unknown=True),
    _user(_POST, "/{db}", database_routes.post, frozenset({"batch"})),
    Route(_GET, "/{db}/_session", sessions.database_session, _PUBLIC),
    Route(_POST, "/{db}/_session", sessions.database_log_in, _PUBLIC),
    Route(("DELETE",), "/{db}/_session", sessions.log_out, _PUBLIC, parameters=sessions.REDIRECTS),
    _user(_POST, "/{db}/_ensure_full_commit", database_routes.ensure_full_commit),
    # Reading and replicating
    _user(_GET_POST, "/{db}/_changes", changes.changes, changes.PARAMETERS),
    _user(_GET_POST, "/{db}/_all_docs", all_docs.all_docs, all_docs.PARAMETERS),
    _user(_POST, "/{db}/_all_docs/queries", all_docs.all_docs_queries, all_docs.PARAMETERS),
    _user(_GET_POST, "/{db}/_design_docs", all_docs.design_docs, all_docs.PARAMETERS),
    _user(_POST, "/{db}/_design_docs/queries", all_docs.design_docs_queries, all_docs.PARAMETERS),
    _user(_POST, "/{db}/_bulk_docs", bulk.bulk_docs),
    _user(_POST, "/{db}/_bulk_get", bulk.bulk_get, bulk.BULK_GET_PARAMETERS),
    _user(_POST, "/{db}/_revs_diff", bulk.revs_diff),
    _user(_POST, "/{db}/_missing_revs", bulk.missing_revs),
    _user(_POST, "/{db}/_find", database_routes.find),
    Route(_ANY, "/{db}/_temp_view", database_routes.temp_view, "user", refuses=410),
    # Local documents
    _user(_GET_POST, "/{db}/_local_docs", all_docs.local_docs, all_docs.PARAMETERS),
    _user(_POST, "/{db}/_local_docs/queries", all_docs.local_docs_queries, all_docs.PARAMETERS),
    _user(_GET, "/{db}/_local/{id}", local.get),
    _user(("PUT",), "/{db}/_local/{id}", local.put, _REV),
    _user(("DELETE",), "/{db}/_local/{id}", local.delete, _REV),
    _user(("COPY",), "/{db}/_local/{id}", copying.copy_local),
    Route(("GET", "PUT", "DELETE"), "/{db}/_local", local.no_id, "user", refuses=400),
    Route(("GET", "PUT", "DELETE"), "/{db}/_local/{id}/{attachment...}", local.no_attachments, "user", refuses=400),
    # Design documents and what else CouchDB keeps for administrators
    _user(_GET, "/{db}/_design/sync_gateway", passthrough.sync_gateway_design, _REV),
    _upstream(("PUT", "DELETE"), "/{db}/_design/sync_gateway"),
    _upstream(("GET", "PUT", "DELETE", "COPY"), "/{db}/_design/{design}"),
    _upstream(_ANY, "/{db}/_design/{design}/{rest...}"),
    _upstream(_GET_POST, "/{db}/_index"),
    _upstream(("POST", "DELETE"), "/{db}/_index/{rest...}"),
    _upstream(_POST, "/{db}/_explain"),
    _user(_GET, "/{db}/_security", database_routes.security),
    Route(("PUT",), "/{db}/_security", database_routes.set_security, "admin"),
    Route(_GET, "/{db}/_revs_limit", passthrough.pass_through, "user"),
    _upstream(("PUT",), "/{db}/_revs_limit"),
    _upstream(("GET", "PUT"), "/{db}/_purged_infos_limit"),
    _upstream(_GET, "/{db}/_purged_infos"),
    _upstream(_POST, "/{db}/_compact"),
    _upstream(_POST, "/{db}/_compact/{design}"),
    _upstream(_POST, "/{db}/_view_cleanup"),
    _upstream(_GET, "/{db}/_shards"),
    _upstream(_GET, "/{db}/_shards/{doc}"),
    _upstream(_POST, "/{db}/_sync_shards"),
    Route(_POST, "/{db}/_purge", database_routes.purge, "admin"),
    # Administration
    _admin(_GET, "/{db}/_status", database_routes.status),
    _admin(_GET, "/{db}/_access", access.access, access.ACCESS_PARAMETERS),
    _admin(_GET, "/{db}/_channels", access.channels, access.CHANNELS_PARAMETERS),
    _admin(_GET, "/{db}/_channels/{channel}", access.channel, access.CHANNEL_PARAMETERS),
    _admin(_GET, "/{db}/_config/sync", sync_config.get, sync_config.GET_PARAMETERS),
    _admin(("PUT",), "/{db}/_config/sync", sync_config.put, sync_config.PUT_PARAMETERS),
    _admin(("DELETE",), "/{db}/_config/sync", sync_config.delete),
    _admin(_GET, "/{db}/_resync", resync.get),
    _admin(_POST, "/{db}/_resync", resync.post, resync.POST_PARAMETERS),
    _admin(_GET, "/{db}/_resync/documents", resync.documents, resync.DOCUMENTS_PARAMETERS),
    _admin(_GET, "/{db}/_resync/channels", resync.channels, resync.LIST_PARAMETERS),
    _admin(_GET, "/{db}/_resync/access", resync.access, resync.LIST_PARAMETERS),
    _admin(_POST, "/{db}/_sync_function/try", trials.try_sync_function),
    _admin(_GET, "/{db}/_user", principals.list_users, principals.LIST_PARAMETERS),
    _admin(_POST, "/{db}/_user", principals.post_user),
    _admin(_GET, "/{db}/_user/{name}", principals.get_user),
    _admin(("PUT",), "/{db}/_user/{name}", principals.put_user),
    _admin(("DELETE",), "/{db}/_user/{name}", principals.delete_user),
    _admin(("DELETE",), "/{db}/_user/{name}/_session", sessions.delete_user_sessions),
    _admin(("DELETE",), "/{db}/_user/{name}/_session/{id}", sessions.delete_user_session),
    _admin(_GET, "/{db}/_session/{id}", sessions.get_session),
    _admin(("DELETE",), "/{db}/_session/{id}", sessions.delete_session),
    _admin(_GET, "/{db}/_role", principals.list_roles, principals.LIST_PARAMETERS),
    _admin(_POST, "/{db}/_role", principals.post_role),
    _admin(_GET, "/{db}/_role/{name}", principals.get_role),
    _admin(("PUT",), "/{db}/_role/{name}", principals.put_role),
    _admin(("DELETE",), "/{db}/_role/{name}", principals.delete_role),
    # Documents
    _user(_GET, "/{db}/{doc}", documents.get, documents.READ_PARAMETERS),
    _user(("PUT",), "/{db}/{doc}", documents.put, _WRITE),
    _user(("DELETE",), "/{db}/{doc}", documents.delete, _WRITE),
    _user(("COPY",), "/{db}/{doc}", copying.copy, copying.PARAMETERS),
    _user(_GET, "/{db}/{doc}/{attachment...}", attachments.get, _REV),
    _user(("PUT",), "/{db}/{doc}/{attachment...}", attachments.put, _REV),
    _user(("DELETE",), "/{db}/{doc}/{attachment...}", attachments.delete, _REV),
)
