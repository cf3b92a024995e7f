"""Every limit of the gateway, with its unit in its name. `check()` holds them against each other at start."""

from __future__ import annotations

from typing import Final

# Requests
DOCUMENT_BYTES: Final = 8_000_000  # CouchDB's max_document_size
BODY_BYTES: Final = 64_000_000  # one request body, as CouchDB's max_http_request_size
ATTACHMENT_BYTES: Final = 1_073_741_824  # one attachment that is streamed, as CouchDB's max_attachment_size
UPLOADS_COUNT: Final = 100  # attachments and multipart documents that are being received by one process
MULTIPART_PARTS_COUNT: Final = 1_000  # of one multipart document: attachments that follow it
MULTIPART_HEADERS_BYTES: Final = 16_384  # of one part
JSON_DEPTH: Final = 500  # nesting of arrays and objects in a body
JSON_VALUES_COUNT: Final = 2_000_000  # commas and opening brackets of one body, outside of strings
PAUSE_SECONDS: Final = 0.005  # of work on many documents in the event loop, then others have their turn
DOCUMENT_ID_BYTES: Final = 7_168  # CouchDB's default is infinity; URLs end near 8 kB
HEADER_BYTES: Final = 16_384
BULK_DOCUMENTS_COUNT: Final = 10_000  # in one _bulk_docs or _bulk_get
QUERY_PARAMETERS_COUNT: Final = 1_000  # in one query string
PURGE_DOCUMENTS_COUNT: Final = 100  # in one _purge, as CouchDB's max_document_id_number
PURGE_REVISIONS_COUNT: Final = 1_000  # in one _purge, as CouchDB's max_revisions_number
BODY_SILENCE_SECONDS: Final = 60.0  # a client that sends nothing more of its body; then 408
CLIENT_WRITE_SECONDS: Final = 60.0  # a client that takes nothing at all of an answer; then its connection is closed
KEEPALIVE_SECONDS: Final = 75.0  # an idle connection
FIRST_REQUEST_SECONDS: Final = 15.0  # a new connection without a complete request head; then it is closed
CONNECTIONS_COUNT: Final = 60_000  # clients of the public port, if there are descriptors for as many
DESCRIPTORS_COUNT: Final = 65_536  # asked for at start, as far as the system allows
DESCRIPTORS_RESERVED_COUNT: Final = 600  # not for clients: upstream connections and streams, files, administrators
REVISIONS_COUNT: Final = 10_000  # ids in one _revisions
KEYS_COUNT: Final = 100_000  # keys in one _all_docs, doc_ids of one filter

# Answers
COMPRESSED_ANSWER_BYTES_MIN: Final = 1_024  # shorter ones gain nothing from gzip
COMPRESSED_INLINE_BYTES: Final = 32_768  # longer ones are compressed beside the event loop
CORS_MAX_AGE_SECONDS_MAX: Final = 86_400  # no browser keeps the answer to a preflight longer

# Names
NAME_BYTES: Final = 239  # users and roles, as Sync Gateway
CHANNEL_NAME_BYTES: Final = 1_000
PASSWORD_CHARACTERS: Final = 1_024
PASSWORD_CHARACTERS_MIN: Final = 3

# Sync function
SYNC_FUNCTION_SECONDS: Final = 1.0  # CPU time for one document
SYNC_FUNCTION_RUNAWAYS_COUNT: Final = 3  # of one request; its other documents are not looked at, or one by one
SYNC_FUNCTION_SILENCE_SECONDS: Final = 15.0  # wall time: its process is stopped or starved, and is replaced
SYNC_FUNCTION_START_SECONDS: Final = 30.0  # until its process is ready, on a machine that is busy
SYNC_FUNCTION_MEMORY_BYTES: Final = 64_000_000  # beside what the documents need that it is given
SYNC_FUNCTION_STACK_BYTES: Final = 4_000_000  # enough to recurse through a document of JSON_DEPTH
SYNC_FUNCTION_SOURCE_BYTES: Final = 1_000_000
SYNC_VERSIONS_COUNT: Final = 100  # of one database; the oldest that are neither in force nor wanted go
SYNC_VERSIONS_BYTES: Final = 16_000_000  # sources of one database's versions together; likewise
SYNC_FUNCTION_CHANNELS_COUNT: Final = 1_000  # of one document
SYNC_FUNCTION_GRANTS_COUNT: Final = 10_000  # (principal, channel or role) pairs of one document
SYNC_FUNCTION_EXPIRIES_COUNT: Final = 100  # calls of expiry() with another value
SYNC_FUNCTION_LOG_LINES_COUNT: Final = 20  # of one document
SYNC_FUNCTION_LOG_CHARACTERS: Final = 1_000  # of one line, and of a reason that a client is told

# Writes
WRITE_ROUTED_WAIT_SECONDS: Final = 10.0  # then a stored write answers 202
WRITE_ROUTED_DOUBT_SECONDS: Final = 1.0  # without a row for so long, a stored write is read back upstream
WRITE_IN_FLIGHT_WAIT_SECONDS: Final = 0.1  # how long a row waits for the answer of its own write
VERDICT_SECONDS: Final = 60.0
OWN_WRITES_SECONDS: Final = 600.0  # how long a write is remembered as the gateway's own, with rules of import
VERDICTS_COUNT: Final = 50_000
UPSTREAM_BATCH_DOCUMENTS_COUNT: Final = 500
UPSTREAM_BATCH_BYTES: Final = 16_000_000
UPSTREAM_BULKS_COUNT: Final = 4  # bulk requests of one kind in flight when the first is slow; else one
UPSTREAM_BULK_PATIENCE_SECONDS: Final = 0.1  # then a bulk in flight counts as slow
UPSTREAM_WAITING_BYTES: Final = 256_000_000  # writes waiting for their bulk; past that 503
UPSTREAM_BATCH_ATTACHMENTS_COUNT: Final = 20  # documents in one bulk read that inlines attachments

# Upstream
UPSTREAM_CONNECT_SECONDS: Final = 5.0
UPSTREAM_REQUEST_SECONDS: Final = 60.0
UPSTREAM_RETRIES_COUNT: Final = 4  # of reads; writes are not repeated after an unknown outcome
UPSTREAM_RETRY_FIRST_SECONDS: Final = 0.1
UPSTREAM_RETRY_LAST_SECONDS: Final = 10.0
UPSTREAM_CONNECTIONS_COUNT: Final = 64
UPSTREAM_HEARTBEAT_SECONDS: Final = 5.0
UPSTREAM_SILENCE_SECONDS: Final = 20.0  # a feed without rows and heartbeats is dead
UPSTREAM_ANSWER_BYTES: Final = 128_000_000  # one answer that is read whole; a bulk read past that is split
UPSTREAM_ROW_BYTES: Final = 8_000_000  # one row of a feed: an id and every leaf
UPSTREAM_STREAMS_COUNT: Final = 256  # pass-through requests (attachments, views) at once
UPSTREAM_STREAM_SILENCE_SECONDS: Final = 600.0  # building a view sends nothing for minutes
UPSTREAM_SINGLE_READS_COUNT: Final = 8  # at once, from a server without CouchDB's bulk reads

# Router
ROUTER_BATCH_ROWS_COUNT: Final = 500
ROUTER_HOUSEKEEPING_SECONDS: Final = 5.0  # between looks at purges, expired verdicts and superseded leaves
ROUTER_REFUSED_COUNT: Final = 20  # foreign writes that the function refused, as kept for the status
UPSTREAM_LAG_SECONDS: Final = 1.0  # how long a document is read again that is older than the row that named it
GRANTS_ENDED_COUNT: Final = 1_000  # grants whose time is over that one transaction ends
DOCUMENTS_EXPIRED_COUNT: Final = 100  # expired documents deleted at once
EXPIRED_RETRY_FIRST_SECONDS: Final = (
    5.0  # until an expired document that the upstream would not delete has its next turn
)
EXPIRED_RETRY_LAST_SECONDS: Final = 300.0
CLOCK_LOOK_SECONDS: Final = 1.0  # between looks at the clock, which may be set, of what ends by itself
EXPIRIES_LOOK_SECONDS: Final = 60.0  # between looks at the store, for what no commit has told of
LEAF_ANCESTORS_COUNT: Final = 50  # ancestor revision ids kept with a leaf
SUPERSEDED_GRACE_SECONDS: Final = 600.0  # a listed revision stays fetchable this long (A19)

# Resync
RESYNC_BATCH_DOCUMENTS_COUNT: Final = 500  # computed at once; the last of them while nothing is routed
RESYNC_PAUSE_SECONDS: Final = 0.005  # between two batches, beside what each waits for
RESYNC_AT_REST_FIRST_SECONDS: Final = 0.5  # what the last batch may take while nothing is routed; doubled when it took
RESYNC_AT_REST_LAST_SECONDS: Final = 5.0  # … longer, up to this: below WRITE_ROUTED_WAIT_SECONDS, so no write is 202
RESYNC_LOGGED_DOCUMENTS_COUNT: Final = 1_000  # of which a function in a resync writes to the log; the lists have all
RESYNC_CLEARED_COUNT: Final = 5_000  # documents of an earlier resync that are forgotten in one transaction
RESYNC_RUNAWAYS_COUNT: Final = 100  # documents that the function may run away on, then the resync ends
RESYNC_PUBLISHED_COUNT: Final = 1_000  # changed documents told to feeds one by one; of more, each reads the store again
RESYNC_ROWS_DEFAULT_COUNT: Final = 100  # rows of one list when no limit is asked for
RESYNC_ROWS_COUNT: Final = 1_000  # rows of one list, at most

# Reads
REVISION_CACHE_BYTES: Final = 64_000_000
CHANGES_PAGE_ROWS_COUNT: Final = 500  # rows built and sent at once
PENDING_COUNT: Final = 1_000  # counted exactly up to here
PORTION_BYTES: Final = 2_000_000  # of documents, in one piece of an answer that is made and sent in pieces
PORTION_FIRST_COUNT: Final = 16  # documents in the first piece, before their sizes are known
PORTION_FIRST_ATTACHED_COUNT: Final = 2  # the same where attachments come along
LISTING_ROWS_COUNT: Final = 5_000  # rows without documents taken from the index at once, for _all_docs
LISTING_QUERIES_COUNT: Final = 1_000  # in one _all_docs/queries
WEBSOCKET_MESSAGE_ROWS_COUNT: Final = 20  # rows in one message, as Sync Gateway
WEBSOCKET_MESSAGE_BYTES: Final = 65_536  # the same in bytes, but for one row that is larger
WEBSOCKET_OPTIONS_BYTES: Final = 1_000_000  # the client's message with the options
WEBSOCKET_OPTIONS_SECONDS: Final = 30.0  # until it has come
WEBSOCKET_PING_SECONDS: Final = 30.0  # without a pong for half of it, the client is gone
WEBSOCKET_CLOSE_SECONDS: Final = 3.0  # until the client has answered that the connection is closed
DELETED_FEED_SECONDS: Final = 5.0  # for the upstream to end an administrator's feed of a database that is deleted
DELETED_FEED_PAUSE_SECONDS: Final = 0.05  # between the end of a database and the end of its administrators' feeds
HEARTBEAT_MIN_SECONDS: Final = 1.0
HEARTBEAT_DEFAULT_SECONDS: Final = 60.0  # heartbeat=true, as CouchDB
FEED_TIMEOUT_DEFAULT_SECONDS: Final = 60.0
FEED_TIMEOUT_MAX_SECONDS: Final = 900.0
UNLIMITED_COUNT: Final = 2**53  # rows, when a client names no limit
FEEDS_COUNT: Final = 50_000  # waiting feeds in one process
FEEDS_OF_USER_COUNT: Final = 1_000  # of one user of a database; not of the guest, who may be thousands of people
VIEWERS_INTERVALS_COUNT: Final = 500_000  # access intervals kept in memory, of one database
FEED_MEMORY_ROWS_COUNT: Final = 1_000  # rows kept for a slow feed; past that it reads the store again

# Explain
EXPLAIN_ROWS_DEFAULT_COUNT: Final = 100  # rows of one answer when no limit is asked for
EXPLAIN_ROWS_COUNT: Final = 1_000  # rows of one answer, at most
EXPLAIN_PATHS_COUNT: Final = 100  # ways to one document, revisions of it, channels of a user, in one explanation
SOURCES_COUNT: Final = 10  # of one grant that are named
HOLDERS_SORTED_COUNT: Final = 2_000  # users of a channel that are sorted by name; of more, names are looked through
HOLDERS_EXAMINED_COUNT: Final = 10_000  # names looked through for one answer
READERS_EXAMINED_COUNT: Final = 1_000  # users whose past is looked at for one answer about a deleted document
CHANNELS_COUNTED_COUNT: Final = 1_000  # documents and users of each channel of a list, counted exactly up to here
CHANNEL_COUNTED_COUNT: Final = 50_000  # the same when one channel is asked for

# Selectors: _find, and filter=_selector of feeds
SELECTOR_DEPTH_COUNT: Final = 100  # nesting of conditions
SELECTOR_CONDITIONS_COUNT: Final = 10_000  # in one selector
SELECTOR_PATTERNS_COUNT: Final = 100  # $regex in one selector
SELECTOR_PATTERN_SECONDS: Final = 0.5  # $regex on one value
SELECTOR_PATTERNS_SECONDS: Final = 5.0  # all $regex of a selector on one batch of documents
SELECTOR_BATCH_DOCUMENTS_COUNT: Final = 100  # bodies read and matched at once; then the next scan has its turn
SELECTOR_BATCH_SECONDS: Final = 10.0  # matching one batch
SELECTOR_SCANS_COUNT: Final = 2  # batches at work at once, and threads for them, of one database
FIND_SECONDS: Final = 30.0  # one _find of a user
FINDS_COUNT: Final = 128  # _find of users at once, of one database
FINDS_OF_USER_COUNT: Final = 32  # of them by one user
FIND_INDEX_ROWS_COUNT: Final = 5_000  # rows of the index read at once by a long scan
FIND_SORT_ROWS_COUNT: Final = 10_000  # skip and limit of a sort in memory, together
FIND_ANSWER_BYTES: Final = 32_000_000  # of one _find
FINDS_ANSWERS_BYTES: Final = 256_000_000  # of all that are at work, of one database

# Logins
CREDENTIALS_COUNT: Final = 25_000  # verified credentials kept
CREDENTIALS_SECONDS: Final = 300.0
HASH_MEMORY_KIBIBYTES: Final = 19_456  # OWASP's parameters of argon2id, with one lane
HASH_PASSES_COUNT: Final = 2
HASHES_AT_ONCE_COUNT: Final = 2  # argon2 is memory-hard by design
HASHES_WAITING_COUNT: Final = 200  # logins waiting for a hash; past that 503

# Sessions
SESSION_SECONDS: Final = 600  # as CouchDB, without use
SESSION_SECONDS_OF_ADMIN: Final = 86_400  # made for a user on the admin port, as Sync Gateway
SESSION_SECONDS_MIN: Final = 10
SESSION_SECONDS_MAX: Final = 31 * 86_400
SESSIONS_COUNT: Final = 100_000  # stored, of all users
SESSIONS_OF_USER_COUNT: Final = 1_000  # of one user; one more ends the one with the least time left
SESSIONS_OF_ADMINS_COUNT: Final = 1_000  # of all admins, in memory
SESSIONS_MEMBERLESS_COUNT: Final = 1_000  # of all users of the server who are of no database, in memory
SESSIONS_KEPT_COUNT: Final = 25_000  # kept in memory, beside those with running requests
SESSION_SWEEP_SECONDS: Final = 1.0  # between looks at whose time is over, and what was renewed
SESSION_HOUSEKEEPING_SECONDS: Final = 60.0  # between removals of what is over from the store
SESSION_REMOVALS_COUNT: Final = 1_000  # in one transaction
LOGIN_DATABASES_COUNT: Final = 20  # in which one POST /_session tries a name
LOGIN_BODY_BYTES: Final = 16_384

# Local documents
LOCAL_DOCUMENT_BYTES: Final = 1_000_000
LOCAL_DOCUMENTS_COUNT: Final = 10_000  # of one user
LOCAL_DOCUMENT_OF_GUEST_BYTES: Final = 16_000  # enough for a checkpoint; anybody may be the guest

# Server
CREATED_DATABASES_COUNT: Final = 500  # made by PUT /{db}; each has its router, and once written to a process
SWEEP_ROWS_COUNT: Final = 500  # documents of a deleted database that one transaction forgets
SERVER_USERS_COUNT: Final = 100_000  # documents of _users, deleted ones among them
SERVER_USER_BYTES: Final = 65_536  # one of them
SECURITY_BYTES: Final = 1_000_000  # a _security object, as CouchDB's
SIGN_UP_BYTES: Final = 16_384  # the request of one who is no administrator
SIGN_UPS_OF_ADDRESS_COUNT: Final = 20  # attempts within a minute from one IPv4 address, or IPv6 network of 64 bits
SIGN_UPS_COUNT: Final = 600  # attempts within a minute
UUIDS_COUNT: Final = 1_000  # of one _uuids, as CouchDB's max_count
DBS_INFO_COUNT: Final = 100  # keys of one _dbs_info, as CouchDB's max_db_number_for_dbs_info_req
COPY_ATTACHMENTS_BYTES: Final = 16_000_000  # of the document that COPY takes along, held in memory
DRAIN_SECONDS: Final = 10  # for requests under way when the gateway is stopped; then they are broken off
DRAIN_SECONDS_MIN: Final = 1
DRAIN_SECONDS_MAX: Final = 600
BREAK_OFF_SECONDS: Final = 0.5  # for a request to notice that it is broken off
CLOSE_SECONDS: Final = 1.0  # for what was answered to go out, when a listener closes its connections
STORE_READERS_COUNT: Final = 4  # reading connections, one thread each

# Embedded upstream
EMBEDDED_COMMIT_ROWS_COUNT: Final = 5_000  # about as many rows in one transaction of waiting writes
EMBEDDED_READERS_COUNT: Final = 4  # reading threads of one embedded server
EMBEDDED_QUERIES_COUNT: Final = 2  # threads for _find and selector filters, which may scan everything
EMBEDDED_CONTENT_COUNT: Final = 2  # threads for the bytes of attachments
EMBEDDED_FEED_ROWS_COUNT: Final = 1_000  # rows kept for a slow feed; past that it reads the file again
EMBEDDED_CHUNK_BYTES: Final = 65_536  # of an attachment, as stored and streamed
EMBEDDED_INLINE_ATTACHMENTS_BYTES: Final = 64_000_000  # sent inline or collected in memory by one answer
EMBEDDED_ATTACHMENT_BYTES: Final = 1_073_741_824  # CouchDB's max_attachment_size
EMBEDDED_SORT_ROWS_COUNT: Final = 100_000  # documents sorted in memory by one _find
EMBEDDED_FIND_SECONDS: Final = 30.0  # one _find, or one batch of a selector filter
EMBEDDED_PURGE_DOCUMENTS_COUNT: Final = 100  # in one _purge, as CouchDB's max_document_id_number
EMBEDDED_PURGE_REVISIONS_COUNT: Final = 1_000
EMBEDDED_PAGE_ROWS_COUNT: Final = 1_000  # rows read from the file at once for _all_docs and _changes
EMBEDDED_VIEW_FUNCTION_SECONDS: Final = 5.0  # CPU time for one document, as CouchDB's os_process_timeout
EMBEDDED_VIEW_SILENCE_SECONDS: Final = 60.0  # wall time: its process is stopped or starved, and is replaced
EMBEDDED_VIEW_FUNCTION_MEMORY_BYTES: Final = 64_000_000  # beside what the document needs
EMBEDDED_VIEW_REDUCTION_CHARACTERS: Final = 4_906  # a longer one is half its input, as CouchDB's reduce_limit says
EMBEDDED_VIEW_PROCESSES_COUNT: Final = 4  # of one embedded server, each for one design document
EMBEDDED_VIEW_BATCH_DOCUMENTS_COUNT: Final = 500  # mapped and stored at once
EMBEDDED_VIEW_BATCH_BYTES: Final = 4_000_000
EMBEDDED_FUNCTION_REVISIONS_COUNT: Final = 20  # in `_revisions` of what filters see, and of oldDoc, as in CouchDB
EMBEDDED_UPDATE_BODY_BYTES: Final = 8_000_000  # of a request to an update function
EMBEDDED_VALIDATION_FAILURES_COUNT: Final = 3  # runaways in one write; what is left of it has the same error, unasked
EMBEDDED_VIEW_REDUCE_SECONDS: Final = 60.0  # wall time of the reductions of one query
EMBEDDED_VIEW_CALL_ROWS_COUNT: Final = 500  # rows given to one call of a reduce function
EMBEDDED_VIEW_ANSWER_BYTES: Final = 64_000_000  # reduced rows collected for one query
EMBEDDED_VIEW_QUERIES_COUNT: Final = 100  # in one POST of several queries


def check() -> None:
    """Raise ValueError when two limits contradict each other."""
    rules = {
        "a sync function's process outlives its slowest document": SYNC_FUNCTION_SILENCE_SECONDS
        >= 5 * SYNC_FUNCTION_SECONDS,
        "the versions in force, wanted and made last are kept": SYNC_VERSIONS_COUNT >= 3
        and SYNC_VERSIONS_BYTES >= 3 * SYNC_FUNCTION_SOURCE_BYTES,
        "a view's process outlives its slowest document": EMBEDDED_VIEW_SILENCE_SECONDS
        >= 5 * EMBEDDED_VIEW_FUNCTION_SECONDS,
        "a document fits into a request body": DOCUMENT_BYTES <= BODY_BYTES,
        "an upstream batch holds at least one document": DOCUMENT_BYTES <= UPSTREAM_BATCH_BYTES,
        "a feed is dead only after several heartbeats": UPSTREAM_SILENCE_SECONDS >= 3 * UPSTREAM_HEARTBEAT_SECONDS,
        "an own write is remembered longer than its verdict": OWN_WRITES_SECONDS > 2 * VERDICT_SECONDS,
        "a verdict outlives the wait for its routing": VERDICT_SECONDS >= WRITE_ROUTED_WAIT_SECONDS,
        "a stored write is read back before its writer gives up": WRITE_ROUTED_DOUBT_SECONDS
        < WRITE_ROUTED_WAIT_SECONDS,
        "writes wait for the end of a resync, and are not given up for it": RESYNC_AT_REST_FIRST_SECONDS
        <= RESYNC_AT_REST_LAST_SECONDS
        <= WRITE_ROUTED_WAIT_SECONDS / 2,
        "a local document fits into a request body": LOCAL_DOCUMENT_BYTES <= BODY_BYTES,
        "a document fits into an answer of the upstream": BODY_BYTES <= UPSTREAM_ANSWER_BYTES,
        "what COPY takes along fits into a request body, as base64": COPY_ATTACHMENTS_BYTES * 4 // 3 <= BODY_BYTES,
        "the embedded upstream takes what the gateway takes": ATTACHMENT_BYTES <= EMBEDDED_ATTACHMENT_BYTES,
        "one upstream batch may wait": UPSTREAM_BATCH_BYTES <= UPSTREAM_WAITING_BYTES,
        "a session lasts longer than a look at it": SESSION_SECONDS_MIN >= 5 * SESSION_SWEEP_SECONDS,
        "a password fits into a sign-up": SIGN_UP_BYTES >= 12 * PASSWORD_CHARACTERS,
        "a password fits into a login": LOGIN_BODY_BYTES >= 12 * PASSWORD_CHARACTERS,
        "an answer compressed in the event loop is a short one": COMPRESSED_ANSWER_BYTES_MIN
        <= COMPRESSED_INLINE_BYTES
        <= 65_536,
        "a page of users fits into what is looked through for it": EXPLAIN_ROWS_COUNT <= HOLDERS_EXAMINED_COUNT,
        "a selector's batch fits into its query": SELECTOR_BATCH_SECONDS <= FIND_SECONDS,
        "one answer of _find fits into those of all": FIND_ANSWER_BYTES <= FINDS_ANSWERS_BYTES,
        "a websocket is closed before the gateway stops": WEBSOCKET_CLOSE_SECONDS < DRAIN_SECONDS,
        "retries start before they end": UPSTREAM_RETRY_FIRST_SECONDS <= UPSTREAM_RETRY_LAST_SECONDS
        and EXPIRED_RETRY_FIRST_SECONDS <= EXPIRED_RETRY_LAST_SECONDS,
        "access ends within a second": CLOCK_LOOK_SECONDS <= 1.0,
    }
    broken = [rule for rule, holds in rules.items() if not holds]
    if broken:
        raise ValueError("limits contradict each other: " + "; ".join(broken))
