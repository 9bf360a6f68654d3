"""Transactions over several nodes when nodes die, stall, restart, or cannot reach each other."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from aft._wire import anna_pb2 as anna

from anna import Server, ours
from cluster import Cluster, Node
from daemon import until
from test_dag import begin, commit, go_on
from wire import ABORTED, COMMITTED, RUNNING, NoAnswer, tag

T = TypeVar("T")

REQUEST_S, OUTCOME_S, PEER_S = 4.0, 10.0, 2.0
# What the bounds are exceeded by on a busy machine.
SLACK_S = 1.5


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds + SLACK_S, f"it took {took:.1f} s"


def truth(tid: str, nodes: list[Node]) -> int:
    """What all nodes say of a transaction, in the end; nobody may say anything else before."""
    said: set[int] = set()

    def all_know() -> bool:
        with within(OUTCOME_S):
            answers = [node.raw.commit(tid).status for node in nodes]
        said.update(answers)
        return RUNNING not in answers

    until(all_know, 30)
    (verdict,) = said - {RUNNING}
    return int(verdict)


def agree(cluster: Cluster, verdict: int, *keys: str) -> None:
    """All living nodes get to read the keys as the verdict has them, and nobody half of them."""
    value = b"v" if verdict == COMMITTED else None
    wanted: dict[str, bytes | None] = dict.fromkeys(keys, value)
    for node in cluster:
        if node.daemon.is_alive():
            until(functools.partial(reads, node, wanted))


def reads(node: Node, wanted: dict[str, bytes | None]) -> bool:
    found = node.raw.get(list(wanted))
    assert len(set(found.values())) == 1, "one half of a transaction"
    return found == wanted


def at_once(*calls: Callable[[], T]) -> list[T]:
    """Waits for answers that each may take their time."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def test_a_node_dies_before_what_is_needed_of_it(cluster: Cluster) -> None:
    """Before the continue, before a read there, before the commit; and as one of two branches."""
    a, b, c = cluster
    early = begin(a, early=b"v")
    unread, held, empty = begin(a, unread=b"v"), begin(a, held=b"v"), begin(a)
    for tid in (unread, held, empty):
        a.raw.get("other", tid)
        go_on(tid, b, a, **{f"b-{tid}": b"v"})
    branch = begin(c)
    go_on(branch, a, c, left=b"v")
    go_on(branch, b, c, right=b"v")
    a.daemon.kill()
    one, other, third, fourth, fifth = (b.another() for _ in range(5))
    with within(PEER_S):
        refused, found, *ended, unmerged = at_once(
            lambda: one.go_on(early, a.name),
            lambda: other.get_response(["unread"], unread).tuples[0].error,
            lambda: third.commit(held).status,
            lambda: fourth.commit(empty).status,
            lambda: fifth.go_on(branch, a.name),
        )
    for why in (str(refused), str(unmerged)):
        assert a.name in why
        assert "start it again" in why
    assert found == anna.RETRY
    assert ended == [ABORTED, COMMITTED], "what it holds is needed; that it was there is not"
    a.restart()
    for tid in (early, unread, held, branch):
        assert truth(tid, [a, b, c]) == ABORTED
    assert truth(empty, [a, b, c]) == COMMITTED
    agree(cluster, ABORTED, "early", "unread", f"b-{unread}", "held", f"b-{held}", "left", "right")
    agree(cluster, COMMITTED, f"b-{empty}")


def test_a_node_restarts_and_the_transaction_goes_on_there(cluster: Cluster) -> None:
    a, b, c = cluster
    tid = begin(a, a=b"v")
    go_on(tid, b, a, b=b"v")
    a.restart()
    assert a.raw.go_on(tid, b.name), "what it had written there is lost"
    assert truth(tid, [a, b, c]) == ABORTED
    agree(cluster, ABORTED, "a", "b")
    # The same as a new attempt.
    again = a.raw.start("order-17").id
    a.raw.put({"a": b"v"}, again)
    go_on(again, c, a, b=b"v")
    commit(again, c)
    agree(cluster, COMMITTED, "a", "b")


@ours
@pytest.mark.parametrize("reaches_the_store", [False, True])
def test_who_commits_dies_in_the_middle(
    cluster: Cluster, server: Server, reaches_the_store: bool
) -> None:
    """Whoever asks afterwards, wherever: there is one truth, and it is told in time."""
    a, b, c = cluster
    tid = begin(a, a=b"v")
    go_on(tid, b, a, b=b"v")
    # Either it is done and not confirmed, or it is not even done.
    if reaches_the_store:
        server.misbehave(drop_replies=1.0)
    else:
        server.misbehave(silent=True)
    lost = functools.partial(server.count, "requests_dropped", "replies_dropped")
    before = lost()
    b.raw.push["commit"].send(b.raw.commit_request(tid))
    until(lambda: lost() > before + 3)
    with pytest.raises(NoAnswer):
        b.raw.receive("commit", 0.1)
    b.daemon.kill()
    server.misbehave()
    verdict = truth(tid, [a, c])
    b.restart()
    assert truth(tid, [a, b, c]) == verdict
    agree(cluster, verdict, "a", "b")


@ours
def test_commits_asked_for_everywhere_while_the_store_is_away(cluster: Cluster, server: Server) -> None:
    a, b, c = cluster
    tid = begin(a, a=b"v")
    go_on(tid, b, a, b=b"v")
    go_on(tid, c, b, c=b"v")
    server.misbehave(silent=True)
    began = time.monotonic()
    for node in cluster:
        node.raw.push["commit"].send(node.raw.commit_request(tid))
    # One asks for the opposite.
    other = a.another()
    other.push["abort"].send(f"{tid}~{other.address('abort')}".encode())
    until(lambda: time.monotonic() > began + 1.0)
    server.misbehave()
    told = {tag(node.raw.receive("commit")).status for node in cluster}
    told.add(tag(other.receive("abort")).status)
    assert time.monotonic() - began < OUTCOME_S + SLACK_S
    verdict = truth(tid, [a, b, c])
    assert told <= {verdict, RUNNING}
    agree(cluster, verdict, "a", "b", "c")


def test_a_node_stalls_for_longer_than_all_bounds(cluster: Cluster) -> None:
    """It comes back believing that nothing happened; what it held is over by then."""
    a, b, c = cluster
    held = begin(a, a=b"v")
    go_on(held, b, a, b=b"v")
    empty = begin(a)
    go_on(empty, b, a, e=b"v")
    mine = begin(a, mine=b"v")
    one, other, third = (b.another() for _ in range(3))
    os.kill(a.daemon.process.pid, signal.SIGSTOP)
    try:
        with within(PEER_S):
            assert at_once(
                lambda: one.commit(held).status,
                lambda: other.commit(empty).status,
                lambda: bool(third.go_on(mine, a.name)),
            ) == [ABORTED, COMMITTED, True]
        assert truth(mine, [b, c]) == ABORTED
    finally:
        os.kill(a.daemon.process.pid, signal.SIGCONT)
    for tid, wanted in ((held, ABORTED), (empty, COMMITTED), (mine, ABORTED)):
        assert truth(tid, [a, b, c]) == wanted
    agree(cluster, ABORTED, "a", "b", "mine")
    agree(cluster, COMMITTED, "e")


def needs_namespaces() -> str | None:
    """Why this machine cannot take nodes' networks apart, if it cannot."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    tried = subprocess.run(
        "ip netns add aft-try && ip link add aft-try type bridge && ip link del aft-try;"
        " code=$?; ip netns del aft-try; exit $code",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no network namespaces: {tried.stderr.strip()}" if tried.returncode else None


class Network:
    """A machine for each node and one for the store, on one bridge; each pair can be cut off."""

    def __init__(self) -> None:
        self.tag = f"{os.getpid() % 10_000}"
        self.bridge = f"aft{self.tag}"
        self.spaces: list[str] = []
        self.run(f"ip link add {self.bridge} type bridge", f"ip link set {self.bridge} up")

    def run(self, *commands: str) -> None:
        for command in commands:
            subprocess.run(command.split(), check=True, capture_output=True)

    def join(self, number: int) -> tuple[str, list[str]]:
        """Adds a machine; answers its address and what runs a command on it."""
        space, link = f"{self.bridge}-{number}", f"a{self.tag}v{number}"
        address = f"10.231.7.{number}"
        self.spaces.append(space)
        within = f"ip -n {space}"
        self.run(
            f"ip netns add {space}",
            f"ip link add {link} type veth peer name eth0 netns {space}",
            f"ip link set {link} master {self.bridge}",
            f"ip link set {link} up",
            f"{within} addr add {address}/24 dev eth0",
            f"{within} link set eth0 up",
            f"{within} link set lo up",
        )
        return address, ["ip", "netns", "exec", space]

    def cut(self, one: int, other: int) -> None:
        for here, there in ((one, other), (other, one)):
            self.run(f"ip -n {self.bridge}-{here} route add blackhole 10.231.7.{there}/32")

    def heal(self, one: int, other: int) -> None:
        for here, there in ((one, other), (other, one)):
            self.run(f"ip -n {self.bridge}-{here} route del blackhole 10.231.7.{there}/32")

    def close(self) -> None:
        for space in self.spaces:
            subprocess.run(["ip", "netns", "del", space], check=False)
        subprocess.run(["ip", "link", "del", self.bridge], check=False)


@pytest.fixture
def network() -> Iterator[Network]:
    if why := needs_namespaces():
        pytest.skip(why)
    network = Network()
    yield network
    network.close()


@ours
def test_nodes_that_cannot_reach_each_other(
    network: Network, place: Path, launch: Callable[..., object]
) -> None:
    """Both reach the store; one of them holds a part of a transaction that the other one commits."""
    address, on = network.join(9)
    server = Server(place / "anna", on=on, ip=address)
    machines = [network.join(number) for number in (1, 2, 3)]
    try:
        cluster = Cluster(launch, server, machines)  # type: ignore[arg-type]
        partition(network, cluster)
        cluster.close()
    finally:
        server.kill()


def partition(network: Network, cluster: Cluster) -> None:
    a, b, c = cluster
    # Handed on, then cut off.
    held = begin(a, a=b"v")
    go_on(held, b, a, b=b"v")
    empty = begin(a)
    go_on(empty, b, a, e=b"v")
    # Not handed on yet.
    mine = begin(a, mine=b"v")
    retried = a.raw.start("order-17").id
    a.raw.put({"k": b"first"}, retried)
    network.cut(1, 2)
    here, there, beside, above = a.another(), b.another(), b.another(), b.another()
    with within(OUTCOME_S):
        *answers, alone, refused = at_once(
            lambda: here.commit(held).status,
            lambda: there.commit(held).status,
            lambda: beside.commit(empty).status,
            lambda: a.name in above.go_on(mine, a.name),
        )
    assert (alone, refused) == (COMMITTED, True)
    # The function is started again where it can be, under its id.
    again = b.raw.start("order-17").id
    b.raw.put({"k": b"second"}, again)
    go_on(again, c, b)
    second = c.raw.commit(again).status
    first = truth(retried, [a])
    assert {first, second} == {COMMITTED}, "the id has taken effect, once"
    for tid in (held, empty, mine):
        assert truth(tid, [c]) in (COMMITTED, ABORTED)
    network.heal(1, 2)
    verdict = truth(held, [a, b, c])
    assert set(answers) <= {verdict, RUNNING}
    agree(cluster, verdict, "a", "b")
    agree(cluster, COMMITTED, "e")
    values = {str(node.raw.get("k")["k"]) for node in cluster}
    assert len(values) == 1
    # Gossip flows again.
    a.raw.write({"after": b"v"})
    agree(cluster, COMMITTED, "after")
