"""One database of a gateway in the words of a timeline: its sequences begin at 1, and rows are rows of the model.

What the wire says more than the model (`removed` or `revoked`, the epoch, included documents, `last_seq` in each kind
of feed) is checked here.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Collection, Sequence
from typing import Any, Literal

from gateway.feeds.page import Page, Row
from gateway.model.names import GUEST
from gateway.model.positions import ENDLESS, START, Position, parse_since
from tests.model.oracle import Said
from tests.scenarios.running import KINDS, RunningFeed, in_the_query, open_feed
from tests.scenarios.served import PATIENCE_SECONDS, Served

MANY = 10_000
Json = dict[str, Any]
Branch = tuple[Sequence[str], Said, bool]  # a revision's path, the newest first; its routing; whether it is a tombstone


def body_of(said: Said) -> Json:
    """A document that the sync function routes like this."""
    body: Json = {"channels": sorted(said.channels)}
    for member, pairs, prefix in (("grants", said.grants, ""), ("roles", said.roles, "role:")):
        if pairs:
            body[member] = {whom: sorted(prefix + what for one, what in pairs if one == whom) for whom, _ in pairs}
    return body


class Remote:
    """`database` is fresh: nobody but the timeline writes to it."""

    def __init__(self, served: Served, database: str) -> None:
        self._served = served
        self.database = database
        self._offset = 0  # sequences that were given out before the timeline began
        self._epoch = ""
        self._logins: dict[str, dict[str, str]] = {}
        self._file: dict[str, dict[str, Json]] = {"user": {}, "role": {}}
        self._turn = itertools.count()

    async def begin(self) -> None:
        """Learn where the database stands."""
        answer = await self._admin("GET", "/_changes", params={"since": "now", "active_only": "true"})
        since = parse_since(answer["last_seq"])
        assert since is not None
        assert since.epoch
        self._offset, self._epoch = since.position.major, since.epoch

    async def _admin(self, method: str, path: str, **more: Any) -> Any:
        return await self._served.ask(method, f"{self._served.gateway.admin}/{self.database}{path}", **more)

    async def _as(self, user: str, method: str, path: str, **more: Any) -> Any:
        url = f"{self._served.gateway.public}/{self.database}{path}"
        return await self._served.ask(method, url, headers=self._logins[user], **more)

    # Sequences and positions.

    async def last_seq(self) -> int:
        answer = await self._admin("GET", "/_changes", params={"since": "now", "active_only": "true"})
        return self._position(answer["last_seq"]).major

    async def reach(self, seq: int, *, at_once: bool) -> None:
        """The database is at exactly this sequence: `at_once`, or when the router has seen what others wrote."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (last := await self.last_seq()) < seq and not at_once:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert last == seq, "the gateway gave out other sequences than the model"

    def wire(self, position: Position) -> str:
        """As a client would send it back."""
        if position == START:
            return "0"
        minor = position.minor if position.minor == ENDLESS else position.minor + self._offset
        return Position(position.major + self._offset, minor).encode(self._epoch)

    def _position(self, wire: str) -> Position:
        since = parse_since(wire)
        assert since is not None
        assert since.epoch == self._epoch
        major, minor = since.position
        return Position(major - self._offset, minor if minor == ENDLESS else minor - self._offset)

    # Writes.

    async def write(
        self, doc: str, parent: str | None, said: Said, *, deleted: bool, direct: bool, by: str | None
    ) -> str:
        """An ordinary edit; the new revision."""
        body = body_of(said) | ({"_rev": parent} if parent else {}) | ({"_deleted": True} if deleted else {})
        if direct:
            answer = await self._served.past_the_gateway("PUT", f"{self.database}/{doc}", body=body)
        elif by is not None:
            answer = await self._as(by, "PUT", f"/{doc}", body=body)
        else:
            answer = await self._admin("PUT", f"/{doc}", body=body)
        return str(answer["rev"])

    async def replicate(self, doc: str, branches: Sequence[Branch], *, direct: bool) -> None:
        """Store given revisions at once."""
        docs = []
        for path, said, deleted in branches:
            start = int(path[0].partition("-")[0])
            revisions = {"start": start, "ids": [rev.partition("-")[2] for rev in path]}
            tombstone = {"_deleted": True} if deleted else {}
            docs.append({"_id": doc, "_rev": path[0], "_revisions": revisions, **body_of(said), **tombstone})
        body = {"docs": docs, "new_edits": False}
        if direct:
            path_ = f"{self.database}/_bulk_docs"
            answer = await self._served.past_the_gateway("POST", path_, body=body)
        else:
            answer = await self._admin("POST", "/_bulk_docs", body=body)
        assert answer == []

    async def purge(self, doc: str, leaves: Sequence[str], *, direct: bool) -> None:
        ask = self._served.past_the_gateway if direct else self._at_the_admin_port
        answer = await ask("POST", f"{self.database}/_purge", body={doc: list(leaves)})
        assert sorted(answer["purged"][doc]) == sorted(leaves)

    # Writes among those of others: whatever another was faster with is left.

    async def overwrite(self, doc: str, body: Json, *, direct: bool) -> None:
        """Put a body over the winner, if nobody else does in between."""
        try_ = self._served.past_the_gateway if direct else self._at_the_admin_port
        found = await try_("GET", f"{self.database}/{doc}", status=(200, 404))
        rev = {"_rev": found["_rev"]} if "_rev" in found else {}
        await try_("PUT", f"{self.database}/{doc}", body={**body, **rev}, status=(200, 201, 409))

    async def purge_all(self, doc: str) -> None:
        """Purge every leaf that is there at this moment."""
        found = await self._admin("GET", f"/{doc}", params={"open_revs": "all"}, status=(200, 404))
        if leaves := [one["ok"]["_rev"] for one in found if "ok" in one]:
            await self._admin("POST", "/_purge", body={doc: leaves})

    async def drop_if_there(self, kind: str, name: str) -> bool:
        """Whether there was one to drop."""
        answer = await self._admin("DELETE", f"/_{kind}/{name}", status=(200, 404))
        return "error" not in answer

    async def wait_until_quiet(self) -> None:
        """Until all that was written past the gateway is routed."""
        doc = {"_id": "the-last", "channels": []}
        answer = await self._served.past_the_gateway("PUT", f"{self.database}/the-last", body=doc)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                explained = await self._admin("GET", "/_access", params={"doc": "the-last", "user": "u"})
                if (explained.get("document") or {}).get("winner") == answer["rev"]:
                    return
                await asyncio.sleep(0.002)

    async def _at_the_admin_port(self, method: str, path: str, **more: Any) -> Any:
        return await self._served.ask(method, f"{self._served.gateway.admin}/{path}", **more)

    # Principals.

    async def put(self, kind: str, name: str, channels: Collection[str], roles: Collection[str], *, file: bool) -> None:
        """Make or change a user or role."""
        body: Json = {"admin_channels": sorted(channels)} | ({"admin_roles": sorted(roles)} if kind == "user" else {})
        if name == GUEST:
            await self._admin("PUT", f"/_{kind}/{name}", body={**body, "disabled": False})
            self._logins[name] = {}
            return
        new = kind == "user" and name not in self._logins
        if file:
            self._file[kind][name] = body | ({"password": f"{name}-pw"} if kind == "user" else {})
            await self._reload()
        else:
            await self._admin("PUT", f"/_{kind}/{name}", body=body | ({"password": f"{name}-pw"} if new else {}))
        if new:
            session = await self._admin("POST", "/_session", body={"name": name})
            self._logins[name] = {"Cookie": f"{session['cookie_name']}={session['session_id']}"}

    async def drop(self, kind: str, name: str, *, file: bool) -> None:
        if file:
            del self._file[kind][name]
            await self._reload()
        else:
            await self._admin("DELETE", f"/_{kind}/{name}")
        if kind == "user":
            url = f"{self._served.gateway.public}/{self.database}/_changes"
            await self._served.ask("GET", url, status=401, headers=self._logins.pop(name))

    async def _reload(self) -> None:
        await self._served.reload(self.database, self._file["user"], self._file["role"])

    # Reads.

    async def page(
        self,
        user: str,
        since: Position,
        limit: int,
        *,
        revocations: bool,
        channels: Collection[str] | None,
        doc_ids: Collection[str] | None,
    ) -> tuple[Page, list[Json]]:
        """One page, asked for by GET, by POST and, in turn, by each kind of feed that waits; with the documents."""
        asked = self._asked(since, limit, revocations, channels, doc_ids)
        answer, page = await self._page(user, asked)
        posted = await self._as(user, "POST", "/_changes", body={**asked, "include_docs": True})
        docs = [row.pop("doc") for row in posted["results"] if "doc" in row]
        assert posted == answer
        kind = KINDS[next(self._turn) % len(KINDS)]
        if page.rows:
            asked["limit"] = len(page.rows)
            feed = await self._open(user, kind, asked)
            assert self.rows(await feed.take(len(page.rows))) == page.rows
            last = await feed.end()
            assert last is None or self._position(last) == page.last
        return page, docs

    async def page_once(self, user: str, since: Position, limit: int) -> Page:
        """One page with revocations, by one request."""
        return (await self._page(user, self._asked(since, limit, True)))[1]

    async def _page(self, user: str, asked: Json) -> tuple[Json, Page]:
        answer = await self._as(user, "GET", "/_changes", params=in_the_query(asked))
        page = Page(self.rows(answer["results"]), self._position(answer["last_seq"]), answer["pending"])
        return answer, page

    def _asked(
        self,
        since: Position,
        limit: int,
        revocations: bool,
        channels: Collection[str] | None = None,
        doc_ids: Collection[str] | None = None,
    ) -> Json:
        asked: Json = {"since": self.wire(since), "style": "all_docs"}
        if limit != MANY:
            asked["limit"] = limit
        if revocations:
            asked["revocations"] = True
        if channels is not None:
            asked |= {"filter": "sync_gateway/bychannel", "channels": ",".join(sorted(channels))}
        if doc_ids is not None:
            asked |= {"filter": "_doc_ids", "doc_ids": sorted(doc_ids)}
        return asked

    async def follow(
        self,
        user: str,
        kind: str,
        since: Position,
        *,
        revocations: bool,
        channels: Collection[str] | None,
        include_docs: bool = False,
    ) -> RunningFeed:
        """A feed of this kind that goes on until it is closed."""
        asked = self._asked(since, MANY, revocations, channels)
        return await self._open(user, kind, asked | ({"include_docs": True} if include_docs else {}))

    async def _open(self, user: str, kind: str, asked: Json) -> RunningFeed:
        url = f"{self._served.gateway.public}/{self.database}/_changes"
        return await open_feed(self._served.http, kind, url, self._logins[user], asked)

    def rows(self, results: Sequence[Json]) -> list[Row]:
        return [self._row(dict(one)) for one in results]

    def _row(self, found: Json) -> Row:
        position = self._position(found.pop("seq"))
        revs = tuple(change["rev"] for change in found.pop("changes"))
        kind: Literal["live", "deleted", "loss"] = "live"
        if found.pop("deleted", False):
            kind = "deleted"
        elif found.pop("removed" if position.minor == ENDLESS else "revoked", False):
            kind = "loss"
        row = Row(position, found.pop("id"), revs, kind, found.pop("reset", False))
        assert found == {}, "a row has members that nobody expects"
        return row

    async def fetch(self, user: str, doc: str, revs: Sequence[str]) -> list[Json | None]:
        """The revisions with their bodies and histories, None for what is missing, in both ways to ask for them."""
        found = await self.fetch_once(user, doc, revs)
        body = {"docs": [{"id": doc, "rev": rev} for rev in revs]}
        bulk = await self._as(user, "POST", "/_bulk_get", body=body, params={"revs": "true"})
        assert [one["docs"][0].get("ok") for one in bulk["results"]] == found
        return found

    async def fetch_once(self, user: str, doc: str, revs: Sequence[str]) -> list[Json | None]:
        """As CouchDB's replicator asks for them."""
        params = {"open_revs": json.dumps(revs), "revs": "true"}
        answer = await self._as(user, "GET", f"/{doc}", params=params)
        assert all(one.keys() in ({"ok"}, {"missing"}) for one in answer)
        found = {one["ok"]["_rev"]: one["ok"] for one in answer if "ok" in one}
        assert found.keys() | {one["missing"] for one in answer if "missing" in one} == set(revs)
        return [found.get(rev) for rev in revs]

    async def contents(self, user: str) -> dict[str, str]:
        """document -> winner of everything that the user can list, which is what he can get."""
        rows = (await self._as(user, "GET", "/_all_docs", params={"include_docs": "true"}))["rows"]
        assert all(row["doc"]["_rev"] == row["value"]["rev"] for row in rows)
        return {row["id"]: row["value"]["rev"] for row in rows}

    async def is_gone(self, user: str) -> bool:
        """Whether there is no such user."""
        if user in self._logins:
            return False
        await self._admin("GET", f"/_user/{user}", status=404)
        return True
