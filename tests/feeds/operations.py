"""Random timelines: operations as values, so that a failing timeline shrinks and prints readably."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from zlib import crc32

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.model.client import Client
from tests.model.oracle import Said
from tests.model.timeline import Timeline, said

DOCUMENTS = ("d", "e", "f", "g")
CHANNELS = ("A", "B", "C")
USERS = ("u", "v")
ROLES = ("r", "s")
CLIENTS: tuple[tuple[str, bool, str | None], ...] = (
    ("u", True, None),
    ("u", False, None),
    ("v", True, None),
    ("v", False, None),
    ("u", True, "A B"),
    ("v", True, "C !"),
    ("u", False, "A"),
)


@dataclass
class World:
    """A timeline with its clients, and what is not yet told to the index."""

    timeline: Timeline
    clients: list[Client]
    untold: list[str] = field(default_factory=list)
    told: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)  # leaf sets since the last purge

    @classmethod
    def of(cls, timeline: Timeline) -> World:
        clients = [
            timeline.client(user, revocations=revocations, channels=channels) for user, revocations, channels in CLIENTS
        ]
        return cls(timeline, clients)

    def changed(self, doc: str, quiet: bool) -> None:
        if doc not in self.untold:
            self.untold.append(doc)
        if not quiet:
            self.tell(doc)

    def tell(self, *docs: str) -> None:
        """One batch."""
        for doc in docs:
            if self.timeline.tree(doc).purged:
                self.told.pop(doc, None)
        self.timeline.apply(*docs)
        for doc in docs:
            self.untold.remove(doc)
            self.told.setdefault(doc, []).append(tuple(self.timeline.tree(doc).leaves()))


@dataclass(frozen=True)
class Write:
    """A child of one of the leaves (an undeletion over a tombstone), or the first revision."""

    doc: str
    leaf: int
    channels: str
    grants: str
    roles: str
    quiet: bool
    deleted: bool = False

    def run(self, world: World) -> None:
        leaves = world.timeline.tree(self.doc).leaves()
        onto = leaves[self.leaf % len(leaves)] if leaves else None
        world.timeline.write(
            self.doc,
            self.channels,
            grants=self.grants,
            roles=self.roles,
            onto=onto,
            deleted=self.deleted and bool(leaves),
            digest="first" if not leaves and self.leaf % 2 else None,
            quiet=True,
        )
        world.changed(self.doc, self.quiet)


@dataclass(frozen=True)
class Branch:
    """A conflict: a child of any revision, or another root; also one that arrives as a tombstone."""

    doc: str
    at: int
    channels: str
    grants: str
    deleted: bool
    quiet: bool

    def run(self, world: World) -> None:
        tree = world.timeline.tree(self.doc)
        choices: list[str | None] = [*sorted(tree.revisions), None]
        onto = choices[self.at % len(choices)]
        world.timeline.write(
            self.doc,
            self.channels,
            grants=self.grants,
            onto=onto,
            branch=True,
            deleted=self.deleted,
            quiet=True,
        )
        world.changed(self.doc, self.quiet)


@dataclass(frozen=True)
class Purge:
    """One leaf with its branch, or all; `again`: and written anew before the index hears of it."""

    doc: str
    leaf: int
    whole: bool
    again: bool
    quiet: bool

    def run(self, world: World) -> None:
        leaves = world.timeline.tree(self.doc).leaves()
        if not leaves:
            return
        purged = () if self.whole else (leaves[self.leaf % len(leaves)],)
        world.timeline.purge(self.doc, *purged, quiet=True)
        if self.again and not world.timeline.tree(self.doc).revisions:
            world.timeline.write(self.doc, "A", digest="first", quiet=True)
        world.changed(self.doc, self.quiet)


@dataclass(frozen=True)
class Tell:
    """All that is not yet told, in one batch."""

    backwards: bool

    def run(self, world: World) -> None:
        if world.untold:
            world.tell(*(reversed(world.untold) if self.backwards else world.untold))


@dataclass(frozen=True)
class Replay:
    """A row again, or an older one."""

    doc: str
    at: int

    def run(self, world: World) -> None:
        told = world.told.get(self.doc)
        if not told or self.doc in world.untold:
            return
        leaves = told[self.at % len(told)]
        if set(leaves) < set(told[-1]):
            return  # cannot be told from a partial purge by its leaves alone
        world.timeline.replay(self.doc, leaves)


@dataclass(frozen=True)
class Pass:
    """Time goes on, and what is over by then is committed or not yet. The clock may also go back."""

    seconds: int
    commits: bool

    def run(self, world: World) -> None:
        now = world.timeline.oracle.now + self.seconds
        if self.commits:
            world.timeline.expire(now)
        else:
            world.timeline.wait(now)


@dataclass(frozen=True)
class PutUser:
    name: str
    channels: str
    roles: str

    def run(self, world: World) -> None:
        world.timeline.user(self.name, self.channels, self.roles)


@dataclass(frozen=True)
class PutRole:
    name: str
    channels: str

    def run(self, world: World) -> None:
        world.timeline.role(self.name, self.channels)


@dataclass(frozen=True)
class DropUser:
    name: str

    def run(self, world: World) -> None:
        if world.timeline.oracle.exists(self.name):
            world.timeline.drop_user(self.name)


@dataclass(frozen=True)
class DropRole:
    name: str

    def run(self, world: World) -> None:
        if world.timeline.oracle.exists(f"role:{self.name}"):
            world.timeline.drop_role(self.name)


@dataclass(frozen=True)
class Step:
    """One page of a client, of which it keeps the first rows; `late`: it fetches them at its next step only."""

    client: int
    limit: int
    keep: int | None
    late: bool

    def run(self, world: World) -> None:
        client = world.clients[self.client]
        if not world.timeline.oracle.exists(client.user):
            assert world.timeline.is_gone(client.user)
            return
        if self.late:
            client.ask(self.limit, self.keep)
        else:
            client.step(self.limit, self.keep)


@dataclass(frozen=True)
class Follow:
    client: int
    limit: int

    def run(self, world: World) -> None:
        client = world.clients[self.client]
        if not world.timeline.oracle.exists(client.user):
            return
        if any(world.timeline.tree(doc).purged for doc in world.untold):
            Tell(False).run(world)  # until the index hears of a purge, it lists what nobody can fetch
        client.follow(self.limit)
        client.check_copy()


_SAID = (
    *(("", "", ""), ("A", "", ""), ("B", "", ""), ("B C", "", ""), ("A C", "u:A", ""), ("*", "", ""), ("!", "", "")),
    *(("A", "u:A@1015", ""), ("", "u:A@1030 v:B@1020", "v:s@1025"), ("B", "role:r:C@1020", "u:r")),
    *(("A", "u:B v:A", ""), ("C", "role:r:A", "u:r"), ("", "u:C", "v:s u:s"), ("A B", "role:s:B v:C", "")),
)


@dataclass(frozen=True)
class Resync:
    """Another function, which says of `same` in four revisions what the one before said."""

    number: int
    same: int

    def run(self, world: World) -> None:
        trees = world.timeline.trees
        before = {(doc, rev): one.said for doc, tree in trees.items() for rev, one in tree.revisions.items()}

        def says(doc: str, rev: str) -> Said:
            chosen = crc32(f"{self.number} {doc} {rev}".encode())
            if chosen // 1000 % 4 < self.same:
                return before.get((doc, rev), Said())
            return said(*_SAID[chosen % len(_SAID)])

        world.timeline.resync(says)


Operation = (
    Resync | Write | Branch | Purge | Tell | Replay | Pass | PutUser | PutRole | DropUser | DropRole | Step | Follow
)


def _words(choices: tuple[str, ...]) -> SearchStrategy[str]:
    return st.sampled_from(choices)


_DOC = st.sampled_from(DOCUMENTS)
_AT = st.integers(0, 7)
_QUIET = st.sampled_from((False, False, False, True))
_IN = _words(("A", "", "B", "C", "A B", "A C", "B C", "!", "*", "A B C"))
_GIVEN = _words(("A", "", "B", "C", "A B", "*", "B C", "!"))
_GRANTS = _words(
    (
        *("", "", "", "", "u:A", "u:B", "v:A", "v:C", "role:r:A", "role:s:B", "u:* v:B", "u:C role:r:C", "v:!"),
        *("u:A@1010", "u:A@1025 v:C@1015", "role:r:A@1020 u:B", "u:*@1030"),
    )
)
_ROLE_GRANTS = _words(("", "", "", "", "", "", "u:r", "v:s", "u:s v:r", "u:r@1020", "u:s@1030 v:r@1010"))
_MEMBER = _words(("", "r", "s", "r s"))
_LIMIT = st.sampled_from((1, 2, 3, 50))


def operations() -> SearchStrategy[Operation]:
    one: Callable[..., SearchStrategy[Operation]] = st.builds
    write = one(Write, _DOC, _AT, _IN, _GRANTS, _ROLE_GRANTS, _QUIET)
    delete = one(Write, _DOC, _AT, _IN, _GRANTS, st.just(""), _QUIET, st.just(True))
    # Documents that grant the very channel they are in or enter or leave: ends and beginnings at one sequence.
    own = one(
        Write,
        _DOC,
        _AT,
        _words(("A", "A", "B", "")),
        _words(("u:A", "u:A", "v:B", "", "u:A@1010", "u:A@1030", "v:B@1020")),
        st.just(""),
        st.just(False),
        st.booleans(),
    )
    step = one(
        Step,
        st.integers(0, len(CLIENTS) - 1),
        _LIMIT,
        st.sampled_from((None, None, 1, 2)),
        st.booleans(),
    )
    user = one(PutUser, st.sampled_from(USERS), _GIVEN, _MEMBER)
    role = one(PutRole, st.sampled_from(ROLES), _GIVEN)
    return st.one_of(
        write,
        write,
        write,
        own,
        own,
        delete,
        one(Branch, _DOC, _AT, _IN, _GRANTS, st.booleans(), _QUIET),
        one(Purge, _DOC, _AT, st.booleans(), st.booleans(), _QUIET),
        one(Tell, st.booleans()),
        one(Resync, st.integers(0, 999), st.integers(0, 3)),
        one(Replay, _DOC, _AT),
        one(Pass, st.sampled_from((3, 8, 15, -5)), st.sampled_from((True, True, False))),
        user,
        user,
        role,
        st.one_of(one(DropUser, st.sampled_from(USERS)), one(DropRole, st.sampled_from(ROLES))),
        step,
        step,
        step,
        one(Follow, st.integers(0, len(CLIENTS) - 1), _LIMIT),
    )
