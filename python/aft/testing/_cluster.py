"""What nodes of the fake have in common, and what they tell each other of a running transaction."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from aft._wire import aft_pb2 as wire
from aft.ids import base_of
from aft.testing._versions import NoFittingVersion, ReadSet, Versions


@dataclass
class Visit:
    """What a transaction did on one node."""

    steps: int = 0
    puts: int = 0


@dataclass(frozen=True)
class Held:
    """A value that it wrote, where, and after how many nodes."""

    depth: int
    node: str
    value: bytes


@dataclass
class Running:
    """An attempt, as one node knows it."""

    reads: ReadSet = field(default_factory=ReadSet)
    writes: dict[str, Held] = field(default_factory=dict)
    visits: dict[str, Visit] = field(default_factory=dict)
    depth: int = 0
    #: Where it went on from here.
    gone_to: str | None = None

    def handed_to(self, node: str) -> Running:
        """Give what the next node is told."""
        visits = {name: Visit(visit.steps, visit.puts) for name, visit in self.visits.items()}
        writes = dict(self.writes)
        depth = self.depth if node in visits else self.depth + 1
        reads = ReadSet(dict(self.reads.versions), set(self.reads.missing))
        return Running(reads, writes, visits, depth)

    def knows(self, other: Running) -> bool:
        """Whether it comes after the other, or is it."""
        return all(
            name in self.visits and self.visits[name].steps >= visit.steps
            for name, visit in other.visits.items()
        )

    def merge(self, other: Running) -> None:
        """Come together with a parallel branch."""
        self.reads.merge(other.reads)
        for key, held in other.writes.items():
            mine = self.writes.get(key)
            if mine is None or (mine.depth, mine.node) < (held.depth, held.node):
                self.writes[key] = held
        for name, visit in other.visits.items():
            mine_there = self.visits.get(name, Visit())
            if name not in self.visits or mine_there.steps < visit.steps:
                self.visits[name] = visit
        self.depth = max(self.depth, other.depth)


class Cluster:
    """The store and the network: what one node commits, all others know at once."""

    def __init__(self) -> None:
        self.versions = Versions()
        self.outcomes: dict[str, wire.TransactionStatus] = {}
        self.tokens: dict[str, bytes] = {}
        self.parts: dict[str, dict[str, Running]] = {}
        """Running attempts by node, then by name."""
        self.current: dict[str, str] = {}
        self.nonces = itertools.count(1)

    def is_running(self, attempt: str) -> bool:
        """Whether some node has it."""
        return any(attempt in running for running in self.parts.values())

    def end(self, attempt: str) -> None:
        """Forget an attempt everywhere. Its id stays open."""
        for running in self.parts.values():
            running.pop(attempt, None)
        if self.current.get(base_of(attempt)) == attempt:
            del self.current[base_of(attempt)]

    def go_on(self, attempt: str, upstream: str, here: str) -> str:
        """Continue at a node what ran on another. Returns why not, or nothing."""
        theirs = self.parts.get(upstream, {}).get(attempt)
        mine = self.parts[here].get(attempt)
        if theirs is None:
            return f"node {upstream} says: no such transaction runs on this node"
        if upstream == here:
            return ""
        theirs.gone_to = here
        theirs.visits.setdefault(upstream, Visit())
        taken = theirs.handed_to(here)
        if mine is None or taken.knows(mine):
            self.parts[here][attempt] = taken
        elif not mine.knows(taken):
            try:
                mine.merge(taken)
            except NoFittingVersion:
                self.end(attempt)
                return "the branches of this transaction show a fraction of another one"
        return ""

    def commit(self, attempt: str, here: str, addresses: list[str]) -> str:
        """Commit what a node knows, and where it went on, what that knows. Returns why not."""
        for _ in range(16):
            gone_to = self.parts[here][attempt].gone_to
            if gone_to is None or attempt not in self.parts.get(gone_to, {}):
                break
            here = gone_to
        for upstream in addresses:
            why = self.go_on(attempt, upstream, here)
            if why:
                return why
        mine = self.parts[here][attempt]
        for name, visit in mine.visits.items():
            part = self.parts.get(name, {}).get(attempt)
            if part is None and visit.puts:
                return f"node {name} does not have what it wrote there any more"
            if name != here and part is not None and part.visits[name].puts > visit.puts:
                return f"this transaction wrote on node {name} after it had gone on from there"
        values = {key: held.value for key, held in mine.writes.items()}
        number = self.versions.commit(values)
        if values:
            token = wire.CommitToken(id=attempt, node=here, incarnation="fake", number=number)
            self.tokens[base_of(attempt)] = token.SerializeToString()
        return ""
