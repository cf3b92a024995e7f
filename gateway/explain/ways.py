"""How users have channels: by which grants, through which roles, and from whom."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import cast

from gateway.model.explain import Source, SourceKind, Way
from gateway.model.intervals import ChannelId
from gateway.model.names import PUBLIC_CHANNEL
from gateway.store.protocol import Account, Held, Index

_OF_DOCUMENT = "doc:"
_OF_TOKEN = "token:"  # noqa: S105 - a source's prefix


class Sources:
    """Sources as they are stored, made into what is told: documents by their ids."""

    def __init__(self, index: Index, held: Iterable[Held]) -> None:
        texts = {text for one in held for text, _, _ in one.sources}
        self._documents = index.documents(
            [int(text.removeprefix(_OF_DOCUMENT)) for text in texts if text.startswith(_OF_DOCUMENT)]
        )

    def of(self, held: Held, account: Account) -> list[Source]:
        return [replace(self._source(text, since, account), end=end) for text, since, end in held.sources]

    def _source(self, text: str, since: int, account: Account) -> Source:
        if text.startswith(_OF_DOCUMENT):
            document = self._documents[int(text.removeprefix(_OF_DOCUMENT))]
            return Source("document", since, document.id, document.winner)
        if text.startswith(_OF_TOKEN):
            return Source("token", since, text.removeprefix(_OF_TOKEN))
        # What the config file gives to a user or role of its own is stored as given by the admin.
        kind = "config" if text == "admin" and account.origin == "config" else text
        return Source(cast("SourceKind", kind), since)


class Ways:
    """How users have channels now, and what roles that do not exist would give them."""

    def __init__(self, index: Index, users: Sequence[str], channels: Collection[ChannelId]) -> None:
        self.accounts = index.accounts("user", users)
        memberships = index.held_roles(users, channels)
        roles = sorted({one.target for one in memberships})
        role_accounts = index.accounts("role", roles)
        own = index.held_channels("user", users, channels)
        of_roles: dict[str, list[Held]] = {}
        for one in index.held_channels("role", roles, channels):
            of_roles.setdefault(one.name, []).append(one)
        sources = Sources(index, [*own, *memberships, *(one for held in of_roles.values() for one in held)])
        self._ways: dict[str, dict[str, list[Way]]] = {}
        self._missing: dict[str, list[Way]] = {}
        public = index.public in channels
        for user, account in self.accounts.items():
            if account.exists and public:
                since = account.life[-1][0]
                self._add(user, Way(PUBLIC_CHANNEL, since, [Source("public", since)]))
        for one in own:
            account = self.accounts[one.name]
            if account.exists:
                since = max(one.since, account.life[-1][0])
                self._add(one.name, Way(one.target, since, sources.of(one, account), more=one.more))
        for membership in memberships:
            account, role = self.accounts[membership.name], role_accounts[membership.target]
            if not account.exists:
                continue
            for one in of_roles[role.name]:
                starts = [one.since, membership.since, account.life[-1][0]]
                way = Way(
                    one.target,
                    max([*starts, role.life[-1][0]] if role.exists else starts),
                    sources.of(one, role),
                    role.name,
                    sources.of(membership, account),
                    one.more,
                    membership.more,
                )
                if role.exists:
                    self._add(membership.name, way)
                else:
                    self._missing.setdefault(membership.name, []).append(way)

    def _add(self, user: str, way: Way) -> None:
        self._ways.setdefault(user, {}).setdefault(way.channel, []).append(way)

    def to(self, user: str, channel: str) -> Sequence[Way]:
        """The ways of a user to a channel; own grants first."""
        return self._ways.get(user, {}).get(channel, ())

    def missing(self, user: str) -> Sequence[Way]:
        return self._missing.get(user, ())
