"""Several sidecars on one store: what one commits is read on the others."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable

import pytest

from anna import Server
from cluster import Cluster, Node, on_this_machine, sharing_an_address
from daemon import Daemon, run, until

GOSSIP_PORT = 7777


@pytest.fixture(params=[on_this_machine, sharing_an_address])
def cluster(request: pytest.FixtureRequest, launch: Callable[..., Daemon], server: Server) -> Cluster:
    return Cluster(launch, server, request.param(3))


def heard(node: Node) -> list[tuple[int, int]]:
    return [(one["complete_to"], one["last"]) for one in node.daemon.status()["node"]["heard"]]


def is_complete(node: Node, commits: int) -> bool:
    return heard(node) == [(commits, commits)] * 2


def test_all_nodes_hear_of_all_commits(cluster: Cluster) -> None:
    commits = 50
    for number in range(commits):
        for place, node in enumerate(cluster):
            node.raw.write({f"a{number}": b"%d" % place, f"b{number}": b"%d" % place})
    for node in cluster:
        until(functools.partial(is_complete, node, commits))
    for number in range(commits):
        wanted = {f"a{number}": b"2", f"b{number}": b"2"}
        for node in cluster:
            assert node.raw.get(list(wanted)) == wanted, "the last one is the newest on all nodes"


def test_a_node_that_was_away_hears_what_it_missed(cluster: Cluster) -> None:
    first, second, third = cluster
    first.raw.write({"k": b"before"})
    third.daemon.kill()
    first.raw.write({"k": b"meanwhile"})
    until(lambda: (2, 2) in heard(second))
    third.restart()
    assert third.raw.get("k") == {"k": b"meanwhile"}


def test_wrong_peers_are_refused_by_name() -> None:
    ended = run("sidecar", "--check-config", "--peer", "10.0.0.1,somewhere")
    assert ended.returncode != 0
    assert "somewhere" in ended.stderr
    assert "IP:OFFSET" in ended.stderr


def test_a_taken_port_is_named() -> None:
    (name, _), *_ = on_this_machine(1)
    ip, _, offset = name.partition(":")
    port = GOSSIP_PORT + int(offset or 0)
    with socket.socket() as other:
        other.bind((ip, port))
        other.listen()
        ended = run(
            *("sidecar", "--storage", "memory", "--ipc-dir", "/tmp/aft-e2e-taken", "--ip", ip),
            *("--port-offset", offset or "0", "--peer", ip, "--admin", "127.0.0.1:0"),
        )
    assert ended.returncode == 1
    assert str(port) in ended.stderr
    assert "--port-offset" in ended.stderr
