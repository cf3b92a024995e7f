"""Every error a client can see: its HTTP status, CouchDB's lower-case name and our own stable code.

Bodies are CouchDB's (`{"error": …, "reason": …}`, https://docs.couchdb.org/en/stable/api/basics.html#http-status-codes)
plus `code`, which never changes meaning. Codes: CG1xxx request, CG2xxx who you are, CG3xxx what you may,
CG4xxx documents, CG5xxx sync function, CG6xxx upstream, CG7xxx the gateway itself.
"""

from __future__ import annotations

from typing import Any, ClassVar


class GatewayError(Exception):
    """Base of everything that may be answered to a client."""

    status: ClassVar[int] = 500
    error: ClassVar[str] = "internal_server_error"
    code: ClassVar[str] = "CG7000"
    default_reason: ClassVar[str] = "the gateway failed; its log says more"
    passing: ClassVar[bool] = False
    """It says nothing about a document: the same may succeed later. To a replicator the error of a document is the last
    word about it, and it goes on without it; so such an error is the answer to the whole request."""

    def __init__(self, reason: str | None = None) -> None:
        self.reason = reason if reason is not None else self.default_reason
        super().__init__(self.reason)

    def body(self) -> dict[str, Any]:
        """The JSON object to answer: `{"error", "reason", "code"}`."""
        return {"error": self.error, "reason": self.reason, "code": self.code}


class BadRequest(GatewayError):
    status, error, code = 400, "bad_request", "CG1000"
    default_reason = "the request is not understood"


class BadJson(BadRequest):
    code = "CG1001"
    default_reason = "invalid UTF-8 JSON"


class BadParameter(BadRequest):
    """A query parameter or a member of the request body has a wrong value. CouchDB says `query_parse_error`."""

    error, code = "query_parse_error", "CG1002"


class InvalidDocument(BadRequest):
    """CouchDB's `doc_validation`: an unknown `_member`, a malformed `_rev`, `_revisions` or `_attachments`."""

    error, code = "doc_validation", "CG1003"


class InvalidDesign(BadRequest):
    """A design document that CouchDB refuses to store. The reason names the member."""

    error, code = "invalid_design_doc", "CG1030"


class CompilationError(BadRequest):
    """A function of a design document that is no JavaScript function."""

    error, code = "compilation_error", "CG1031"


class InvalidDocumentId(BadRequest):
    error, code = "illegal_docid", "CG1004"


class TooLarge(GatewayError):
    """The reason names the limit that was passed and its value."""

    status, error, code = 413, "too_large", "CG1005"


class UnsupportedMedia(GatewayError):
    status, error, code = 415, "bad_content_type", "CG1006"


class MethodNotAllowed(GatewayError):
    status, error, code = 405, "method_not_allowed", "CG1007"
    default_reason = "this method is not allowed here"


class NotAcceptable(GatewayError):
    status, error, code = 406, "not_acceptable", "CG1008"


class IllegalName(BadRequest):
    """A user, role, channel or database name that the rules of names.py refuse."""

    error, code = "bad_request", "CG1009"


class IllegalDatabaseName(IllegalName):
    """As CouchDB names it for `PUT /{db}`."""

    error, code = "illegal_database_name", "CG1020"


class DatabaseNameTooLong(IllegalName):
    error, code = "database_name_too_long", "CG1021"


class TooManyRequests(GatewayError):
    status, error, code = 429, "too_many_requests", "CG1010"
    passing = True


class RequestTimeout(GatewayError):
    """The client began a request and did not send the rest of its body."""

    status, error, code = 408, "timeout", "CG1011"


class NotImplementedHere(GatewayError):
    """CouchDB has it and the gateway has not, or not for users. The reason names it."""

    status, error, code = 501, "not_implemented", "CG1012"


class RangeNotSatisfiable(GatewayError):
    """`Range` names bytes that the attachment does not have."""

    status, error, code = 416, "requested_range_not_satisfiable", "CG1013"
    default_reason = "Requested range not satisfiable"


class DigestMismatch(BadRequest):
    """An attachment's bytes are not those that its `digest` names."""

    error, code = "content_md5_mismatch", "CG1014"
    default_reason = "Possible message corruption."


class InvalidQuery(BadRequest):
    """A Mango query that CouchDB refuses, with CouchDB's own name for what is wrong (`bad_arg`, …)."""

    error, code = "invalid_selector", "CG1040"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name

    def body(self) -> dict[str, Any]:
        return super().body() | {"error": self.name}


class Unauthorized(GatewayError):
    """Whole request, never per document: the client must log in again, not drop the write."""

    status, error, code = 401, "unauthorized", "CG2000"
    default_reason = "Login required"


class InvalidLogin(Unauthorized):
    code = "CG2001"
    default_reason = "Invalid login"


class SessionOver(Unauthorized):
    """A session cookie that does not hold, or not any more; never taken for the guest."""

    code = "CG2002"
    default_reason = "the session is over, log in again"


class Forbidden(GatewayError):
    status, error, code = 403, "forbidden", "CG3000"
    default_reason = "forbidden"


class NotFound(GatewayError):
    status, error, code = 404, "not_found", "CG4000"
    default_reason = "missing"


class Deleted(NotFound):
    code = "CG4001"
    default_reason = "deleted"


class UnknownDatabase(NotFound):
    code = "CG4002"
    default_reason = "Database does not exist."
    passing = True


class Conflict(GatewayError):
    status, error, code = 409, "conflict", "CG4003"
    default_reason = "Document update conflict."


class AlreadyExists(GatewayError):
    status, error, code = 412, "file_exists", "CG4004"


class MissingRevision(GatewayError):
    """An attachment is to be written to a revision that is not there, or that may not be read: CouchDB says 409."""

    status, error, code = 409, "not_found", "CG4007"
    default_reason = "missing_rev"


class MissingStub(GatewayError):
    """An attachment stub names an attachment that the replaced revision does not have, or that may not be read."""

    status, error, code = 412, "missing_stub", "CG4005"


class Gone(GatewayError):
    """CouchDB had it once."""

    status, error, code = 410, "gone", "CG4008"


class PreconditionFailed(GatewayError):
    status, error, code = 412, "precondition_failed", "CG4006"


class RefusedBySyncFunction(Forbidden):
    """`throw({forbidden: …})` and every failed `require…()`."""

    code = "CG5000"


class UnauthorizedBySyncFunction(GatewayError):
    """`throw({unauthorized: …})`: per document, unlike a missing login."""

    status, error, code = 401, "unauthorized", "CG5001"


class SyncFunctionFailed(GatewayError):
    """The function threw something else, or could not be run."""

    status, error, code = 500, "sync_function_error", "CG5002"
    default_reason = "Exception in JS sync function"


class SyncFunctionRanAway(SyncFunctionFailed):
    """Time, memory or stack limit. The reason says which."""

    code = "CG5003"


class NotLookedAt(SyncFunctionRanAway):
    """It ran away on SYNC_FUNCTION_RUNAWAYS_COUNT other documents of the request, so this one had no turn."""

    code = "CG5007"
    default_reason = "the sync function ran away on other documents of this request; this one was not looked at"


class BadSyncFunction(BadRequest):
    """The source is no function that JavaScript understands. The reason has line and column."""

    code = "CG5005"


class SyncFunctionBadName(BadRequest):
    """The function named a channel, user or role that the rules of names refuse."""

    error, code = "bad_request", "CG5004"


class SyncFunctionBadExpiry(BadRequest):
    """The function limited a grant by something that is no time: rather no write than access for ever."""

    error, code = "bad_request", "CG5008"


class UpstreamError(GatewayError):
    """Base of everything the upstream does to us; subclasses say whether trying again may help.

    `detail` is for the operator: it may name the upstream, which clients need not know.
    """

    status, error, code = 502, "bad_gateway", "CG6000"
    passing = True

    def __init__(self, reason: str | None = None, *, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = detail

    @property
    def explained(self) -> str:
        """The reason with its detail."""
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class UpstreamUnreachable(UpstreamError):
    """No connection, or it broke, and the retries are used up."""

    status, error, code = 503, "service_unavailable", "CG6001"
    default_reason = "the upstream database server cannot be reached"


class UpstreamRefused(UpstreamError):
    """The upstream refuses the gateway's own credentials or rights (401, 403 at start)."""

    code = "CG6002"


class UpstreamOutcomeUnknown(UpstreamError):
    """A write was sent and the connection broke before its answer: it may or may not be stored."""

    status, error, code = 503, "service_unavailable", "CG6003"


class NotImplementedUpstream(GatewayError):
    """The embedded upstream lacks what CouchDB has. The reason names it."""

    status, error, code = 501, "not_implemented", "CG6004"


class UnreadableDocument(UpstreamError):
    """The upstream's answer for this one document is larger or nested deeper than the gateway reads."""

    code = "CG6005"
    passing = False


class UpstreamValidationFailed(UpstreamError):
    """A `validate_doc_update` of the upstream failed on this one document, instead of taking or refusing it."""

    code = "CG6006"
    passing = False


class Unavailable(GatewayError):
    status, error, code = 503, "service_unavailable", "CG7001"
    default_reason = "not ready, try again"
    passing = True


class StoreUnavailable(Unavailable):
    """The metadata store could not be read or written: a full disk, a damaged file. The reason is SQLite's."""

    code = "CG7002"


class SyncFunctionUnavailable(Unavailable):
    """The function's process cannot be started, or the gateway is closing: says nothing about any document."""

    code = "CG5006"


def from_status(status: int, error: str, reason: str) -> GatewayError:
    """The error class for an answer of the upstream, keeping its reason; 5xx becomes UpstreamError."""
    by_name: dict[tuple[int, str], type[GatewayError]] = {
        (400, "illegal_docid"): InvalidDocumentId,
        (400, "content_md5_mismatch"): DigestMismatch,
        (400, "doc_validation"): InvalidDocument,
        (400, "invalid_design_doc"): InvalidDesign,
        (400, "compilation_error"): CompilationError,
        (400, "query_parse_error"): BadParameter,
        (400, "illegal_database_name"): IllegalDatabaseName,
        (400, "database_name_too_long"): DatabaseNameTooLong,
        (409, "not_found"): MissingRevision,
        (412, "missing_stub"): MissingStub,
        (412, "file_exists"): AlreadyExists,
    }
    by_status: dict[int, type[GatewayError]] = {
        400: BadRequest,
        403: Forbidden,
        404: Deleted if reason == "deleted" else NotFound,
        405: MethodNotAllowed,
        406: NotAcceptable,
        409: Conflict,
        412: PreconditionFailed,
        413: TooLarge,
        415: UnsupportedMedia,
        416: RangeNotSatisfiable,
    }
    kind = by_name.get((status, error)) or by_status.get(status, UpstreamError)
    return kind(reason)
