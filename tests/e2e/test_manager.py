"""Members that come and go: a manager, names that resolve, and a list that is read again."""

from __future__ import annotations

import functools
import itertools
import os
import random
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import zmq
from aft._wire import aft_pb2 as aft
from aft._wire import anna_pb2 as anna

from anna import ours
from cluster import Node, at, on_this_machine
from daemon import Daemon, Served, run, until
from dynamodb import DynamoDb
from ministack import CREDENTIALS
from redis_server import Redis
from s3 import S3

MEMBERS, GOSSIP = 7007, 7777
#: Seconds without a word after which a node is out, and what a loaded machine may add.
NODE_TIMEOUT, SLACK = 2.0, 6.0
BOUND = 0.3
_numbers = itertools.count()


def endpoint(name: str, port: int) -> str:
    ip, _, offset = name.partition(":")
    return f"tcp://{ip}:{port + int(offset or 0)}"


@pytest.fixture
def shared(
    request: pytest.FixtureRequest, place: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sequence[str]]:
    """What says which store the nodes share; Anna, unless a test wants another one."""
    kind = getattr(request, "param", "anna")
    if kind == "anna":
        yield ("--storage", "anna", "--anna-routing", request.getfixturevalue("server").routing)
        return
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server: Redis | DynamoDb | S3
    if kind == "redis":
        server = Redis(place).start()
        options = ["--storage", "redis", "--redis-url", server.url]
    else:
        server = DynamoDb(place / kind) if kind == "dynamodb" else S3(place / kind)
        options = server.options
    yield options
    server.kill()


class Manager:
    """A manager that can be started again, and a client of the original's making that asks it."""

    def __init__(self, name: str, log: Path, store: Sequence[str]) -> None:
        self.name = name
        self.log = log
        options = ("--node-timeout", str(NODE_TIMEOUT), "--gossip-bound", str(BOUND))
        self.command = ("manager", *at(name), *options, *store)
        self.context = zmq.Context()
        self.start()

    def start(self) -> None:
        self.process = Served(self.log, self.command).wait_until_ready()

    def socket(self, kind: int, port: int) -> zmq.Socket[bytes]:
        made = self.context.socket(kind)
        made.linger = 1000
        made.connect(endpoint(self.name, port))
        return made

    def ask(self, request: bytes = b"") -> list[str]:
        """The nodes, as the original's nodes ask for them."""
        asker = self.socket(zmq.REQ, MEMBERS)
        try:
            asker.linger = 0
            asker.send(request)
            assert asker.poll(5000), "no answer"
            return list(anna.StringSet.FromString(asker.recv()).keys)
        finally:
            asker.close()

    def until_listed(self, nodes: Sequence[Node], seconds: float = 20.0) -> None:
        names = sorted(node.name for node in nodes)
        until(lambda: sorted(self.ask()) == names, seconds)

    def status(self) -> dict[str, Any]:
        return dict(self.process.status()["cluster"])

    def close(self) -> None:
        self.process.kill()
        self.context.destroy(linger=0)


@pytest.fixture
def names() -> Iterator[str]:
    """Names of nodes that nobody else uses."""
    return (name for name, _ in on_this_machine(9))


@pytest.fixture
def manager(place: Path, shared: Sequence[str], names: Iterator[str]) -> Iterator[Manager]:
    manager = Manager(next(names), place / "managerlog", shared)
    until(lambda: manager.status()["following"])
    yield manager
    manager.close()


@pytest.fixture
def node(
    launch: Callable[..., Daemon], shared: Sequence[str], names: Iterator[str]
) -> Iterator[Callable[..., Node]]:
    """Starts one more node on the store."""
    made: list[Node] = []

    def start(*options: str, name: str = "") -> Node:
        name = name or next(names)
        made.append(Node(name, (*shared, "--log", "info", *at(name), *options), launch, ()))
        made[-1].daemon.wait_until_ready()
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def join(node: Callable[..., Node], manager: Manager) -> Callable[..., Node]:
    """Starts one more node that asks the manager for the others."""
    return functools.partial(node, "--manager", manager.name)


def members(node: Node) -> list[str]:
    return list(node.daemon.status()["node"]["members"])


def knows(node: Node, others: Sequence[Node]) -> bool:
    return sorted(members(node)) == sorted(other.name for other in others)


def until_all_know_all(nodes: Sequence[Node]) -> None:
    for one in nodes:
        until(functools.partial(knows, one, [other for other in nodes if other is not one]))


def heard(node: Node, origin: Node) -> list[tuple[int, int]]:
    """How far a node has heard of the commits of another one, in each life that it knows of."""
    found = node.daemon.status()["node"]["heard"]
    return [(one["complete_to"], one["last"]) for one in found if one["node"] == origin.name]


def until_heard(node: Node, origin: Node, commits: int) -> None:
    until(lambda: (commits, commits) in heard(node, origin))


def test_nodes_come_and_go(manager: Manager, join: Callable[..., Node]) -> None:
    first, second, third = nodes = [join() for _ in range(3)]
    manager.until_listed(nodes)
    until_all_know_all(nodes)
    first.raw.write({"k": b"1"})
    until_heard(third, first, 1)

    third.daemon.kill()
    manager.until_listed([first, second], NODE_TIMEOUT + SLACK)
    # A node that is not listed stays a member for a while, in case the manager has just started.
    until_all_know_all([first, second])
    assert first.daemon.counter("aft_members") == first.daemon.counter("aft_members_live") == 1

    fourth = join()
    manager.until_listed([first, second, fourth])
    until_all_know_all([first, second, fourth])
    first.raw.write({"k": b"2"})
    until_heard(fourth, first, 2)
    assert fourth.raw.get("k") == {"k": b"2"}
    assert manager.status()["commits_found"] == 0, "all of that was told"

    third.restart()
    manager.until_listed([first, second, third, fourth])


def test_the_cluster_goes_on_without_its_manager(manager: Manager, join: Callable[..., Node]) -> None:
    first, second, third = nodes = [join() for _ in range(3)]
    until_all_know_all(nodes)
    manager.process.kill()
    for number in range(20):
        first.raw.write({"k": b"%d" % number})
    until_heard(second, first, 20)
    until_heard(third, first, 20)
    until_all_know_all(nodes)
    until(lambda: "cannot get the members from the manager" in first.daemon.logged())
    manager.start()
    manager.until_listed(nodes)
    until_all_know_all(nodes)
    second.raw.write({"k": b"again"})
    until_heard(third, second, 1)
    until(lambda: "works again" in first.daemon.logged())
    assert first.daemon.logged().count("cannot get the members from the manager: no answer") == 1
    assert first.daemon.terminate() == 0


def test_a_manager_that_is_away_holds_up_no_start_and_no_end(
    node: Callable[..., Node], names: Any
) -> None:
    alone = node("--manager", next(names))
    alone.raw.write({"k": b"v"})
    began = time.monotonic()
    assert alone.daemon.terminate() == 0
    assert time.monotonic() - began < 3


def test_all_requests_are_answered(manager: Manager, join: Callable[..., Node]) -> None:
    assert manager.ask() == []
    nodes = [join()]
    manager.until_listed(nodes)
    for request in (b"", b"what?", b"\xff" * 10_000):
        assert manager.ask(request) == [nodes[0].name]


def garbage_over_tcp(name: str, port: int, rng: random.Random) -> None:
    """What a port scanner and a broken client do."""
    host, _, number = endpoint(name, port).removeprefix("tcp://").rpartition(":")
    for size in (0, 1, 12, 4000):
        with socket.create_connection((host, int(number)), timeout=5) as connection:
            connection.sendall(rng.randbytes(size))


def test_garbage_does_no_harm(manager: Manager, join: Callable[..., Node]) -> None:
    rng = random.Random(7)
    nodes = [join()]
    manager.until_listed(nodes)
    asker, teller = manager.socket(zmq.DEALER, MEMBERS), manager.socket(zmq.PUSH, GOSSIP)
    wrong = manager.socket(zmq.PUSH, MEMBERS), manager.socket(zmq.REQ, GOSSIP)
    for kind in wrong:
        kind.linger = 0
        kind.send(b"not of your kind", zmq.DONTWAIT)
    for round_ in range(50):
        asker.send_multipart([rng.randbytes(rng.randrange(20)) or b"x" for _ in range(round_ % 5 + 1)])
        teller.send(rng.randbytes(rng.randrange(200)))
    teller.send_multipart([b"two", b"frames"])
    for origin in ("somebody", "10.0.0.1:99999", "\0", "x" * 10_000):
        teller.send(aft.TransactionList(origin=origin, first=1).SerializeToString())
    record = aft.TransactionRecord(id="no id", timestamp=-1, writeSet=["", "a" * 100_000])
    teller.send(aft.TransactionList(records=[record], origin="10.0.0.1").SerializeToString())
    for port in (MEMBERS, GOSSIP):
        garbage_over_tcp(manager.name, port, rng)
    # Some who ask and do not wait for the answer.
    for _ in range(20):
        hasty = manager.socket(zmq.REQ, MEMBERS)
        hasty.send(b"")
        hasty.close(linger=0)
    until(lambda: manager.status()["bad_messages"] > 50)
    assert manager.ask() == [nodes[0].name]
    lines = manager.process.logged().count("bad message")
    assert 1 <= lines <= 20, "what is bad is logged once a second"


def test_the_originals_lists_are_no_heartbeats(manager: Manager) -> None:
    record = aft.TransactionRecord(
        id="5c0b5a2e-7a4b-4f34-9c38-0c0ee7ff7f3b",
        timestamp=time.time_ns(),
        status=aft.COMMITTED,
        replicaId="10.0.0.1",
        writeSet=["k"],
    )
    teller = manager.socket(zmq.PUSH, GOSSIP)
    teller.send(aft.TransactionList(records=[record]).SerializeToString())
    until(lambda: manager.status()["gossip_commits"] == 1)
    assert manager.ask() == []
    assert manager.status()["bad_messages"] == 0


def test_a_commit_that_was_not_told_is_found(manager: Manager, join: Callable[..., Node]) -> None:
    witness = join()
    dying = join("--gossip-interval", "60000", "--anna-lands-within", "1")
    manager.until_listed([witness, dying])
    dying.raw.write({"k": b"told by nobody", "l": b"too"})
    dying.daemon.kill()
    until(lambda: witness.daemon.counter("aft_gossip_commits_found_total") == 1, BOUND + SLACK)
    assert witness.raw.get(["k", "l"]) == {"k": b"told by nobody", "l": b"too"}
    assert manager.status()["commits_found"] == 1
    assert manager.process.counter("aft_manager_commits_found_total") == 1
    assert dying.name in manager.process.logged()
    # Its next life writes the commit into its own log once more; that is no news.
    logged = manager.status()["commits_logged"]
    dying.restart()
    until(lambda: manager.status()["commits_logged"] > logged)
    until(lambda: manager.status()["commits_waiting"] == 0)
    assert manager.status()["commits_found"] == 1


@pytest.mark.parametrize("shared", ["redis", "dynamodb", "s3"], indirect=True)
def test_it_is_found_on_other_stores_too(manager: Manager, join: Callable[..., Node]) -> None:
    witness, dying = join(), join("--gossip-interval", "60000")
    manager.until_listed([witness, dying])
    dying.raw.write({"k": b"told by nobody", "l": b"too"})
    dying.daemon.kill()
    until(lambda: manager.status()["commits_found"] == 1, BOUND + SLACK)
    until(lambda: witness.daemon.counter("aft_gossip_commits_found_total") == 1, SLACK)
    assert witness.raw.get(["k", "l"]) == {"k": b"told by nobody", "l": b"too"}
    witness.raw.write({"k": b"told"})
    until(lambda: manager.status()["gossip_commits"] == 1)
    assert manager.status()["commits_found"] == 1


def test_a_manager_leaves_nothing_in_the_store(
    manager: Manager, join: Callable[..., Node], store: Any
) -> None:
    alone = join()
    alone.raw.write({"k": b"v"})
    until(lambda: manager.status()["commits_logged"] == 1)
    named = {name.decode() for name in store.elements("aft~nodes")}
    assert alone.name in named
    assert manager.name not in named


def test_a_manager_that_is_none_is_asked_again(
    shared: Sequence[str], place: Path, node: Callable[..., Node], names: Iterator[str]
) -> None:
    name = next(names)
    context = zmq.Context()
    silent = context.socket(zmq.ROUTER)
    silent.bind(endpoint(name, MEMBERS))
    one = node("--manager", name)
    answers = [None, b"\xff\xff", anna.StringSet(keys=["somewhere"]).SerializeToString(), None]
    for answer in answers:
        assert silent.poll(10_000), "it asks again"
        envelope = silent.recv_multipart()[:-1]
        if answer is not None:
            silent.send_multipart([*envelope, answer])
    context.destroy(linger=0)
    assert members(one) == []
    manager = Manager(name, place / "managerlog", shared)
    try:
        other = node("--manager", name)
        until_all_know_all([one, other])
        assert one.daemon.is_alive()
    finally:
        manager.close()


@ours
def test_names_are_resolved(node: Callable[..., Node], names: Iterator[str]) -> None:
    first = node("--dns", "localhost")
    until(lambda: "127.0.0.1" in members(first))
    second = node("--dns", first.name, "--peer", next(names))
    until(lambda: first.name in members(second))
    assert len(members(second)) == 2, "what is named and what is resolved, together"
    own = node("--dns", name := next(names), name=name)
    assert members(own) == []
    lost = node("--dns", "no-such-name.invalid", "--peer", first.name)
    until(lambda: "does not resolve" in lost.daemon.logged())
    assert members(lost) == [first.name]
    lost.raw.write({"k": b"v"})
    until_heard(first, lost, 1)


def test_the_peers_are_read_again(node: Callable[..., Node], place: Path, names: Iterator[str]) -> None:
    first = node("--peer", "10.255.255.1")
    file = place / "aft.toml"
    file.write_text('peer = "10.255.255.1"\n')
    one = node("--config", str(file))

    def reload(text: str, logged: str) -> None:
        before = one.daemon.logged().count(logged)
        file.write_text(text)
        os.kill(one.daemon.process.pid, signal.SIGHUP)
        until(lambda: one.daemon.logged().count(logged) > before)

    reload(f'peer = "{first.name}"\ntxn-max = 77\n', "the peers have changed")
    assert "txn-max" in one.daemon.logged(), "what needs a restart is named"
    until(lambda: members(one) == [first.name])
    one.raw.write({"k": b"v"})
    until_heard(first, one, 1)
    for bad in ('peer = "somewhere"\n', "peer = \n", "pear = 7\n"):
        reload(bad, "the peers stay as they were")
        assert members(one) == [first.name]
    reload(f'peer = "{first.name}"\n', "the same as before")
    reload("", "the peers have changed")
    until(lambda: members(one) == [])
    one.raw.write({"k": b"w"})
    reload(f'peer = "{first.name}"\n', "the peers have changed")
    until_heard(first, one, 2)


def test_peers_that_come_too_late_are_said_to(start: Callable[..., Daemon], place: Path) -> None:
    file = place / "aft.toml"
    file.write_text("")
    daemon = start("--storage", "memory", "--config", str(file))
    file.write_text('peer = "10.0.0.1"\n')
    os.kill(daemon.process.pid, signal.SIGHUP)
    until(lambda: "a restart is needed for the first peers" in daemon.logged())
    assert daemon.terminate() == 0


def test_a_manager_serves_without_its_store(
    place: Path, node: Callable[..., Node], names: Iterator[str]
) -> None:
    options = ("--storage", "anna", "--anna-routing", "127.0.0.1:1")
    name = next(names)
    process = Served(place / "managerlog", ("manager", *at(name), *options)).wait_until_ready()
    try:
        pair = [node("--manager", name) for _ in range(2)]
        until_all_know_all(pair)
        until(lambda: "cannot look for commits" in process.logged())
        assert process.status()["cluster"]["following"] is False
        assert process.terminate() == 0
    finally:
        process.kill()


def test_a_manager_ends_in_order(manager: Manager) -> None:
    assert manager.process.admin("/livez") == "ok\n"
    assert '"ready":true' in manager.process.admin("/readyz")
    assert re.fullmatch(r'ready address=\S+ storage="anna \S+" admin=\S+\n', manager.process.ready)
    assert manager.process.terminate() == 0


def test_wrong_options_are_refused_by_name() -> None:
    for arguments, named in (
        (("--port-offset", "60000"), "port-offset"),
        (("--node-timeout", "0"), "node-timeout"),
        (("--gossip-bound", "nan"), "gossip-bound"),
        (("--storage", "embedded"), "redis"),
        (("--storage", "redis", "--redis-url", "ftp://a"), "redis-url"),
        (("--storage", "anna", "--anna-routing", "a:b:c"), "anna-routing"),
    ):
        ended = run("manager", "--admin", "127.0.0.1:0", *arguments)
        assert ended.returncode != 0, arguments
        assert named in ended.stderr, ended.stderr
    for option in ("--manager", "--dns"):
        ended = run("sidecar", "--check-config", option, "no such place")
        assert ended.returncode != 0
        assert option.strip("-") in ended.stderr


def test_options_that_are_the_sidecars_do_no_harm(
    place: Path, names: Iterator[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = next(names)
    monkeypatch.setenv("AFT_MANAGER", name)
    file = place / "aft.toml"
    file.write_text(f'manager = "{name}"\npeer = "10.0.0.1"\nipc-dir = "/tmp/one"\n')
    process = Served(place / "managerlog", ("manager", *at(name), "--config", str(file)))
    try:
        process.wait_until_ready()
        assert process.terminate() == 0
    finally:
        process.kill()


def test_a_manager_that_waits_for_its_store_can_be_ended(place: Path, names: Iterator[str]) -> None:
    away = ("--storage", "redis", "--redis-url", "redis://127.0.0.1:1")
    process = Served(place / "managerlog", ("manager", *at(next(names)), *away))
    try:
        until(lambda: "waiting" in process.logged())
        assert process.terminate() == 0
    finally:
        process.kill()


def test_a_taken_port_is_named(manager: Manager) -> None:
    ended = run("manager", *at(manager.name), "--admin", "127.0.0.1:0")
    assert ended.returncode == 1
    assert "--port-offset" in ended.stderr


def test_many_ask_at_once(manager: Manager, join: Callable[..., Node]) -> None:
    nodes = [join()]
    manager.until_listed(nodes)
    answers: list[list[str]] = []

    def ask() -> None:
        answers.extend(manager.ask() for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[nodes[0].name]] * 200
