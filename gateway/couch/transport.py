"""Requests to a CouchDB that are answered with JSON: connections, retries, bounded answers, errors."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from gateway import limits
from gateway.couch.address import Address
from gateway.errors import (
    GatewayError,
    UnknownDatabase,
    UpstreamError,
    UpstreamOutcomeUnknown,
    UpstreamRefused,
    UpstreamUnreachable,
    from_status,
)

log = logging.getLogger(__name__)

USER_AGENT = "couch-gateway"
TRANSIENT = frozenset({429, 502, 503, 504})
_NOT_LET_IN = frozenset({401, 403, 407})
_NO_DATABASE = frozenset({"Database does not exist.", "no_db_file"})
_SLICE_BYTES = 262_144
# aiohttp's default of 8 kB is less than a Location header with a long document id
_HEADER_BYTES = 65_536


class AnswerTooLarge(UpstreamError):
    """More than UPSTREAM_ANSWER_BYTES; asking for less may help."""


class AnswerUnreadable(UpstreamError):
    """JSON that Python's parser gives up on (nesting, integers of thousands of digits); asking for less may help."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`value` is the parsed JSON, or None where the body is no JSON (`is_json` tells the two apart)."""

    status: int
    value: Any
    is_json: bool
    content_type: str
    retry_after: str

    @property
    def told(self) -> tuple[str, str]:
        """CouchDB's (`error`, `reason`), empty where it did not say."""
        if not isinstance(self.value, dict):
            return "", ""
        error, reason = self.value.get("error"), self.value.get("reason")
        return error if isinstance(error, str) else "", reason if isinstance(reason, str) else ""

    def describe(self) -> str:
        """`404 not_found: missing`, for messages."""
        error, reason = self.told
        if error:
            return f"{self.status} {error}: {reason}" if reason else f"{self.status} {error}"
        return (
            str(self.status) if self.is_json else f"{self.status} with {self.content_type or 'a body'} that is no JSON"
        )


def error_of(answer: Answer) -> GatewayError:
    """The error for an answer that is not the wanted one. Never repeats a body that is not CouchDB's own.

    401, 403 and 407 of a whole request are about the gateway's own login (CouchDB answers 403 while it is locked out),
    never about a document: a client that took them for a refusal of its write would drop the write.
    """
    error, reason = answer.told
    if answer.status in _NOT_LET_IN:
        return UpstreamRefused(f"the upstream refuses the gateway's credentials: {answer.describe()}")
    if answer.status in TRANSIENT:
        return UpstreamUnreachable(f"the upstream is not ready: it answered {answer.describe()}")
    if answer.status == 404 and reason in _NO_DATABASE:
        return UnknownDatabase(reason)
    if error and answer.status >= 400:
        return from_status(answer.status, error, reason or error)
    if 400 <= answer.status < 500:
        return from_status(answer.status, "", f"the upstream answered {answer.describe()}")
    return UpstreamError(f"the upstream answered {answer.describe()}")


def expect(answer: Answer, *statuses: int) -> Any:
    """The JSON of an answer with one of `statuses`; raises the fitting error for every other answer."""
    if answer.status not in statuses:
        raise error_of(answer)
    if not answer.is_json:
        raise UpstreamError(f"the upstream answered {answer.describe()}")
    return answer.value


def backoff() -> Iterator[float]:
    """Seconds to wait before each retry: doubling, with jitter so that many waiters do not return at once."""
    pause = limits.UPSTREAM_RETRY_FIRST_SECONDS
    for _ in range(limits.UPSTREAM_RETRIES_COUNT):
        yield pause * (0.5 + random.random() / 2)  # noqa: S311 - no secret hangs on it
        pause = min(pause * 2, limits.UPSTREAM_RETRY_LAST_SECONDS)


class JsonBody(aiohttp.payload.Payload):
    """A body that knows whether any of it was sent: CouchDB never acts on half a body, so until then a retry is safe.

    Written in slices, so that a large bulk does not hold up everything else in the loop.
    """

    _autoclose = True

    def __init__(self, data: bytes) -> None:
        super().__init__(data, content_type="application/json")
        self._size = len(data)
        self.sent = False

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        data: bytes = self._value
        return data.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        data: bytes = self._value
        self.sent = True
        if len(data) <= _SLICE_BYTES:
            await writer.write(data)
            return
        view = memoryview(data)
        for start in range(0, len(data), _SLICE_BYTES):
            await writer.write(view[start : start + _SLICE_BYTES])

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await self.write(writer)


class Transport:
    """The connections to one server.

    A pool for each kind, so that none starves another: JSON requests, pass-through streams (as slow as their clients),
    changes feeds (open for ever), and those of administrators. Sessions are made on first use, inside the running loop.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._data: aiohttp.ClientSession | None = None
        self._streams: aiohttp.ClientSession | None = None
        self._feeds: aiohttp.ClientSession | None = None
        self._passed_feeds: aiohttp.ClientSession | None = None
        self._closed = False
        # Answers being read: closing a session alone leaves their readers waiting.
        self.reading: set[aiohttp.ClientResponse] = set()

    def _session(self, connections: int, timeout: aiohttp.ClientTimeout, *, raw: bool = False) -> aiohttp.ClientSession:
        headers = {"User-Agent": USER_AGENT}
        if not raw:
            headers["Accept"] = "application/json"
        if self.address.authorization is not None:
            headers["Authorization"] = self.address.authorization
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            timeout=timeout,
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=not raw,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type") if raw else ("Accept-Encoding",),
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise UpstreamUnreachable("the connection to the upstream is closed")

    @property
    def data(self) -> aiohttp.ClientSession:
        self._check_open()
        if self._data is None:
            self._data = self._session(
                limits.UPSTREAM_CONNECTIONS_COUNT,
                aiohttp.ClientTimeout(
                    total=limits.UPSTREAM_REQUEST_SECONDS, sock_connect=limits.UPSTREAM_CONNECT_SECONDS
                ),
            )
        return self._data

    @property
    def streams(self) -> aiohttp.ClientSession:
        """Bodies pass as they are: not decompressed, no time limit but silence."""
        self._check_open()
        if self._streams is None:
            self._streams = self._session(
                limits.UPSTREAM_STREAMS_COUNT,
                aiohttp.ClientTimeout(
                    total=None,
                    connect=limits.UPSTREAM_REQUEST_SECONDS,  # also the wait for a free connection
                    sock_connect=limits.UPSTREAM_CONNECT_SECONDS,
                    sock_read=limits.UPSTREAM_STREAM_SILENCE_SECONDS,
                ),
                raw=True,
            )
        return self._streams

    @property
    def feeds(self) -> aiohttp.ClientSession:
        """No time limits: the feed watches for silence itself."""
        self._check_open()
        if self._feeds is None:
            self._feeds = self._session(
                0, aiohttp.ClientTimeout(total=None, sock_connect=limits.UPSTREAM_CONNECT_SECONDS)
            )
        return self._feeds

    @property
    def passed_feeds(self) -> aiohttp.ClientSession:
        """Feeds that are passed on as they are: as long and as silent as their clients want them."""
        self._check_open()
        if self._passed_feeds is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=limits.UPSTREAM_CONNECT_SECONDS)
            self._passed_feeds = self._session(0, timeout, raw=True)
        return self._passed_feeds

    async def close(self) -> None:
        self._closed = True
        for response in self.reading.copy():
            response.close()
        for session in (self._data, self._streams, self._feeds, self._passed_feeds):
            if session is not None:
                await session.close()

    async def call(
        self, method: str, url: URL, *, body: bytes | None = None, write: bool = False, retry: bool = True
    ) -> Answer:
        """One request and its whole answer, whatever its status.

        Repeated with backoff after a lost connection or an answer of TRANSIENT kind, for UPSTREAM_REQUEST_SECONDS at
        most; a `write` only while nothing of it was sent or acted on. Raises UpstreamUnreachable when there is no
        answer, UpstreamOutcomeUnknown for a write without a certain answer, AnswerTooLarge, AnswerUnreadable.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + limits.UPSTREAM_REQUEST_SECONDS
        pauses = backoff() if retry else iter(())
        while True:
            payload = None if body is None else JsonBody(body)
            try:
                answer = await self._once(method, url, payload)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                unsent = is_unsent(error) or (payload is not None and not payload.sent)
                if write and not unsent:
                    raise UpstreamOutcomeUnknown(
                        "the upstream did not answer a write; it may or may not be stored", detail=reason_of(error)
                    ) from error
                waited = isinstance(error, TimeoutError) and not is_unsent(error)  # once is enough
                pause = None if waited else next(pauses, None)
                if pause is None or clock() + pause > deadline:
                    raise UpstreamUnreachable(detail=reason_of(error)) from error
                log.warning("%s %s: %s; trying again in %.1f s", method, url.path, reason_of(error), pause)
            except (AnswerTooLarge, AnswerUnreadable) as error:
                if write:
                    raise UpstreamOutcomeUnknown(f"a write was answered, but {error.reason}") from error
                raise
            else:
                pause = next(pauses, None) if answer.status in TRANSIENT else None
                if pause is not None and answer.retry_after.isdecimal():
                    pause = max(pause, min(float(answer.retry_after), limits.UPSTREAM_RETRY_LAST_SECONDS))
                if pause is None or clock() + pause > deadline or (write and not was_turned_away(answer)):
                    return answer
                log.warning("%s %s: answered %s; trying again in %.1f s", method, url.path, answer.describe(), pause)
            await asyncio.sleep(pause)

    async def _once(self, method: str, url: URL, payload: JsonBody | None) -> Answer:
        async with self.data.request(method, url, data=payload, allow_redirects=False) as response:
            self.reading.add(response)
            try:
                data = await read_bounded(response)
            finally:
                self.reading.discard(response)
            value, is_json = parse(data) if data else (None, False)
            return Answer(
                response.status, value, is_json, response.content_type, response.headers.get("Retry-After", "")
            )


def is_unsent(error: BaseException) -> bool:
    """Whether no connection was made, so that the server cannot have seen the request."""
    return isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))


def was_turned_away(answer: Answer) -> bool:
    """Whether the answer says that the request was not acted on.

    429, and 503 of a proxy that had no server to send it to (its body is no JSON). CouchDB's own 503 and any 502 and
    504 come after the request was passed on: a write may be stored.
    """
    return answer.status == 429 or (answer.status == 503 and not answer.is_json)


def reason_of(error: BaseException) -> str:
    """What happened, for messages."""
    if isinstance(error, TimeoutError) and not str(error):
        return "timed out"
    return str(error) or type(error).__name__


async def read_bounded(response: aiohttp.ClientResponse) -> bytes:
    """The whole body; AnswerTooLarge past UPSTREAM_ANSWER_BYTES, without reading on."""
    limit = limits.UPSTREAM_ANSWER_BYTES
    if (response.content_length or 0) > limit:
        _too_large(response)
    parts: list[bytes] = []
    size = 0
    while chunk := await response.content.readany():
        parts.append(chunk)
        size += len(chunk)
        if size > limit:
            _too_large(response)
    return b"".join(parts)


def _too_large(response: aiohttp.ClientResponse) -> NoReturn:
    response.close()
    raise AnswerTooLarge(f"the upstream's answer is larger than {limits.UPSTREAM_ANSWER_BYTES} bytes")


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not JSON", "", 0)


# Not json_text.parse: that one refuses what a *client* may not send. What is stored upstream is a fact, and one odd
# document written straight to CouchDB must not hold up its neighbours.
_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def parse(data: bytes) -> tuple[Any, bool]:
    """(value, True), or (None, False) for what is no JSON. Raises AnswerUnreadable for JSON beyond Python's parser."""
    try:
        return _decoder.decode(data.decode("utf-8")), True
    except (UnicodeDecodeError, json.JSONDecodeError):
        return None, False
    except RecursionError:
        raise AnswerUnreadable("the upstream's answer is nested too deep to be read") from None
    except ValueError as error:  # more digits than int() takes
        raise AnswerUnreadable(f"the upstream's answer cannot be read: {error}") from None
