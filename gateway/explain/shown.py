"""Findings as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway import limits
from gateway.explain.ways import Ways
from gateway.feeds.viewer import Viewer
from gateway.model.explain import Facts, Finding, Past, Source, Way
from gateway.model.intervals import ChannelId
from gateway.model.leaves import Leaf
from gateway.model.moments import moment_text
from gateway.store.protocol import Account, DocumentRow, NotImported


class Form:
    """Findings about one user as JSON."""

    def __init__(self, names: Mapping[ChannelId, str], ways: Ways, user: str) -> None:
        self._names = names
        self._ways = ways
        self._user = user

    def document(
        self, row: DocumentRow, leaf: Leaf | None, facts: Facts, leaves: Sequence[Leaf], who: Viewer
    ) -> dict[str, Any]:
        shown: dict[str, Any] = {"seq": row.seq, "winner": row.winner, "deleted": row.deleted, "purged": row.purged}
        if leaf is not None:
            shown |= {"rev": leaf.rev, "rev_deleted": leaf.deleted, "rev_seq": leaf.seq}
            shown["channels"] = [
                {"channel": self._names[channel], "since": facts.entered(channel, leaf)}
                for channel in sorted(leaf.routing.channels, key=self._names.__getitem__)
            ]
            if leaf.routing.expiry is not None and not leaf.deleted:
                shown["expires"] = moment_text(leaf.routing.expiry)
            if leaf.superseded_at is not None:
                shown["superseded"] = True
            if leaf.routing.refused is not None:
                shown["refused"] = leaf.routing.refused
        can_read = facts.lives and not facts.disabled
        current = [one for one in leaves if one.superseded_at is None]
        if len(current) > 1:
            shown["revisions"] = [
                {"rev": one.rev, "deleted": one.deleted, "can_read": can_read and who.can_read(one)}
                for one in current[: limits.EXPLAIN_PATHS_COUNT]
            ]
        return shown

    def paths(self, finding: Finding) -> list[dict[str, Any]]:
        return [
            {
                "channel": self._names[reason.channel],
                "kind": reason.kind,
                "since": reason.since,
                "ways": [way_json(way) for way in self._ways.to(self._user, self._names[reason.channel])],
            }
            for reason in finding.reasons[: limits.EXPLAIN_PATHS_COUNT]
        ]

    def nearest(self, facts: Facts, finding: Finding) -> dict[str, Any]:
        opened = sorted((self._names[channel], since) for channel, since in facts.opened.items())
        some = limits.EXPLAIN_PATHS_COUNT
        return {
            "had": self._pasts(finding.had),
            "lost": self._pasts(finding.lost),
            "left": self._pasts(finding.left),
            "missing_roles": [way_json(way) for way in facts.missing[:some]],
            "user_channels": [{"channel": name, "since": since} for name, since in opened[:some]],
            "user_channels_count": len(opened),
        }

    def _pasts(self, pasts: Sequence[Past]) -> list[dict[str, Any]]:
        return [
            {"channel": self._names[past.channel], "since": past.since, "until": past.until}
            for past in pasts[: limits.EXPLAIN_PATHS_COUNT]
        ]


def not_imported_json(one: NotImported) -> dict[str, Any]:
    seen_at = datetime.fromtimestamp(one.seen_at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"rev": one.rev, "reason": one.reason, "seen_at": seen_at}


def account_json(account: Account) -> dict[str, Any]:
    """Of one that lives or lived."""
    start, end = account.life[-1]
    if not account.exists:
        return {"exists": False, "since": start, "until": end}
    return {"exists": True, "since": start, "disabled": account.disabled}


def way_json(way: Way) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "since": way.since,
        "from": [source_json(one) for one in way.sources],
        **more_json(way.more),
        **_end_json(way.end),
    }
    if way.role is not None:
        member: dict[str, Any] = {"member": [source_json(one) for one in way.membership]}
        shown = {"role": way.role, **member, **({"member_more": True} if way.more_membership else {}), **shown}
    return shown


def source_json(source: Source) -> dict[str, Any]:
    shown: dict[str, Any] = {"source": source.kind, "since": source.since, **_end_json(source.end)}
    if source.kind == "document":
        return shown | {"doc": source.name, "rev": source.rev}
    return shown if source.name is None else shown | {"issuer": source.name}


def _end_json(end: float | None) -> dict[str, str]:
    return {} if end is None else {"expires": moment_text(end)}


def more_json(more: bool) -> dict[str, bool]:
    return {"more": True} if more else {}
