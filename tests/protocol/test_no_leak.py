"""No answer tells a user of what no channel of hers holds: every endpoint of the route table, asked in every way.

Two databases, one of which has documents of somebody else beside the attacker's (attack.py). Nothing of them may be in
an answer, and both databases must answer alike. An endpoint that is not described here fails: unknown means untested.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Final

import aiohttp
import httpx
import pytest
import pytest_asyncio

from gateway.http.route import Route
from gateway.http.routes import ROUTES
from tests.protocol.attack import (
    ATTACKER,
    HIDDEN,
    MIXED,
    OTHER_ROOM,
    VICTIM,
    Probe,
    World,
    ask,
    ask_all,
    comparable,
    databases,
    digest,
    fill,
    path_of,
    traces,
)
from tests.protocol.attack_writes import WRITES, stubs
from tests.running import client, running_gateway, write_config

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLERS: Final = (ATTACKER, "idle", None, "gone")
OWN_IDS: Final = ("d-03", "a-attached", "g-gone", "k-shared", "m-conflict", "n-came", "p-public", "nobodys")
FIRST_REVS: Final = {doc_id: revs[0] for doc_id, revs in HIDDEN.items()}

Parameters = dict[str, str | Callable[[World], str]]


class Worlds:
    """`full` and `twin` are to be alike; `told` is full and says 403 instead of 404; `changed` is written to.

    In `lax` everybody may write everything.
    """

    def __init__(self, full: World, twin: World, told: World, changed: World, lax: World) -> None:
        self.full = full
        self.twin = twin
        self.told = told
        self.changed = changed
        self.lax = lax


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worlds(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worlds]:
    directory: Path = tmp_path_factory.mktemp("no-leak")
    served = {
        **databases({"full": True, "twin": False, "changed": True, "lax": True}, hide_existence=True),
        **databases({"told": True, "closed": True}, hide_existence=False),
    }
    served["closed"]["guest"] = {"disabled": True}
    served["lax"]["sync"] = "function (doc) { if (doc.refuse) throw({forbidden: 'refused'}); channel(doc.channels) }"
    config = write_config(directory, served)
    async with running_gateway(config) as gateway, aiohttp.ClientSession() as anonymous:

        async def world(name: str) -> World:
            return await fill(World(name, gateway.public, gateway.admin, anonymous), inhabited=name != "twin")

        names = ("full", "twin", "told", "changed", "lax")
        yield Worlds(*[await world(name) for name in names])


# How each endpoint is asked


def _each(path: str, *several: Parameters, compared: bool = True) -> list[Probe]:
    return [Probe("GET", path, parameters, compared=compared) for parameters in several]


def _ranges() -> list[Parameters]:
    keys = ("a", "d-04", "d-04zq7split", "k-shared", "zq7", "zz")
    ranges: list[Parameters] = [
        {first: json.dumps(one), last: json.dumps(two)}
        for one, two in product(keys, keys)
        for first, last in (("startkey", "endkey"),)
    ]
    ranges += [{**one, "descending": "true"} for one in ranges]
    ranges += [{"startkey": json.dumps(key), "skip": "1", "limit": "3"} for key in keys]
    ranges += [{"endkey": json.dumps(key), "inclusive_end": "false"} for key in keys]
    return ranges + [{"key": json.dumps(key)} for key in (*keys, *HIDDEN)]


def _all_docs() -> list[Probe]:
    plain: list[Parameters] = [{}, {"include_docs": "true"}, {"descending": "true"}, {"update_seq": "true"}]
    plain += [{"include_docs": "true", "conflicts": "true", "attachments": "true"}]
    plain += [{"skip": str(skip), "limit": "2"} for skip in range(0, 24, 2)]
    plain += [{"skip": "1000"}, {"limit": "0"}, {"limit": "0", "startkey": '"zq7"'}]
    keys = [*OWN_IDS, *HIDDEN, "zq7refused", "_design/zq7design", "_local/zq7checkpoint", 7, None]
    with_keys: list[Parameters] = [{"keys": json.dumps(keys)}, {"keys": json.dumps(keys), "include_docs": "true"}]
    with_keys += [{"keys": json.dumps(keys), "descending": "true", "skip": "3", "limit": "9"}]
    probes = _each("/_all_docs", *plain, *_ranges(), *with_keys)
    for more in ({}, {"include_docs": True, "conflicts": True}, {"descending": True, "skip": 2}):
        probes.append(Probe("POST", "/_all_docs", body={"keys": keys, **more}))
    return [*probes, Probe("POST", "/_all_docs", body={"startkey": "d-03", "endkey": "zz"})]


def _queries(path: str) -> list[Probe]:
    """The same questions, all in one request; it is large, so the answer is the streamed form too."""
    asked = [
        {name: json.loads(value) for name, value in probe.parameters.items() if isinstance(value, str)}
        for probe in _all_docs()
        if probe.method == "GET"
    ]
    return [Probe("POST", path, more, {"queries": asked}) for more in ({}, {"include_docs": "true"})]


def _changes() -> list[Probe]:
    several: list[Parameters] = [{}, {"style": "all_docs"}, {"include_docs": "true"}, {"descending": "true"}]
    several += [{"include_docs": "true", "conflicts": "true", "attachments": "true", "style": "all_docs"}]
    several += [{"descending": "true", "style": "all_docs", "include_docs": "true"}, {"active_only": "true"}]
    several += [{"limit": str(limit)} for limit in (0, 1, 2, 5, 100)]
    several += [{"limit": "1", "descending": "true"}, {"since": "now"}, {"since": "0"}]
    several += [{"since": _position(at), **more} for at in (0, 3, 9, -1) for more in ({}, {"limit": "2"})]
    several += [{"filter": "_doc_ids", "doc_ids": json.dumps([*HIDDEN, *OWN_IDS, "zq7refused"])}]
    several += [
        {"filter": "sync_gateway/bychannel", "channels": channels, **more}
        for channels in (OTHER_ROOM, "*", "!", f"ann-room,{OTHER_ROOM}", "zq7granted", "unknown")
        for more in ({}, {"style": "all_docs", "include_docs": "true"}, {"descending": "true"})
    ]
    several += [{"feed": "longpoll", "timeout": "1"}, {"feed": "longpoll", "since": "now", "timeout": "50"}]
    several += [{"feed": "continuous", "timeout": "50"}, {"feed": "continuous", "timeout": "50", "limit": "3"}]
    several += [{"feed": "eventsource", "timeout": "50"}, {"feed": "eventsource", "timeout": "50", "limit": "3"}]
    several += [{"feed": "eventsource", "timeout": "50", "include_docs": "true", "conflicts": "true"}]
    several += [{"feed": "websocket"}]
    probes = _each("/_changes", *several)
    # A loss row names a document that the attacker once had (DESIGN rule 5), so only marks are looked for.
    for at in ("0", _position(0), _position(3), _position(-1)):
        probes += _each("/_changes", {"revocations": "true", "since": at}, compared=False)
    probes.append(Probe("POST", "/_changes", {"filter": "_doc_ids"}, {"doc_ids": list(HIDDEN)}))
    probes.append(Probe("POST", "/_changes", {}, {"include_docs": True, "style": "all_docs"}))
    for selector in _selectors():
        for style in ("main_only", "all_docs"):
            asked: Parameters = {"filter": "_selector", "style": style, "include_docs": "true"}
            probes.append(Probe("POST", "/_changes", asked, {"selector": selector}))
        probes.append(Probe("POST", "/_changes", {"filter": "_selector", "limit": "3"}, {"selector": selector}))
    probes += _each("/_changes", {"filter": "_design"}, {"filter": "zq7design/zq7filter"})
    body = {"filter": "sync_gateway/bychannel", "channels": [OTHER_ROOM]}
    return [*probes, Probe("POST", "/_changes", {}, body)]


def _selectors() -> list[dict[str, Any]]:
    """Selectors that would find what is hidden: by body, id, revision, conflict, and by what it is not."""
    revs = [rev for revs in HIDDEN.values() for rev in revs]
    return [
        *({}, {"secret": "zq7body"}, {"secret": {"$exists": True}}, {"channels": [OTHER_ROOM]}, {"at": {"$gte": 0}}),
        *({"_id": {"$gt": None}}, {"_id": {"$beginsWith": "zq7"}}, {"_id": {"$in": [*HIDDEN, *OWN_IDS, "zq7own"]}}),
        *({"_id": "zq7deep"}, {"_id": {"$gte": "d-03", "$lte": "d-05"}}, {"_id": {"$regex": "zq7"}}),
        *({"_rev": {"$in": revs}}, {"_rev": {"$regex": "^1-"}}, {"_conflicts": {"$exists": True}}),
        *({"_attachments": {"$exists": True}}, {"_deleted": True}, {"$not": {"value": {"$gt": 5}}}, {"$or": []}),
        {"$nor": [{"channels": ["ann-room"]}]},
    ]


def _find() -> list[Probe]:
    # How long it took is not compared; that nothing hidden was looked at shows in the numbers beside it.
    probes = [Probe("POST", "/_find", body={"selector": selector, "limit": 100}) for selector in _selectors()]
    several: tuple[dict[str, Any], ...] = (
        *({"conflicts": True}, {"limit": 3}, {"limit": 3, "skip": 2}, {"skip": 100}, {"limit": 0}),
        *({"sort": ["_id"]}, {"sort": [{"_id": "desc"}]}, {"sort": ["value"]}, {"sort": [{"secret": "asc"}]}),
        *({"fields": ["_id", "_rev", "secret", "_conflicts"], "conflicts": True}, {"use_index": "zq7design"}),
        *({"bookmark": _bookmark({"id": after})} for after in ("d-03zq7dead", "d-04", "zq7", "k-shared")),
        {"sort": ["value"], "bookmark": _bookmark({"key": [3], "id": "zq7deep"})},
    )
    return probes + [Probe("POST", "/_find", body={"selector": {}, **more}) for more in several]


def _bookmark(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def _position(at: int) -> Callable[[World], str]:
    return lambda world: world.seq(at)


def _document() -> list[Probe]:
    flags = ("revs", "revs_info", "conflicts", "deleted_conflicts", "meta", "local_seq", "attachments", "latest")
    probes: list[Probe] = []
    for doc_id in (*OWN_IDS, *HIDDEN, "zq7refused", "zq7own"):
        path, mixed = path_of(doc_id), doc_id in MIXED
        revs = HIDDEN.get(doc_id, ["1-" + "0" * 32])
        several: list[Parameters] = [{}, {"open_revs": "all"}, {"open_revs": "all", "revs": "true", "latest": "true"}]
        several += [{flag: "true"} for flag in (*flags, "att_encoding_info")]
        several += [{"open_revs": json.dumps(revs)}, {"open_revs": json.dumps(revs), "latest": "true", "revs": "true"}]
        for rev in revs:
            several += [{"rev": rev, **more} for more in ({}, {"latest": "true"}, {"revs": "true", "meta": "true"})]
        probes += _each(path, *several, compared=not mixed)
        accepts_parts = {"Accept": "multipart/mixed"}
        for value in ("all", json.dumps(revs)):
            for more in ({}, {"atts_since": json.dumps(revs[:1]), "latest": "true"}):
                asked = {"open_revs": value, **more}
                probes.append(Probe("GET", path, asked, headers=accepts_parts, compared=not mixed))
        for kind in ("application/json", "multipart/related"):
            several = [{"attachments": "true", "meta": "true"}, {"atts_since": "[]"}]
            several += [{"attachments": "true", "rev": rev, "atts_since": json.dumps([rev])} for rev in revs]
            probes += [Probe("GET", path, one, headers={"Accept": kind}, compared=not mixed) for one in several]
        probes.append(Probe("GET", path, headers={"If-None-Match": f'"{revs[0]}"'}, compared=not mixed))
        probes += [Probe("HEAD", path, one, compared=not mixed) for one in ({}, {"rev": revs[0]})]
    return probes


def _attachment() -> list[Probe]:
    probes: list[Probe] = []
    names = ("mine.txt", "zq7att.txt", "zq7/deep/name", "_x")
    for doc_id, name in product(("a-attached", "zq7attached", "zq7own", "nobodys"), names):
        path = f"{path_of(doc_id)}/{name}"
        probes += _each(path, {}, {"rev": FIRST_REVS["zq7attached"]}, {"rev": f"2-{digest('a2')}"})
        probes.append(Probe("GET", path, headers={"Range": "bytes=0-3"}))
        probes.append(Probe("GET", path, headers={"Range": "bytes=0-1,2-3", "Accept-Encoding": "gzip"}))
        probes.append(Probe("GET", path, headers={"If-Match": FIRST_REVS["zq7attached"]}))
        probes.append(Probe("HEAD", path))
    return probes


def _bulk_get() -> list[Probe]:
    wanted: list[dict[str, Any]] = [{"id": doc_id} for doc_id in (*OWN_IDS, *HIDDEN) if doc_id not in MIXED]
    wanted += [{"id": doc_id, "rev": rev} for doc_id, revs in HIDDEN.items() for rev in revs if doc_id not in MIXED]
    mixed: list[dict[str, Any]] = [{"id": doc_id} for doc_id in MIXED]
    mixed += [{"id": doc_id, "rev": rev} for doc_id in MIXED for rev in HIDDEN[doc_id]]
    flags = ("revs", "attachments", "latest")
    several = [
        {name: "true" for name, on in zip(flags, chosen, strict=True) if on} for chosen in product((0, 1), repeat=3)
    ]
    probes = [Probe("POST", "/_bulk_get", one, {"docs": wanted}) for one in several]
    probes += [Probe("POST", "/_bulk_get", one, {"docs": mixed}, compared=False) for one in several]
    accepts = {"Accept": "multipart/mixed"}
    probes.append(Probe("POST", "/_bulk_get", {"revs": "true"}, {"docs": wanted}, accepts))
    since = [{**one, "atts_since": ["1-" + "0" * 32]} for one in wanted]
    probes += [Probe("POST", "/_bulk_get", {}, {"docs": since}, headers) for headers in ({}, accepts)]
    return [*probes, Probe("POST", "/_bulk_get", {"latest": "true"}, {"docs": mixed}, accepts, compared=False)]


def _revs_diff(path: str) -> list[Probe]:
    # Revisions above the hidden ones show which hidden leaves would be possible ancestors.
    above = {doc_id: [*revs, "9-" + "a" * 32] for doc_id, revs in HIDDEN.items() if doc_id not in MIXED}
    own = {doc_id: ["1-" + "b" * 32, "9-" + "b" * 32] for doc_id in OWN_IDS}
    mixed = {doc_id: [*HIDDEN[doc_id], "9-" + "a" * 32] for doc_id in MIXED}
    probes = [Probe("POST", path, body=body) for body in (above, own, {})]
    return [*probes, Probe("POST", path, body=mixed, compared=False)]


def _local() -> list[Probe]:
    return [Probe(method, "/_local/" + name) for method in ("GET", "HEAD") for name in ("zq7checkpoint", "unknown")]


READS: Final[dict[str, Callable[[], list[Probe]]]] = {
    "/": lambda: [Probe("GET", "/", server=True)],
    "/_up": lambda: [Probe("GET", "/_up", server=True)],
    "/_session": lambda: [Probe("GET", "/_session", server=True)],
    "/_all_dbs": lambda: [Probe("GET", "/_all_dbs", server=True)],
    "/_dbs_info": lambda: [
        Probe("GET", "/_dbs_info", server=True),
        Probe("POST", "/_dbs_info", body={"keys": ["full", "twin"]}, server=True),
    ],
    "/_uuids": lambda: [Probe("GET", "/_uuids", {"count": "3"}, server=True, compared=False)],
    "/_users": lambda: [Probe("GET", "/_users", server=True)],
    "/_users/_all_docs": lambda: [
        Probe("GET", "/_users/_all_docs", {"include_docs": "true"}, server=True),
        Probe("POST", "/_users/_all_docs", body={"keys": [f"org.couchdb.user:{VICTIM}"]}, server=True),
    ],
    "/_users/_ensure_full_commit": lambda: [Probe("POST", "/_users/_ensure_full_commit", body={}, server=True)],
    "/_users/_security": lambda: [Probe("GET", "/_users/_security", server=True)],
    "/_users/{doc}": lambda: [Probe("GET", f"/_users/org.couchdb.user:{VICTIM}", server=True)],
    "/_api": lambda: [Probe("GET", "/_api", server=True), Probe("HEAD", "/_api", server=True)],
    "/favicon.ico": lambda: [Probe("GET", "/favicon.ico", server=True)],
    "/{db}": lambda: [Probe("GET"), Probe("HEAD"), Probe("GET", "/")],
    "/{db}/_session": lambda: _each("/_session", {}),
    "/{db}/_changes": _changes,
    "/{db}/_all_docs": _all_docs,
    "/{db}/_bulk_get": _bulk_get,
    "/{db}/_revs_diff": lambda: _revs_diff("/_revs_diff"),
    "/{db}/_missing_revs": lambda: _revs_diff("/_missing_revs"),
    "/{db}/_ensure_full_commit": lambda: [Probe("POST", "/_ensure_full_commit", body={})],
    "/{db}/_find": _find,
    "/{db}/_temp_view": lambda: [
        Probe(method, "/_temp_view", body={"map": "function (doc) { emit(doc._id); }"})
        for method in ("GET", "PUT", "POST", "DELETE")
    ],
    "/{db}/_security": lambda: _each("/_security", {}),
    "/{db}/_revs_limit": lambda: _each("/_revs_limit", {}),
    "/{db}/_all_docs/queries": lambda: _queries("/_all_docs/queries"),
    "/{db}/_design_docs": lambda: [
        *_each("/_design_docs", {}, {"include_docs": "true"}, {"keys": '["_design/zq7design", "zq7deep"]'}),
        Probe("POST", "/_design_docs", body={"keys": ["_design/zq7design", "zq7deep"]}),
    ],
    "/{db}/_design_docs/queries": lambda: _queries("/_design_docs/queries"),
    "/{db}/_local_docs": lambda: [
        *_each("/_local_docs", {}, {"include_docs": "true"}, {"startkey": '"_local/a"', "descending": "true"}),
        *_each("/_local_docs", {"keys": '["_local/zq7checkpoint", "zq7deep"]', "include_docs": "true"}),
        Probe("POST", "/_local_docs", body={"keys": ["_local/zq7checkpoint", "zq7deep"]}),
    ],
    "/{db}/_local_docs/queries": lambda: _queries("/_local_docs/queries"),
    "/{db}/_local/{id}": _local,
    "/{db}/_local": lambda: _each("/_local", {}),
    "/{db}/_local/{id}/{attachment...}": lambda: _each("/_local/zq7checkpoint/zq7att.txt", {}),
    "/{db}/_design/sync_gateway": lambda: _each("/_design/sync_gateway", {}, {"rev": "1-x"}),
    "/{db}/{doc}": _document,
    "/{db}/{doc}/{attachment...}": _attachment,
}


def _is_administrators(route: Route) -> bool:
    return route.policy in ("admin", "server", "own") or "public" not in route.listeners


def _concrete(route: Route) -> str:
    """The path with names of the other user in it."""
    values = {"{doc}": "zq7deep", "{id}": "zq7checkpoint", "{name}": VICTIM, "{design}": "zq7design"}
    values["{channel}"] = OTHER_ROOM
    path = route.path.removeprefix("/{db}") if route.path.startswith("/{db}") else route.path
    for variable, value in values.items():
        path = path.replace(variable, value)
    return path.replace("{rest...}", "_view/zq7view").replace("{attachment...}", "zq7att.txt")


async def test_every_endpoint_of_the_route_table_is_tried_here() -> None:
    described = {(method, path) for path, probes in READS.items() for method in {one.method for one in probes()}}
    for route in ROUTES:
        for method in route.methods:
            known = (method, route.path) in described | WRITES.keys() or _is_administrators(route)
            assert known, f"nothing is known of {method} {route.path}: say how it could tell of hidden documents"


@pytest.mark.parametrize("path", READS)
async def test_an_answer_tells_nothing_of_hidden_documents(path: str, worlds: Worlds) -> None:
    probes = READS[path]()
    for who in CALLERS if path in ("/{db}", "/{db}/_changes", "/{db}/_all_docs") else (ATTACKER, None):
        full, twin = await asyncio.gather(ask_all(worlds.full, probes, who), ask_all(worlds.twin, probes, who))
        for probe, one, other in zip(probes, full, twin, strict=True):
            assert one.status < 500 or one.status == 501, f"{who}: {probe}: {one.text}"
            assert not traces(one), f"{who}: {probe} tells {traces(one)}"
            if probe.compared:
                there, absent = comparable(worlds.full, one), comparable(worlds.twin, other)
                assert there == absent, f"{who}: {probe} answers otherwise where there are hidden documents"


@pytest.mark.parametrize("path", READS)
async def test_without_hide_existence_nothing_but_the_existence_of_a_named_id_is_told(
    path: str, worlds: Worlds
) -> None:
    probes = READS[path]()
    for probe, answer in zip(probes, await ask_all(worlds.told, probes), strict=True):
        assert not traces(answer), f"{probe} tells {traces(answer)}"


@pytest.mark.parametrize("path", READS)
async def test_a_disabled_user_is_told_nothing_at_all(path: str, worlds: Worlds) -> None:
    if not path.startswith("/{db}"):
        return
    for answer in await ask_all(worlds.full, READS[path]()[:40], "gone"):
        assert answer.status == 401
        assert answer.body == b"" or answer.json()["error"] == "unauthorized"


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if _is_administrators(route)], ids=lambda route: route.path
)
async def test_an_administrators_endpoint_is_closed_to_users(route: Route, worlds: Worlds) -> None:
    methods = {*route.methods, "COPY", "MOVE", "PATCH"} | ({"HEAD"} if "GET" in route.methods else set())
    for who, method in product((ATTACKER, None), sorted(methods)):
        body: Any = {} if method in ("POST", "PUT") else None
        probe = Probe(method, _concrete(route), body=body, server=not route.path.startswith("/{db}"))
        answer = await ask(worlds.full, probe, who)
        assert answer.status in (400, 401, 403, 404, 405), f"{probe}: {answer.status}"
        assert not traces(answer), f"{probe} tells {traces(answer)}"


async def test_explain_answers_nobody_at_the_public_port(worlds: Worlds) -> None:
    several: list[Parameters] = [{"user": VICTIM, "doc": "zq7deep"}, {"doc": "zq7deep"}, {"user": VICTIM}]
    several += [{"user": ATTACKER, "doc": "zq7deep"}, {"user": ATTACKER}, {"user": "GUEST", "doc": "p-public"}, {}]
    probes = _each("/_access", *several) + _each("/_channels", {}, {"prefix": "zq7"})
    probes += _each(f"/_channels/{OTHER_ROOM}", {}) + _each("/_channels/ann-room", {}) + _each("/_channels/*", {})
    for who in CALLERS:
        full, twin = await asyncio.gather(ask_all(worlds.full, probes, who), ask_all(worlds.twin, probes, who))
        for probe, one, other in zip(probes, full, twin, strict=True):
            assert one.status == 404, f"{who}: {probe}: {one.status}"
            assert comparable(worlds.full, one) == comparable(worlds.twin, other)
            assert not traces(one)
    async with client(worlds.full.admin) as admin:
        answer = (await admin.get("/full/_access", params={"user": VICTIM, "doc": "zq7deep"})).json()
        assert answer["can_read"], "there is something to tell"


async def test_the_list_of_documents_is_the_attackers_own_and_nothing_more(worlds: Worlds) -> None:
    """What the comparison rests on: she does see hers, and the other user's are really there."""
    answer = (await ask(worlds.full, Probe("GET", "/_all_docs"))).json()
    own = {*(f"d-{at:02}" for at in range(12)), "a-attached", "k-shared", "m-conflict", "n-came", "p-public"}
    assert {row["id"] for row in answer["rows"]} == own
    assert answer["total_rows"] == len(own)
    async with client(worlds.full.admin) as admin:
        everything = (await admin.get("/full/_all_docs")).json()
        assert everything["total_rows"] > len(own) + 12
        assert (await admin.get(path_of("full") + path_of("zq7deep"))).json()["secret"] == "zq7body"


async def test_a_position_anywhere_gives_the_rows_after_it_and_no_hint_of_the_gaps(worlds: Worlds) -> None:
    rows = [(int(row["seq"].partition("-")[0]), row["id"]) for row in worlds.full.rows]
    probes = [Probe("GET", "/_changes", {"since": str(since)}) for since in range(worlds.full.last_seq + 1)]
    for since, answer in enumerate(await ask_all(worlds.full, probes)):
        assert [row["id"] for row in answer.json()["results"]] == [doc_id for seq, doc_id in rows if seq > since]
        assert answer.json()["pending"] == 0
    for limit in (1, 4, 7):
        answer = await ask(worlds.full, Probe("GET", "/_changes", {"limit": str(limit)}))
        assert answer.json()["pending"] == len(rows) - limit


async def test_a_waiting_feed_does_not_end_and_says_nothing_when_somebody_else_writes(worlds: Worlds) -> None:
    world = worlds.changed
    parameters: Parameters = {"feed": "longpoll", "since": "now", "include_docs": "true", "timeout": "60000"}
    waiting = asyncio.create_task(ask(world, Probe("GET", "/_changes", parameters)))
    async with client(world.public, VICTIM) as vera, client(world.admin) as admin:
        await _until(admin, "/changed/_status", "feeds_waiting", 1)
        for at in range(3):
            doc = {"channels": [OTHER_ROOM], "secret": "zq7body"}
            assert (await vera.put(f"/changed/zq7while{at}", json=doc)).status_code == 201
        assert not waiting.done()
        await admin.put("/changed/w-own", json={"channels": ["ann-room"]})
    answer = await waiting
    assert [row["id"] for row in answer.json()["results"]] == ["w-own"]
    assert not traces(answer)


async def _until(admin: httpx.AsyncClient, path: str, member: str, value: Any) -> None:
    async with asyncio.timeout(20):
        while (await admin.get(path)).json()[member] != value:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


# Writes


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_a_write_tells_nothing_of_hidden_documents_and_changes_none(
    method: str, path: str, worlds: Worlds
) -> None:
    before = await _hidden_state(worlds.changed)
    for who in (ATTACKER, "idle", None):
        for probe in WRITES[method, path]():
            answer = await ask(worlds.changed, probe, who)
            assert answer.status < 500, f"{who}: {probe}: {answer.text}"
            assert not traces(answer), f"{who}: {probe} tells {traces(answer)}"
    assert await _hidden_state(worlds.changed) == before


async def _hidden_state(world: World) -> dict[str, Any]:
    """All leaves of the other user's documents with their bodies, her checkpoint and the design document."""
    state: dict[str, Any] = {}
    async with client(world.admin) as admin, client(world.public, VICTIM) as vera:
        docs = [{"id": doc_id, "rev": rev} for doc_id, revs in HIDDEN.items() for rev in revs]
        found = (await admin.post(f"/{world.name}/_bulk_get?attachments=true&revs=true", json={"docs": docs})).json()
        state["documents"] = found["results"]
        leaves = await admin.get(f"/{world.name}/_changes?style=all_docs")
        state["leaves"] = {row["id"]: row["changes"] for row in leaves.json()["results"] if "zq7" in row["id"]}
        for path in ("_design/zq7design", "_local/zq7checkpoint"):
            state[path] = (await (vera if "local" in path else admin).get(f"/{world.name}/{path}")).json()
    return state


@pytest.mark.parametrize("method", ["COPY", "MOVE", "PATCH", "PROPFIND", "LOCK"])
async def test_a_method_that_users_have_not_is_refused(method: str, worlds: Worlds) -> None:
    paths = ["/zq7attached/zq7att.txt", "/_all_docs", ""]
    for path in paths if method == "COPY" else [*paths, "/zq7deep", "/_local/zq7checkpoint"]:
        answer = await ask(worlds.changed, Probe(method, path, headers={"Destination": "mine"}))
        assert answer.status == 405, f"{method} {path}"
        assert not traces(answer)


async def test_nothing_hidden_is_copied_even_where_every_write_is_accepted(worlds: Worlds) -> None:
    world = worlds.lax
    for doc_id, revs in HIDDEN.items():
        for query in ({}, *({"rev": rev} for rev in revs)):
            destination = f"copied-{digest(doc_id)}"
            answer = await ask(world, Probe("COPY", path_of(doc_id), query, headers={"Destination": destination}))
            if answer.status == 201:
                assert doc_id in (*MIXED, "k-shared"), f"{doc_id} {query} was copied"  # her own branch of it
                await ask(world, Probe("DELETE", f"/{destination}", {"rev": answer.json()["rev"]}))
            else:
                assert answer.status in (403, 404), f"{doc_id} {query}: {answer.text}"
            assert not traces(answer)
            assert (await ask(world, Probe("GET", f"/{destination}"))).status == 404


@pytest.mark.parametrize("stub", stubs(), ids=str)
async def test_nobody_takes_an_attachment_by_naming_it_even_where_every_write_is_accepted(
    stub: dict[str, Any], worlds: Worlds
) -> None:
    world, rev = worlds.lax, FIRST_REVS["zq7attached"]
    child: dict[str, Any] = {"start": 2, "ids": [digest(f"child {stub}"), rev.partition("-")[2]]}
    doc: dict[str, Any] = {"channels": ["ann-room"], "_attachments": {"zq7att.txt": stub}}
    ways = [
        Probe("PUT", "/zq7attached", {"rev": rev}, doc),
        Probe(
            "PUT", "/zq7attached", {"new_edits": "false"}, {**doc, "_rev": f"2-{child['ids'][0]}", "_revisions": child}
        ),
        Probe("PUT", "/zq7attached", {"new_edits": "false"}, {**doc, "_rev": f"5-{digest(f'root {stub}')}"}),
        Probe("POST", "/_bulk_docs", body={"docs": [{**doc, "_id": "zq7attached", "_rev": rev}]}),
        Probe("PUT", f"/mine-{digest(str(stub))}", {}, doc),
    ]
    for way in ways:
        answer = await ask(world, way)
        told = answer.json()
        results = told if isinstance(told, list) else [told]
        assert {result["error"] for result in results} <= {"missing_stub", "doc_validation", "bad_request"}, str(way)
        assert not traces(answer)
    for path in ("/zq7attached", "/zq7attached/zq7att.txt"):
        assert (await ask(world, Probe("GET", path))).status == 404


# Names of databases


@pytest.mark.parametrize("login", [f"{ATTACKER}:wrong", "unknown", "gone", None])
async def test_an_unknown_database_answers_like_a_wrong_password(login: str | None, worlds: Worlds) -> None:
    paths = ["", "/_all_docs", "/_changes", "/zq7deep", "/_design/x", "/_unknown", "/_user/zq7vera", "/_local/x"]
    others = product(("PUT", "POST", "DELETE", "HEAD", "COPY"), ("", "/zq7deep"))
    for method, path in [*(("GET", path) for path in paths), *others]:
        answers = []
        for name in ("closed", "none"):
            answer = await ask(World(name, worlds.full.public, "", worlds.full.client), Probe(method, path), login)
            headers = {name: value for name, value in answer.headers.items() if name != "date"}
            answers.append((answer.status, headers, answer.body))
        assert answers[0] == answers[1], f"{method} {path}"


# Sessions


async def test_by_a_session_one_is_told_what_one_is_told_by_a_password(worlds: Worlds) -> None:
    async with client(worlds.full.public) as http:
        answer = await http.post("/_session", json={"name": ATTACKER, "password": ATTACKER})
        assert answer.json() == {"ok": True, "name": ATTACKER, "roles": []}
        cookie = {"Cookie": f"AuthSession={http.cookies['AuthSession']}"}
    paths = ("/{db}", "/{db}/_all_docs", "/{db}/_bulk_get", "/{db}/{doc}")
    probes = [probe for path in paths for probe in READS[path]()][::5]
    by_cookie = [replace(probe, headers={**probe.headers, **cookie}) for probe in probes]
    answers = zip(probes, await ask_all(worlds.full, probes), await ask_all(worlds.full, by_cookie, None), strict=True)
    for probe, one, other in answers:
        assert comparable(worlds.full, one) == comparable(worlds.full, other), str(probe)
        assert not traces(other)


async def test_a_login_tells_nothing_of_who_there_is_and_where(worlds: Worlds) -> None:
    logins = [{"name": name, "password": "wrong"} for name in (VICTIM, ATTACKER, "gone", "nobody", "GUEST")]
    logins += [{"name": "gone", "password": "gone"}]  # disabled
    async with client(worlds.full.public) as http:
        for path in ("/_session", "/full/_session", "/twin/_session", "/closed/_session", "/none/_session"):
            answers = [await http.post(path, json=login) for login in logins]
            said = {
                (answer.status_code, answer.content, *(pair for pair in answer.headers.items() if pair[0] != "date"))
                for answer in answers
            }
            assert len(said) == 1
            assert answers[0].status_code == 401


async def test_a_session_of_one_user_says_nothing_of_the_other_databases(worlds: Worlds) -> None:
    """The other user is in `full` and not in `twin`: to both her cookie is the guest's where she is nobody."""
    async with client(worlds.full.public) as http:
        answer = await http.post("/full/_session", json={"name": VICTIM, "password": VICTIM})
        assert answer.status_code == 200
        for name in ("twin", "changed"):  # she is in `changed`, but not by this session
            answer = await http.get(f"/{name}/_session")
            assert answer.json()["userCtx"]["name"] is None
        for name in ("closed", "none"):
            answer = await http.get(f"/{name}/_all_docs")
            assert (answer.status_code, answer.json()["code"]) == (401, "CG2000")
