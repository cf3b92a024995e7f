"""Requests that must be refused, by family."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from gateway import limits


@dataclass(frozen=True, slots=True)
class Bad:
    """A request that must be refused. `path` is below `/{db}` unless it begins with `//`."""

    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    status: int | tuple[int, ...] = 400

    @property
    def whole_path(self) -> str:
        return self.path[1:] if self.path.startswith("//") else "/notes" + self.path

    def __str__(self) -> str:
        return f"{self.method} {self.path[:60]} {(self.body or b'')[:60]!r}"


JSON_ENDPOINTS: Final = ("_bulk_docs", "_bulk_get", "_revs_diff", "_missing_revs", "_all_docs", "_changes", "_find", "")
_NOT_JSON: Final = {
    "nothing": b"",
    "cut": b'{"docs": [',
    "two": b"{} {}",
    "comma": b'{"a": 1,}',
    "quotes": b"{'a': 1}",
    "nan": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "out of range": b'{"a": 1e999}',
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "mark": b"\xef\xbb\xbf{}",
    "lone surrogate": b'{"a": "\\ud800"}',
    "lone surrogate as a name": b'{"\\udc00": 1}',
    "encoded surrogate": b'{"a": "\xed\xa0\x80"}',
    "null byte": b'{"a": "\x00"}',
    "control": b'{"a": "\x01"}',
    "deep": b"[" * 100_000,
    "deep and whole": b'{"a":' * 600 + b"1" + b"}" * 600,
    "endless number": b'{"a": ' + b"9" * 100_000 + b"}",
}
SELECTORS: Final[tuple[Any, ...]] = (
    *({"a": {"$what": 1}}, {"$and": 1}, {"$not": []}, {"a": {"$in": {}}}, {"a": {"$exists": 1}}, {"a": {"$size": -1}}),
    *({"a": {"$regex": "("}}, {"a": {"$regex": 7}}, {"a": {"$mod": [0, 1]}}, {"a": {"$elemMatch": 1}}, {"$eq": 1}),
    *({"": 1}, {"a..b": 1}, {"a": {"$where": "x"}}, {"a": {"$regex": "x" * 40_000 + "("}}),
    {"$or": [{"a": at} for at in range(limits.SELECTOR_CONDITIONS_COUNT + 1)]},
)
_FIND_VALUES: Final[dict[str, tuple[Any, ...]]] = {
    "limit": (-1, 1.5, "x", True, None, []),
    "skip": (-1, "1", {}, None),
    "sort": (1, "a", {}, [1], [{}], [{"a": "up"}], [""], ["a", {"b": "desc"}], ["a..b"]),
    "fields": (1, "a", {}, [1], [[]], ["a..b"], "all_fields"),
    "bookmark": (1, [], "x", "\u00e9", "W10=", "e30=", "eyJpZCI6N30=", "g2wAAAACaAJkAA"),
    "conflicts": (1, "true"),
    "execution_stats": ("yes",),
    "use_index": (7, {}, ["a", "b", "c"]),
    "stale": ("x",),
    "r": (0, "1"),
    "partition": ("p",),
    "unknown": (1,),
}
FIND_OPTIONS: Final[tuple[dict[str, Any], ...]] = (
    *({name: value} for name, values in _FIND_VALUES.items() for value in values),
    *({"sort": ["a"], "bookmark": value} for value in ("eyJpZCI6ImEifQ==", "eyJrZXkiOltdLCJpZCI6ImEifQ==")),
)
_WRONG_TYPES: Final = (b"null", b"1", b'"text"', b"[]", b"[[]]", b"true")


def not_json() -> Iterator[Bad]:
    for endpoint in JSON_ENDPOINTS:
        for name, body in _NOT_JSON.items():
            if name == "nothing" and endpoint == "_changes":
                continue  # a POST without a body asks for nothing special
            yield Bad("POST", f"/{endpoint}", body)
        for body in _WRONG_TYPES:
            yield Bad("POST", f"/{endpoint}", body)
    for path in ("/new", "/_local/new"):
        yield from (Bad("PUT", path, body) for body in (*_NOT_JSON.values(), *_WRONG_TYPES))


def _json(method: str, path: str, *bodies: Any, status: int | tuple[int, ...] = 400) -> Iterator[Bad]:
    for body in bodies:
        yield Bad(method, path, json.dumps(body).encode(), status=status)


def wrong_types() -> Iterator[Bad]:
    yield from _json("POST", "/_bulk_docs", {}, {"docs": None}, {"docs": {}}, {"docs": "x"}, {"docs": 1})
    yield from _json("POST", "/_bulk_docs", {"docs": [], "new_edits": "false"}, {"docs": [], "new_edits": 0})
    yield from _json("POST", "/_bulk_get", {}, {"docs": None}, {"docs": {}}, {"docs": "x"})
    for endpoint in ("_revs_diff", "_missing_revs"):
        yield from _json("POST", f"/{endpoint}", {"a": 1}, {"a": None}, {"a": "1-x"}, {"a": {}}, {"a": [1]})
        yield from _json("POST", f"/{endpoint}", {"a": [None]}, {"a": ["x"]}, {"a": ["1-"]}, {"a": ["-1-a"]})
        yield from _json("POST", f"/{endpoint}", {"a": [["1-a"]]}, {"a": ["99999999999-a"]})
    yield from _json("POST", "/_all_docs", {"keys": 1}, {"keys": {}}, {"keys": "a"}, {"startkey_docid": 1})
    yield from _json("POST", "/_all_docs", {"limit": -1}, {"limit": "x"}, {"limit": 1.5}, {"skip": True}, {"limit": []})
    yield from _json("POST", "/_all_docs", {"include_docs": "yes"}, {"descending": 1}, {"sorted": 5})
    for endpoint in ("_all_docs", "_design_docs", "_local_docs"):
        yield from _json("POST", f"/{endpoint}/queries", {}, {"queries": 1}, {"queries": {}}, {"queries": [1]}, [], "x")
        yield from _json("POST", f"/{endpoint}/queries", {"queries": [{"limit": -1}]}, {"queries": [{"keys": "a"}]})
    yield from _json("POST", "/_bulk_docs", {"docs": [1]}, {"docs": [{"_id": "new"}, {"_id": ""}]})
    yield from _json("POST", "/_changes", {"since": []}, {"since": True}, {"since": {}}, {"since": 1.5}, {"since": -1})
    yield from _json("POST", "/_changes", {"limit": "x"}, {"limit": -1}, {"style": 1}, {"feed": 1}, {"filter": []})
    yield from _json("POST", "/_changes", {"filter": "_doc_ids"}, {"filter": "_doc_ids", "doc_ids": "a"})
    yield from _json("POST", "/_changes", {"filter": "_doc_ids", "doc_ids": [1]}, {"filter": "unknown"})
    yield from _json("POST", "/_changes", {"filter": "sync_gateway/bychannel"}, {"heartbeat": []}, {"timeout": "x"})
    by_channel = {"filter": "sync_gateway/bychannel"}
    yield from _json("POST", "/_changes", {**by_channel, "channels": 1}, {**by_channel, "channels": [1]})
    yield from _json("POST", "/_changes", {**by_channel, "channels": ["a,b"]}, {**by_channel, "channels": [""]})
    by_selector = {"filter": "_selector"}
    yield from _json("POST", "/_changes", by_selector, {**by_selector, "selector": 1})
    for selector in SELECTORS:
        yield from _json("POST", "/_changes", {**by_selector, "selector": selector})
        yield from _json("POST", "/_find", {"selector": selector})
    yield from _json("POST", "/_find", {}, *({"selector": {}, **more} for more in FIND_OPTIONS))
    yield from _json("PUT", "/new", {"_id": 1}, {"_rev": 1}, {"_rev": "x"}, {"_rev": "0-a"}, {"_rev": []})
    yield from _json("PUT", "/new", {"_unknown": 1}, {"_deleted": "yes"}, {"_deleted": 1}, {"_attachments": []})
    yield from _json("PUT", "/new", {"_attachments": {"a": 1}}, {"_attachments": {"": {"data": ""}}})
    yield from _json("PUT", "/new", {"_attachments": {"_a": {"data": ""}}}, {"_attachments": {"a": {"data": 1}}})
    yield from _json("PUT", "/new", {"_attachments": {"a": {"data": "not base64!"}}}, {"_attachments": {"a": {}}})
    yield from _json("PUT", "/new", {"_attachments": {"a": {"data": "YQ"}}}, {"_attachments": {"a": {"data": None}}})
    yield from _json("PUT", "/new", {"_attachments": {"a": {"data": "", "content_type": 1}}})
    yield from _json("PUT", "/new", {"_attachments": {"a": {"stub": True}}}, status=412)
    yield from _json("PUT", "/_local/new", {"_rev": 1}, {"_rev": []}, {"_id": 1})
    yield from _json("POST", "", {"_id": 1}, {"_id": []}, {"_id": "_x"}, {"_id": "_local/"}, {"_id": "x" * 8_000})


def revisions() -> Iterator[Bad]:
    digest, replicated = "a" * 32, "/new?new_edits=false"
    yield from _json("PUT", replicated, {}, {"_revisions": {"start": 1}}, {"_revisions": {"ids": [digest]}})
    malformed: tuple[Any, ...] = (1, [], "x", {}, {"start": 1}, {"ids": [digest]}, {"start": 0, "ids": [digest]})
    for bad in malformed:
        yield from _json("PUT", replicated, {"_rev": f"1-{digest}", "_revisions": bad})
    for start in (-1, 1.5, "1", None, True, 10**30, 10**12):
        yield from _json("PUT", replicated, {"_rev": f"1-{digest}", "_revisions": {"start": start, "ids": [digest]}})
    for ids in ([], [1], [None], [digest, digest], "x", [digest + "\u0000"], ["../x"], [""]):
        yield from _json("PUT", replicated, {"_rev": f"1-{digest}", "_revisions": {"start": 1, "ids": ids}})
    many = {"start": 20_000, "ids": [f"{at:032x}" for at in range(20_000, 0, -1)]}
    yield from _json("PUT", replicated, {"_rev": f"20000-{20_000:032x}", "_revisions": many})
    for rev in ("x", "1-", "-a", "0-a", "1-a b", "1-%2F", "99999999999999999999-a", "1-" + "a" * 200, "%F0%9F%92%A9"):
        yield from (Bad(method, f"/there?rev={rev}") for method in ("GET", "DELETE"))
        yield Bad("PUT", f"/there?rev={rev}", b"{}")
        yield Bad("PUT", f"/there/a.txt?rev={rev}", b"text")
    for tag in ("x", "*", '"1"', 'W/"x"', '"1-a", "1-b"', ""):
        yield Bad("DELETE", "/there", headers={"If-Match": tag})
        yield Bad("PUT", "/there", b"{}", {"If-Match": tag})
    yield Bad("PUT", f"/there?rev=1-{digest}", b"{}", {"If-Match": f"2-{digest}"})
    yield Bad("PUT", f"/there?rev=1-{digest}", json.dumps({"_rev": f"2-{digest}"}).encode())
    for value in ("x", "[", "1", "{}", "[1]", '["x"]', "null", '[["1-a"]]'):
        yield Bad("GET", f"/there?open_revs={quote(value)}")
    yield Bad("PUT", "/there?new_edits=maybe", b"{}")


def ids() -> Iterator[Bad]:
    for name in ("_x", "_bulk", "_local_x", "_changes_x"):
        yield Bad("PUT", f"/{name}", b"{}")
        yield Bad("GET", f"/{name}", status=404)
    for name in ("%FF", "%C3%28", "%ED%A0%80", "a%FFb", "%", "%2", "%zz", "a%"):
        for method in ("GET", "PUT", "DELETE"):
            yield Bad(method, f"/{name}", b"{}" if method == "PUT" else None)
            yield Bad(method, f"/there/{name}", b"x" if method == "PUT" else None)
    yield Bad("PUT", "/" + "x" * 8_000, b"{}", status=(400, 413))
    yield Bad("PUT", "/" + "x" * 30_000, b"{}", status=413)
    yield Bad("GET", "/" + "a/" * 500, status=(400, 404))
    yield Bad("PUT", "/there/_att", b"x")
    yield from (Bad(method, "/_local/", b"{}" if method == "PUT" else None) for method in ("GET", "PUT", "DELETE"))
    yield Bad("PUT", "/_local/x/y", b"{}")
    yield Bad("PUT", "/_design/x", b"{}", status=403)
    for doc in ({"_id": "_x"}, {"_id": ""}, {"_id": "x" * 8_000}):
        yield Bad("PUT", "/_bulk", json.dumps(doc).encode())


def queries() -> Iterator[Bad]:
    for path in ("/_changes", "/_all_docs"):
        for value in ("-1", "x", "1.5", "1e3", "99999999999999999999", "", "null", "0x10", "١", "true", "[]", " 1"):
            yield Bad("GET", f"{path}?limit={quote(value)}")
        yield from (Bad("GET", f"{path}?{name}=%zz") for name in ("limit", "unknown"))
        yield Bad("GET", f"{path}?a=%FF")
        yield Bad("GET", f"{path}?descending=maybe")
        yield Bad("GET", f"{path}?include_docs=1")
        yield Bad("GET", f"{path}?" + "&".join(f"a{at}=1" for at in range(1_100)))
        yield Bad("GET", f"{path}?" + "a" * 20_000, status=413)
    for since in ("x", "-1", "1.5", "1:", ":1", "1:2:3:4", "[1,2]", "null", "9" * 40, "1:" + "9" * 40, "😀", "{}"):
        yield Bad("GET", f"/_changes?since={quote(since)}")
    for name in ("heartbeat", "timeout"):
        for value in ("-1", "NaN", "1e309", "Infinity", "x", "1.5", "", "-0.1", "99999999999999999999"):
            yield Bad("GET", f"/_changes?feed=continuous&{name}={value}")
    yield Bad("GET", "/_changes?feed=continuous&heartbeat=0")
    for query in ("feed=unknown", "feed=websocket", "last-event-id=x", "seq_interval=0", "seq_interval=x"):
        yield Bad("GET", f"/_changes?{query}")
    yield Bad("GET", "/_changes?feed=eventsource", headers={"Last-Event-ID": "x"})
    for query in ("stable=x", "update=x", "stale=x", "sorted=x", "partition=x"):
        yield Bad("GET", f"/_all_docs?{query}")
    for query in ("style=x", "filter=x", "filter=_doc_ids&doc_ids=x", "filter=_doc_ids&doc_ids={}"):
        yield Bad("GET", f"/_changes?{query}")
    yield from (Bad("GET", f"/_changes?filter={name}", status=501) for name in ("_view", "x/y"))
    for query in ("", "&selector=x", "&selector=[]", "&selector={%22a%22:{%22$in%22:1}}", "&selector={}&fields={}"):
        yield Bad("GET", f"/_changes?filter=_selector{query}")
    for key in ("x", "[", "%22%5Cud800%22"):
        yield Bad("GET", f"/_all_docs?key={key}")
        yield Bad("GET", f"/_all_docs?startkey={key}")
    for query in ("keys=x", "keys={}", "keys=1", "keys=[1]&key=%22a%22", "skip=-1", "reduce=true", "group=true"):
        yield Bad("GET", f"/_all_docs?{query}")
    for flag in ("revs", "revs_info", "conflicts", "attachments", "latest", "meta", "local_seq", "deleted_conflicts"):
        yield Bad("GET", f"/there?{flag}=maybe")
    for name in ("open_revs", "new_edits", "w", "rev", "atts_since"):
        yield Bad("POST", f"/_bulk_get?{name}=1", b'{"docs": []}')
    yield Bad("DELETE", "?rev=1-a")


def copies() -> Iterator[Bad]:
    yield Bad("COPY", "/there")
    for target in (
        "",
        "_x",
        "_local/",
        "?rev=1-a",
        "a?rev=x",
        "a?rev=",
        "a?b=c",
        "a?",
        "a?rev=%zz",
        "a?rev=%FF",
        "%FF",
    ):
        yield Bad("COPY", "/there", headers={"Destination": target})
    for target in ("http://elsewhere/a", "https://elsewhere/a", "a" * 8_000, "a?" + "&".join(["rev=1-a"] * 1_100)):
        yield Bad("COPY", "/there", headers={"Destination": target})
    copied = {"Destination": "copied"}
    for rev in ("x", "1-", "0-a", "1-%2F"):
        yield Bad("COPY", f"/there?rev={rev}", headers=copied)
    for path in ("/absent", "/there?rev=9-a", "/_local/absent"):
        yield Bad("COPY", path, headers=copied, status=404)
    yield Bad("COPY", "/there", headers={"Destination": "there"}, status=409)
    yield Bad("COPY", "/there", headers={"Destination": "absent?rev=1-a"}, status=409)
    yield Bad("COPY", "/there", headers={"Destination": "_design/x"}, status=403)
    yield Bad("COPY", "/_local/", headers=copied, status=(400, 405))
    yield Bad("COPY", "/_design/x", headers=copied, status=403)


def content_types() -> Iterator[Bad]:
    for endpoint in JSON_ENDPOINTS:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "", "application/jsonx", "json"):
            yield Bad("POST", f"/{endpoint}", b"{}", {"Content-Type": kind}, 415)
        for encoding in ("br", "deflate", "zstd", "gzip, gzip", "x"):
            yield Bad("POST", f"/{endpoint}", b"{}", {"Content-Encoding": encoding}, 415)
        for broken in (b"{}", gzip.compress(b"{}")[:-4], gzip.compress(b"{}") + b"more"):
            yield Bad("POST", f"/{endpoint}", broken, {"Content-Encoding": "gzip"})
    for kind in (
        "multipart/related",
        "multipart/related; boundary=",
        'multipart/related; boundary="' + "x" * 100 + '"',
    ):
        yield Bad("PUT", "/new", b"--x\r\n\r\n{}\r\n--x--", {"Content-Type": kind})
    related = {"Content-Type": "multipart/related; boundary=x"}
    follows = json.dumps({"_attachments": {"a": {"follows": True, "length": 3, "content_type": "a/b"}}}).encode()
    head = b"--x\r\nContent-Type: application/json\r\n\r\n"
    for body in (b"", b"--x--", b"--x\r\n\r\n{}", head + b"{}", head + b"{]\r\n--x--", b"\r\n".join([b"--x"] * 3_000)):
        yield Bad("PUT", "/new", body, related)
    yield Bad("PUT", "/new", head + follows + b"\r\n--x--", related)
    yield Bad("PUT", "/new", head + follows + b"\r\n--x\r\n\r\ntoo long\r\n--x--", related)
    yield Bad("PUT", "/new", head + b"{}\r\n--x\r\n\r\nunasked\r\n--x--", related)
    yield Bad("PUT", "/there/a.txt", b"text", {"Content-Type": "x" * 3_000})


def logins() -> Iterator[Bad]:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for path in ("//_session", "/_session"):
        for name, body in _NOT_JSON.items():
            if name != "nothing":  # with Authorization that is a login
                yield Bad("POST", path, body, status=(400, 413))
        yield from (Bad("POST", path, body) for body in _WRONG_TYPES)
        yield from _json("POST", path, {}, {"name": None}, {"name": 1}, {"name": "a", "username": "b"}, {"name": ["a"]})
        yield from _json("POST", path, {"name": "a", "password": 1}, {"name": "a", "password": {}}, {"password": "a"})
        yield from (
            Bad("POST", path, body, form) for body in (b"password=x", b"%", b"name=%zz", b"name=%ff&password=x")
        )
        yield Bad("POST", path, b"name=a", {"Content-Type": "text/plain"}, 415)
        yield Bad("POST", path, b"{}", {"Content-Encoding": "br"}, 415)
        yield from _json("POST", path, {"name": "a" * 10_000}, {"name": "a\u0000", "password": "x"}, status=401)
    for query in ("next=//x", "next=https://x", "next=", "fail=x", "next=%0d%0a", "next=%ff", "next=%2f%5cx"):
        yield Bad("POST", f"//_session?{query}", b'{"name": "a", "password": "x"}')
        yield Bad("DELETE", f"//_session?{query}")
    for broken in ("x", "a" * 43, "=", '"', "a" * 10_000):
        yield Bad("GET", "/there", headers={"Cookie": f"AuthSession={broken}", "Authorization": ""}, status=401)


def too_large() -> Iterator[Bad]:
    yield from _json("POST", "//_session", {"name": "a", "password": "x" * limits.LOGIN_BODY_BYTES}, status=413)
    for method, path in (("PUT", "/new"), ("POST", "/_bulk_docs"), ("POST", "/_changes")):
        yield Bad(method, path, headers={"Content-Length": str(limits.BODY_BYTES + 1)}, status=413)
    yield Bad("PUT", "/there/big", headers={"Content-Length": str(limits.ATTACHMENT_BYTES + 1)}, status=413)
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(bomb.compress(b" " * 1_000_000) for _ in range(limits.BODY_BYTES // 1_000_000 + 2)) + bomb.flush()
    yield from (Bad("POST", f"/{end}", packed, {"Content-Encoding": "gzip"}, 413) for end in ("_bulk_docs", "_changes"))
    yield Bad("PUT", "/new", json.dumps({"a": "x" * limits.DOCUMENT_BYTES}).encode(), status=413)
    yield Bad("PUT", "/_local/new", json.dumps({"a": "x" * limits.LOCAL_DOCUMENT_BYTES}).encode(), status=413)
    too_many = json.dumps({"docs": [{}] * (limits.BULK_DOCUMENTS_COUNT + 1)}).encode()
    yield from (Bad("POST", f"/{end}", too_many, status=413) for end in ("_bulk_docs", "_bulk_get"))
    keys = ["a"] * (limits.KEYS_COUNT + 1)
    yield from _json("POST", "/_all_docs", {"keys": keys}, status=413)
    yield from _json("POST", "/_changes", {"filter": "_doc_ids", "doc_ids": keys}, status=413)
    yield from _json(
        "POST", "/_revs_diff", {"a": [f"1-{at:x}" for at in range(limits.REVISIONS_COUNT + 1)]}, status=413
    )


FAMILIES: Final = (not_json, wrong_types, revisions, ids, queries, copies, content_types, logins)
