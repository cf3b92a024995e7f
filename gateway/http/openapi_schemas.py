"""What the OpenAPI description says of query parameters and bodies, which the route table names only.

A test holds it to the route table: every parameter has a schema, every endpoint that takes a body is here.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

Schema: TypeAlias = dict[str, Any]

_FLAG: Final[Schema] = {"type": "boolean"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_TEXT: Final[Schema] = {"type": "string"}
_ANYTHING: Final[Schema] = {}
_IDS: Final[Schema] = {"type": "array", "items": _TEXT}
_REV: Final[Schema] = {"type": "string", "pattern": "^[0-9]+-"}

# Of a query string. Those in JSON_PARAMETERS are JSON there (`startkey="a"`), as in CouchDB.
PARAMETERS: Final[dict[str, Schema]] = {
    "accept_deletions": {"type": "boolean", "description": "delete documents that have expired by the function"},
    "accept_failures": {"type": "boolean", "description": "hide documents on which the sync function fails"},
    "action": {"type": "string", "enum": ["start", "stop"]},
    "active_only": _FLAG,
    "att_encoding_info": _FLAG,
    "attachments": _FLAG,
    "atts_since": {"type": "array", "items": _REV},
    "basic": _FLAG,
    "batch": {"type": "string", "enum": ["ok"]},
    "channel": {"type": "string", "description": "the name of a channel"},
    "channels": {"type": "string", "description": "names, separated by commas; with filter=sync_gateway/bychannel"},
    "conflicts": _FLAG,
    "count": _COUNT,
    "deleted_conflicts": _FLAG,
    "descending": _FLAG,
    "doc": {"type": "string", "description": "the id of a document"},
    "doc_ids": _IDS,
    "end_key": _ANYTHING,
    "end_key_doc_id": _TEXT,
    "endkey": _ANYTHING,
    "endkey_docid": _TEXT,
    "engine": _TEXT,
    "fail": {"type": "string", "description": "a path to be redirected to after a failure"},
    "feed": {"type": "string", "enum": ["normal", "longpoll", "continuous", "eventsource", "websocket"]},
    "fields": _IDS,
    "filter": {"type": "string", "examples": ["_doc_ids", "_selector", "_design", "sync_gateway/bychannel"]},
    "heartbeat": {"type": ["integer", "boolean"], "description": "milliseconds, or true"},
    "include_docs": _FLAG,
    "inclusive_end": _FLAG,
    "key": _ANYTHING,
    "keys": {"type": "array"},
    "kind": {"type": "string", "enum": ["changed", "entered", "expiring", "failed", "left", "refused"]},
    "last-event-id": {"type": "string", "description": "as `since`"},
    "latest": _FLAG,
    "limit": _COUNT,
    "local_seq": _FLAG,
    "meta": _FLAG,
    "n": {"type": "integer", "minimum": 1},
    "name_only": _FLAG,
    "new_edits": _FLAG,
    "next": {"type": "string", "description": "a path to be redirected to"},
    "open_revs": {"type": "string", "description": "all, or a JSON array of revisions"},
    "partitioned": _FLAG,
    "placement": _TEXT,
    "preview": {"type": "boolean", "description": "compute what would change, and change nothing"},
    "prefix": {"type": "string", "description": "what the names of channels begin with"},
    "q": {"type": "integer", "minimum": 1},
    "rev": _REV,
    "revocations": {"type": "boolean", "description": "also rows that tell what was lost"},
    "revs": _FLAG,
    "revs_info": _FLAG,
    "selector": {"type": "object", "description": "with filter=_selector"},
    "seq_interval": _COUNT,
    "since": {"type": "string", "description": "a sequence of this database, 0 or now"},
    "skip": _COUNT,
    "sorted": _FLAG,
    "stable": _FLAG,
    "start_key": _ANYTHING,
    "start_key_doc_id": _TEXT,
    "startkey": _ANYTHING,
    "startkey_docid": _TEXT,
    "style": {"type": "string", "enum": ["main_only", "all_docs"]},
    "timeout": {"type": "integer", "minimum": 0, "description": "milliseconds"},
    "update": {"type": "string", "enum": ["true", "false", "lazy"]},
    "update_seq": _FLAG,
    "user": {"type": "string", "description": "the name of a user; GUEST is the guest"},
    "version": {"type": "integer", "minimum": 1, "description": "the number of a version of the sync function"},
    "versions": {"type": "boolean", "description": "JSON: which versions of the sync function there are"},
}
JSON_PARAMETERS: Final = frozenset(
    {
        *("atts_since", "doc_ids", "end_key", "endkey", "fields", "key", "keys", "selector"),
        *("start_key", "startkey"),
    }
)


def _object(properties: Schema, *required: str, **more: Any) -> Schema:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {}), **more}


def reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_LISTING: Final = _object(
    {
        "keys": {"type": "array"},
        "key": _ANYTHING,
        "startkey": _ANYTHING,
        "endkey": _ANYTHING,
        "inclusive_end": _FLAG,
        "descending": _FLAG,
        "include_docs": _FLAG,
        "conflicts": _FLAG,
        "skip": _COUNT,
        "limit": _COUNT,
    }
)
_REVS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "array", "items": _REV}}
_FIND: Final = _object(
    {
        "selector": {"type": "object"},
        "limit": _COUNT,
        "skip": _COUNT,
        "sort": {"type": "array", "items": {"type": ["string", "object"]}},
        "fields": _IDS,
        "use_index": {"type": ["string", "array"]},
        "bookmark": _TEXT,
        "conflicts": _FLAG,
        "execution_stats": _FLAG,
        "update": _FLAG,
        "stable": _FLAG,
        "r": {"type": "integer", "minimum": 1},
    },
    "selector",
)
_PRINCIPALS: Final = {"type": "array", "items": _TEXT}
_MEMBERS: Final = _object({"names": _PRINCIPALS, "roles": _PRINCIPALS})
SCHEMAS: Final[dict[str, Schema]] = {
    "Error": _object(
        {
            "error": {"type": "string", "description": "CouchDB's name of it"},
            "reason": {"type": "string", "description": "for people"},
            "code": {"type": "string", "pattern": "^CG[0-9]{4}$", "description": "never changes its meaning"},
        },
        *("error", "reason"),  # errors that CouchDB answers itself have no code
    ),
    "Document": _object(
        {
            "_id": _TEXT,
            "_rev": _REV,
            "_deleted": _FLAG,
            "_attachments": {"type": "object", "additionalProperties": reference("Attachment")},
            "_revisions": _object({"start": _COUNT, "ids": _IDS}),
        },
        description="any JSON object; members that begin with an underscore are CouchDB's",
    ),
    "Attachment": _object(
        {
            "content_type": _TEXT,
            "data": {"type": "string", "contentEncoding": "base64"},
            "stub": _FLAG,
            "follows": _FLAG,
            "length": _COUNT,
            "digest": _TEXT,
            "revpos": _COUNT,
            "encoding": _TEXT,
        }
    ),
    "Listing": _LISTING,
    "Query": _FIND,
    "Login": _object({"name": _TEXT, "password": _TEXT}, "name", "password"),
}
_DOCUMENT: Final = reference("Document")
_QUERIES: Final = _object({"queries": {"type": "array", "items": reference("Listing")}}, "queries")
_PRINCIPAL: Final = {"admin_channels": _PRINCIPALS, "name": _TEXT}
_USER: Final = _object({**_PRINCIPAL, "password": _TEXT, "admin_roles": _PRINCIPALS, "email": _TEXT, "disabled": _FLAG})
_ROLE: Final = _object(_PRINCIPAL)
_LOGIN: Final = reference("Login")

# JSON bodies, by method and path. `None`: there is none, or it means nothing.
BODIES: Final[dict[tuple[str, str], Schema | None]] = {
    ("POST", "/_session"): _LOGIN,
    ("POST", "/_dbs_info"): _object({"keys": _IDS}, "keys"),
    ("PUT", "/_users"): None,
    ("POST", "/_users/_ensure_full_commit"): None,
    ("PUT", "/_users/_security"): None,
    ("POST", "/_users"): _DOCUMENT,
    ("POST", "/_users/_all_docs"): reference("Listing"),
    ("PUT", "/_users/{doc}"): _DOCUMENT,
    ("PUT", "/{db}"): None,
    ("POST", "/{db}"): _DOCUMENT,
    ("POST", "/{db}/_session"): _object({"name": _TEXT, "password": _TEXT, "ttl": _COUNT}, "name"),
    ("POST", "/{db}/_ensure_full_commit"): None,
    ("POST", "/{db}/_changes"): _object(
        {name: PARAMETERS[name] for name in ("doc_ids", "selector", "fields", "since", "limit", "style", "filter")}
    ),
    ("POST", "/{db}/_all_docs"): reference("Listing"),
    ("POST", "/{db}/_all_docs/queries"): _QUERIES,
    ("POST", "/{db}/_design_docs"): reference("Listing"),
    ("POST", "/{db}/_design_docs/queries"): _QUERIES,
    ("POST", "/{db}/_local_docs"): reference("Listing"),
    ("POST", "/{db}/_local_docs/queries"): _QUERIES,
    ("POST", "/{db}/_bulk_docs"): _object(
        {"docs": {"type": "array", "items": _DOCUMENT}, "new_edits": _FLAG, "all_or_nothing": _FLAG}, "docs"
    ),
    ("POST", "/{db}/_bulk_get"): _object(
        {"docs": {"type": "array", "items": _object({"id": _TEXT, "rev": _REV, "atts_since": _IDS}, "id")}}, "docs"
    ),
    ("POST", "/{db}/_revs_diff"): _REVS,
    ("POST", "/{db}/_missing_revs"): _REVS,
    ("POST", "/{db}/_find"): reference("Query"),
    ("POST", "/{db}/_explain"): reference("Query"),
    ("POST", "/{db}/_index"): _object(
        {"index": {"type": "object"}, "ddoc": _TEXT, "name": _TEXT, "type": _TEXT, "partitioned": _FLAG}, "index"
    ),
    ("PUT", "/{db}/_local"): None,
    ("PUT", "/{db}/_local/{id}"): _DOCUMENT,
    ("PUT", "/{db}/_local/{id}/{attachment...}"): None,
    ("PUT", "/{db}/_security"): _object({"members": _MEMBERS, "admins": _MEMBERS}),
    ("PUT", "/{db}/_revs_limit"): {"type": "integer", "minimum": 1},
    ("PUT", "/{db}/_purged_infos_limit"): {"type": "integer", "minimum": 1},
    ("POST", "/{db}/_purge"): _REVS,
    ("PUT", "/{db}/{doc}"): _DOCUMENT,
    ("POST", "/{db}/_sync_function/try"): _object(
        {
            "doc": _DOCUMENT,
            "old_doc": _DOCUMENT,
            "user": {
                "oneOf": [
                    {**_TEXT, "description": "the name of a user; GUEST is the guest"},
                    _object({"name": _TEXT, "channels": _PRINCIPALS, "roles": _PRINCIPALS}),
                    {"type": "null", "description": "an administrator"},
                ]
            },
            "function": _TEXT,
        },
        "doc",
    ),
    ("PUT", "/{db}/_config/sync"): {"type": "string", "description": "the source of a sync function"},
    ("POST", "/{db}/_resync"): _object(
        {
            "action": {"type": "string", "enum": ["start", "stop"]},
            "preview": _FLAG,
            "version": {"type": "integer", "minimum": 1},
            "sync": {"type": "string", "description": "the source of a sync function"},
            "accept_failures": _FLAG,
            "accept_deletions": _FLAG,
        }
    ),
    ("POST", "/{db}/_user"): _USER,
    ("PUT", "/{db}/_user/{name}"): _USER,
    ("POST", "/{db}/_role"): _ROLE,
    ("PUT", "/{db}/_role/{name}"): _ROLE,
}
# Bodies that are not JSON alone: path → content types beside or instead of it.
FORMS: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("POST", "/_session"): ("application/json", "application/x-www-form-urlencoded"),
    ("PUT", "/{db}/{doc}"): ("application/json", "multipart/related"),
    ("PUT", "/{db}/{doc}/{attachment...}"): ("application/octet-stream",),
    ("PUT", "/{db}/_config/sync"): ("application/javascript", "application/json"),
}
