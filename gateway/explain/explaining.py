"""Why can she see this? Explanations and lists of access for administrators, each answer of one snapshot.

An answer costs what is asked for, a page: never a walk over all documents or users. What cannot be found in order is
looked for within a limit; then an answer may have fewer rows than asked for, and says where to go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from gateway import limits
from gateway.errors import NotFound
from gateway.explain import shown
from gateway.explain.ways import Sources, Ways
from gateway.feeds.viewer import Viewer, viewer
from gateway.feeds.viewers import Viewers
from gateway.model.explain import Facts, find_out
from gateway.model.intervals import ChannelId
from gateway.model.leaves import Reason, reasons
from gateway.model.sentences import sentence
from gateway.store.protocol import Account, DatabaseStore, Index

_NOBODY = Viewer({}, {}, {}, {}, 0)
_OF_ROLE = "role:"


class Explaining:
    """Explanations of one database."""

    def __init__(self, store: DatabaseStore, viewers: Viewers) -> None:
        self._store = store
        self._viewers = viewers

    async def explain(self, user: str, doc: str, rev: str | None = None) -> dict[str, Any]:
        """Why the user can or cannot read the document's winner, or `rev`. What does not exist is an answer too."""
        return await self._store.read(partial(self._explain, user=user, doc=doc, rev=rev))

    def _explain(self, index: Index, user: str, doc: str, rev: str | None) -> dict[str, Any]:
        account = index.accounts("user", [user]).get(user, Account(user, (), False, None))
        who = self._viewers.of(index, user) if account.exists else _NOBODY
        row = index.find([doc]).get(doc)
        leaves = index.leaves([row.document], superseded=True).get(row.document, []) if row is not None else []
        wanted = rev if rev is not None or row is None else row.winner
        leaf = next((leaf for leaf in leaves if leaf.rev == wanted), None)
        is_winner = row is not None and leaf is not None and leaf.rev == row.winner
        spans = index.spans([row.document]).get(row.document, []) if row is not None and is_winner else []
        left_out = index.not_imported(doc)
        channels = [*sorted(leaf.routing.channels), index.star] if leaf is not None else []
        ways = Ways(index, [user], channels)
        facts = Facts(
            user=user,
            life=account.life,
            disabled=account.disabled,
            held=who.all_held,
            opened=who.all_opened,
            star=index.star,
            doc=doc,
            known=row is not None,
            rev=rev,
            leaf=leaf,
            spans=spans,
            missing=ways.missing(user),
            left_out=next(((one.rev, one.reason) for one in left_out if leaf is None and rev in (None, one.rev)), None),
        )
        finding = find_out(facts)
        names = index.channel_names({*channels, *who.all_held, *(where for where, _, _ in spans)})
        form = shown.Form(names, ways, user)
        first = finding.reasons[0] if finding.reasons else None
        ways_of_first = ways.to(user, names[first.channel]) if first is not None else ()
        answer: dict[str, Any] = {
            "user": user,
            "doc": doc,
            "can_read": finding.can_read,
            "verdict": finding.verdict,
            "sentence": sentence(facts, finding, ways_of_first, names),
        }
        if finding.otherwise is not None:
            answer["otherwise"] = finding.otherwise
        if account.life:
            answer["account"] = shown.account_json(account)
        if left_out:
            answer["not_imported"] = [shown.not_imported_json(one) for one in left_out[: limits.EXPLAIN_PATHS_COUNT]]
        if row is not None:
            answer["document"] = form.document(row, leaf, facts, leaves, who)
        if finding.reasons:
            answer["paths"] = form.paths(finding)
        elif leaf is not None and account.exists:
            answer["nearest"] = form.nearest(facts, finding)
        return answer

    async def readers(self, doc: str, start: str, limit: int) -> dict[str, Any]:
        """Users who can read the document's winner, by name. Raises NotFound."""
        return await self._store.read(partial(self._readers, doc=doc, start=start, limit=limit))

    def _readers(self, index: Index, doc: str, start: str, limit: int) -> dict[str, Any]:
        row = index.find([doc]).get(doc)
        left_out = [shown.not_imported_json(one) for one in index.not_imported(doc)[: limits.EXPLAIN_PATHS_COUNT]]
        if row is None or row.winner is None:
            if not left_out:
                raise NotFound("no such document")
            return {"doc": doc, "not_imported": left_out, "readers": [], "next": None}
        leaf = index.leaves([row.document])[row.document][0]
        channels = {*leaf.routing.channels, index.star}
        following: str | None
        if leaf.deleted:  # told also to those who have no channel of it any more: found by looking at each
            most = limits.READERS_EXAMINED_COUNT
            candidates = index.account_names("user", start, most + 1)
            following = candidates[most] if len(candidates) > most else None
            candidates = candidates[:most]
        else:
            candidates, following = index.holders("user", channels, start, limit)
        accounts = index.accounts("user", candidates)
        rows: list[tuple[str, Reason]] = []
        for name in candidates:
            if not accounts[name].exists or accounts[name].disabled:
                continue
            who = viewer(index, name)
            reason = next(reasons(leaf, who.all_held, who.all_opened, who.star), None)
            if reason is None:
                continue
            if len(rows) == limit:
                following = name
                break
            rows.append((name, reason))
        names = index.channel_names({reason.channel for _, reason in rows})
        return {
            "doc": doc,
            "rev": leaf.rev,
            "deleted": leaf.deleted,
            "channels": sorted(index.channel_names(leaf.routing.channels).values()),
            **({"not_imported": left_out} if left_out else {}),
            "readers": [
                {"user": name, "channel": names[reason.channel], "kind": reason.kind, "since": reason.since}
                for name, reason in rows
            ],
            "next": following,
        }

    async def documents(self, user: str, *, start: str, since: int, limit: int) -> dict[str, Any]:
        """Documents that the user can read, in the order of their sequences after `since`, and the user's channels
        from `start` on. Tombstones are not listed. Raises NotFound."""
        return await self._store.read(partial(self._documents, user=user, start=start, since=since, limit=limit))

    def _documents(self, index: Index, user: str, start: str, since: int, limit: int) -> dict[str, Any]:
        account = index.accounts("user", [user]).get(user)
        if account is None or not account.exists:
            raise NotFound("no such user")
        who = self._viewers.of(index, user)
        opened = {} if account.disabled else who.opened
        last_seq = index.state.last_seq
        found = index.live_rows(list(opened), since, last_seq, limit + 1)
        listed = found[:limit]
        within = index.channels_of([row.document for row in listed])
        names = index.channel_names(who.opened)
        channels = sorted((name, number) for number, name in names.items() if name >= start)
        return {
            "user": user,
            "disabled": account.disabled,
            "channels": [
                {
                    "channel": name,
                    "since": who.opened[number],
                    "documents": index.count_live([number], 0, last_seq, limits.CHANNELS_COUNTED_COUNT + 1),
                }
                for name, number in channels[:limit]
            ],
            "next": channels[limit][0] if len(channels) > limit else None,
            "documents": [
                {
                    "id": row.id,
                    "rev": row.winner,
                    "seq": row.seq,
                    "channels": sorted(names[channel] for channel in within[row.document] if channel in names),
                }
                for row in listed
            ],
            "next_since": listed[-1].seq if len(found) > limit else None,
        }

    async def channels(self, prefix: str, start: str, limit: int) -> dict[str, Any]:
        """Channels by name, with how many documents are in each and how many users have it."""
        return await self._store.read(partial(self._channels, prefix=prefix, start=start, limit=limit))

    def _channels(self, index: Index, prefix: str, start: str, limit: int) -> dict[str, Any]:
        found = index.list_channels(prefix, start, limit + 1)
        most = limits.CHANNELS_COUNTED_COUNT
        return {
            "channels": [{"channel": name, **_counts(index, number, most)} for number, name in found[:limit]],
            "next": found[limit][1] if len(found) > limit else None,
        }

    async def channel(self, name: str, start: str, limit: int) -> dict[str, Any]:
        """Who has this channel and from whom: roles first, then users. `start` is `role:NAME` or the name of a user.

        Raises NotFound for a channel that nothing ever named.
        """
        return await self._store.read(partial(self._channel, name=name, start=start, limit=limit))

    def _channel(self, index: Index, name: str, start: str, limit: int) -> dict[str, Any]:
        number = index.channel_ids([name]).get(name)
        if number is None:
            raise NotFound("no such channel")
        holders: list[dict[str, Any]] = []
        following: str | None = None
        if not start or start.startswith(_OF_ROLE):
            roles, more = index.holders("role", [number], start.removeprefix(_OF_ROLE), limit)
            holders += _role_holders(index, roles, number, name)
            following = None if more is None else _OF_ROLE + more
            start = ""
        if following is None:
            # One more than there is room for tells whether the next page begins with a user.
            users, following = index.holders("user", [number], start, max(limit - len(holders), 1))
            if len(holders) == limit:
                users, following = (), users[0] if users else following
            holders += _user_holders(index, users, number, name)
        return {
            "channel": name,
            **_counts(index, number, limits.CHANNEL_COUNTED_COUNT),
            "holders": holders,
            "next": following,
        }


def _counts(index: Index, channel: ChannelId, most: int) -> dict[str, int]:
    return {
        "documents": index.count_live([channel], 0, index.state.last_seq, most + 1),
        "users": index.count_holders(channel, most + 1),
    }


def _role_holders(index: Index, roles: Sequence[str], channel: ChannelId, name: str) -> list[dict[str, Any]]:
    accounts = index.accounts("role", roles)
    held = {one.name: one for one in index.held_channels("role", roles, [channel])}
    sources = Sources(index, held.values())
    answer = []
    for role in roles:
        since = max(held[role].since, accounts[role].life[-1][0])
        given = [shown.source_json(one) for one in sources.of(held[role], accounts[role])]
        answer.append({"role": role, "since": since, "from": given, **shown.more_json(held[role].more)})
    return answer


def _user_holders(index: Index, users: Sequence[str], channel: ChannelId, name: str) -> list[dict[str, Any]]:
    ways = Ways(index, users, [channel])
    return [
        {
            "user": user,
            "since": viewer(index, user).all_opened[channel],
            **({"disabled": True} if ways.accounts[user].disabled else {}),
            "ways": [shown.way_json(way) for way in ways.to(user, name)],
        }
        for user in users
    ]
