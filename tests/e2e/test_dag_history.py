"""Histories of many transactions over several nodes, while nodes die, are judged as a whole.

A history of one node is not enough here, so the functions write down what they saw themselves.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import aft
from aft._wire import aft_pb2 as wire

from cluster import Cluster, Node
from daemon import until
from isolation import INITIAL, Transaction, is_read_atomic
from test_history import fractured_copies

KEYS = 8
SESSIONS = 6
CURED = (aft.RetryableError, aft.SidecarUnavailable)


class Session:
    """One user, whose transactions run wherever, one after the other."""

    def __init__(self, number: int, cluster: Cluster) -> None:
        self.number, self.cluster = number, cluster
        self.dice = random.Random(number)
        self.seen = aft.Token()
        self.values = iter(range(number + SESSIONS, 10_000_000, SESSIONS))
        self.done: list[Transaction] = []
        self.lost = 0
        # What one branch wrote to keys that the other one wrote, too.
        self.overwritten: dict[int, list[int]] = {}

    def transaction(self) -> None:
        """Runs one DAG; keeps what it read and wrote if it took effect."""
        seen = Transaction(self.number)
        self.overwritten = {}
        shape = self.dice.choice([self.chain, self.diamond])
        try:
            self.seen |= shape(seen)
        except aft.OutcomeUnknown as unknown:
            if self.resolved(unknown) is not aft.Outcome.COMMITTED:
                return
            if seen.writes:
                token = wire.CommitToken(id=unknown.id).SerializeToString()
                self.seen |= aft.Token(commits=(token,))
        except CURED:
            self.lost += 1
            return
        self.done.append(seen)

    def resolved(self, unknown: aft.OutcomeUnknown) -> aft.Outcome:
        while True:
            try:
                return self.node().client.resolve(unknown, deadline=2)
            except (aft.OutcomeUnknown, aft.SidecarUnavailable):
                continue

    def node(self) -> Node:
        return self.dice.choice(self.cluster.nodes)

    def chain(self, seen: Transaction) -> aft.Token:
        token = None
        for _ in range(self.dice.randrange(3)):
            with self.node().client.step(token, after=() if token else self.seen) as txn:
                self.work(txn, seen, seen.writes)
            token = txn.token
        client = self.node().client
        with client.join(token) if token else client.transaction(after=self.seen) as txn:
            self.work(txn, seen, seen.writes)
        return txn.token

    def diamond(self, seen: Transaction) -> aft.Token:
        nodes = self.dice.sample(self.cluster.nodes, 3)
        with nodes[0].client.step(after=self.seen) as source:
            self.work(source, seen, seen.writes)
        branches = []
        before = dict(seen.writes)
        for node in nodes[1:]:
            with node.client.step(source.token) as branch:
                own = dict(before)
                self.work(branch, seen, own)
            branches.append(branch.token)
        with self.node().client.join(branches) as last:
            self.settle(last, seen)
            self.work(last, seen, seen.writes)
        return last.token

    def settle(self, txn: aft.Transaction, seen: Transaction) -> None:
        """Of keys that both branches wrote it is known from now on which value counts."""
        if seen.writes:
            found = txn.get_many(map(str, seen.writes))
            for key, value in seen.writes.items():
                read = int(found[str(key)] or INITIAL)
                assert read in (value, *self.overwritten.get(key, ())), "not a write of its own"
                seen.writes[key] = read

    def work(self, txn: aft.Transaction, seen: Transaction, visible: dict[int, int]) -> None:
        """Reads and writes at random. `visible` are the own writes that this function can see."""
        for _ in range(self.dice.randrange(1, 3)):
            some = self.dice.sample(range(KEYS), self.dice.randrange(1, 4))
            if self.dice.random() < 0.5:
                self.read(txn, seen, visible, some)
            else:
                values = {key: next(self.values) for key in some}
                txn.put_many({str(key): b"%d" % value for key, value in values.items()})
                for key, value in values.items():
                    if key in seen.writes and seen.writes[key] != visible.get(key):
                        self.overwritten.setdefault(key, []).append(seen.writes[key])
                    visible[key] = seen.writes[key] = value

    def read(
        self, txn: aft.Transaction, seen: Transaction, visible: dict[int, int], some: list[int]
    ) -> None:
        found = txn.get_many(map(str, some))
        for key in some:
            value = int(found[str(key)] or INITIAL)
            if key in visible:
                assert value == visible[key], "it does not read its own write"
                continue
            # A key that was missing may appear.
            seen.reads = [read for read in seen.reads if read != (key, INITIAL)]
            seen.reads.append((key, value))


def run(cluster: Cluster, seconds: float, disturb: Callable[[float], None]) -> list[Session]:
    sessions = [Session(number, cluster) for number in range(SESSIONS)]
    failures: list[BaseException] = []
    over = time.monotonic() + seconds

    def serve(session: Session) -> None:
        try:
            while time.monotonic() < over:
                session.transaction()
        except BaseException as failure:
            failures.append(failure)

    for node in cluster:
        assert node.client
    threads = [threading.Thread(target=serve, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    disturb(over)
    for thread in threads:
        thread.join()
    assert not failures, failures
    return sessions


def history(sessions: list[Session]) -> dict[int, Transaction]:
    each = [transaction for session in sessions for transaction in session.done]
    return dict(enumerate(each, 1))


def check(transactions: dict[int, Transaction]) -> None:
    assert is_read_atomic(transactions)
    doctored = fractured_copies(transactions)
    assert doctored
    for copy in random.Random(1).sample(doctored, min(10, len(doctored))):
        assert not is_read_atomic(copy), "the judge sees nothing"


def test_in_peace(cluster: Cluster) -> None:
    sessions = run(cluster, 2.0, lambda over: None)
    transactions = history(sessions)
    assert len(transactions) > 50
    assert sum(session.lost for session in sessions) < len(transactions)
    check(transactions)
    cluster.wait_until_idle()


def test_while_nodes_are_killed(cluster: Cluster) -> None:
    dice = random.Random(7)
    killed = []

    def kill(over: float) -> None:
        while (now := time.monotonic()) < over:
            pause = threading.Event()
            pause.wait(min(dice.uniform(0.2, 0.6), over - now))
            node = dice.choice(cluster.nodes)
            node.restart()
            killed.append(node)

    transactions = history(run(cluster, 5.0, kill))
    assert len(killed) > 3
    assert len(transactions) > 50
    check(transactions)
    # All nodes end with the same values, each of which somebody wrote who has committed.
    keys = [str(key) for key in range(KEYS)]
    found: list[dict[str, bytes | None]] = []

    def agree() -> bool:
        found[:] = [node.client.get_many(keys) for node in cluster]
        return found[0] == found[1] == found[2]

    until(agree)
    written = {(key, value) for t in transactions.values() for key, value in t.writes.items()}
    assert {(int(key), int(value or b"0")) for key, value in found[0].items()} <= written
