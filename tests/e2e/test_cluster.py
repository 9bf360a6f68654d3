"""Several sidecars on one store: what one commits is read on the others."""

from __future__ import annotations

import functools
import re
import socket
import subprocess
from collections.abc import Callable, Iterator

import aft
import pytest

from daemon import BINARY, Daemon, run, until

GOSSIP_PORT = 7777


@pytest.fixture
def routing() -> Iterator[str]:
    """A store that all share, as HOST:PORT of its routing tier."""
    command = [BINARY, "anna-server", "--port-offset", "free"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        ready = server.stdout.readline()
        match = re.search(r"routing=tcp://(\S+)", ready)
        assert match, ready
        yield match[1]
        server.kill()


def free_offsets(count: int) -> list[int]:
    """Offsets at which nobody listens for gossip."""
    sockets = [socket.socket() for _ in range(count)]
    offsets = []
    for number, one in enumerate(sockets):
        for offset in range(1000 + number * 7000, 20_000 + number * 7000):
            try:
                one.bind(("127.0.0.1", GOSSIP_PORT + offset))
            except OSError:
                continue
            offsets.append(offset)
            break
    for one in sockets:
        one.close()
    return offsets


@pytest.fixture
def cluster(routing: str, start: Callable[..., Daemon]) -> list[Daemon]:
    offsets = free_offsets(3)
    names = [f"127.0.0.1:{offset}" for offset in offsets]
    return [
        start(
            *("--storage", "anna", "--anna-routing", routing),
            *("--port-offset", str(offset), "--peer", ",".join(names)),
            name=f"node{number}",
        )
        for number, offset in enumerate(offsets)
    ]


def heard(daemon: Daemon) -> list[tuple[int, int]]:
    return [(one["complete_to"], one["last"]) for one in daemon.status()["node"]["heard"]]


def is_complete(daemon: Daemon, commits: int) -> bool:
    return heard(daemon) == [(commits, commits)] * 2


def test_all_nodes_hear_of_all_commits(cluster: list[Daemon]) -> None:
    clients = [aft.Client(daemon.ipc) for daemon in cluster]
    commits = 50
    for number in range(commits):
        for name, client in enumerate(clients):
            with client.transaction() as txn:
                txn.put(f"a{number}", f"{name}".encode())
                txn.put(f"b{number}", f"{name}".encode())
    for daemon in cluster:
        until(functools.partial(is_complete, daemon, commits))
    for number in range(commits):
        seen = set()
        for client in clients:
            with client.transaction() as txn:
                a, b = txn.get(f"a{number}"), txn.get(f"b{number}")
                assert a == b
                seen.add(a)
        assert seen == {b"2"}, "the last one is the newest on all nodes"
    for client in clients:
        client.close()


def test_a_node_that_was_away_hears_what_it_missed(
    cluster: list[Daemon], start: Callable[..., Daemon]
) -> None:
    first, second, third = cluster
    with aft.Client(first.ipc) as client:
        client.put("k", b"before")
        third.kill()
        client.put("k", b"meanwhile")
        until(lambda: (1, 2) not in heard(second) and (2, 2) in heard(second))
    again = start(*third.arguments, name="node2")
    with aft.Client(again.ipc) as client:
        assert client.get("k") == b"meanwhile"


def test_wrong_peers_are_refused_by_name() -> None:
    ended = run("sidecar", "--check-config", "--peer", "10.0.0.1,somewhere")
    assert ended.returncode != 0
    assert "somewhere" in ended.stderr
    assert "IP:OFFSET" in ended.stderr


def test_a_taken_port_is_named() -> None:
    (offset,) = free_offsets(1)
    with socket.socket() as other:
        other.bind(("127.0.0.1", GOSSIP_PORT + offset))
        other.listen()
        ended = run(
            *("sidecar", "--storage", "memory", "--ipc-dir", "/tmp/aft-e2e-taken"),
            *("--port-offset", str(offset), "--peer", "127.0.0.1", "--admin", "127.0.0.1:0"),
        )
    assert ended.returncode == 1
    assert str(GOSSIP_PORT + offset) in ended.stderr
    assert "--port-offset" in ended.stderr
