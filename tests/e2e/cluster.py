"""Several sidecars on one store, each with an address of its own."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence

import aft

from anna import EXTERNAL, IP, Server
from daemon import Daemon, until
from wire import Raw

_numbers = itertools.count(1)


class Node:
    """One of them, with what talks to it."""

    def __init__(
        self, name: str, options: Sequence[str], launch: Callable[..., Daemon], on: Sequence[str]
    ) -> None:
        #: How other nodes call it.
        self.name = name
        self._start = functools.partial(launch, *options, name=f"node{name}", on=on)
        self.daemon = self._start()
        self._raws: list[Raw] = []
        self._client: aft.Client | None = None

    @property
    def raw(self) -> Raw:
        """An executor on this machine, always the same one."""
        return self._raws[0] if self._raws else self.another()

    @property
    def client(self) -> aft.Client:
        """A user of the Python client on this machine."""
        if self._client is None:
            self._client = aft.Client(self.daemon.ipc)
        return self._client

    def another(self) -> Raw:
        """One more executor."""
        self._raws.append(Raw(self.daemon.ipc))
        return self._raws[-1]

    def restart(self) -> None:
        """Lets it begin another life, after `kill -9`."""
        self.daemon.kill()
        self.daemon = self._start().wait_until_ready()

    def running(self) -> int:
        """How many transactions run there."""
        return int(self.daemon.status()["node"]["transactions"])

    def close(self) -> None:
        for raw in self._raws:
            raw.__exit__()
        if self._client is not None:
            self._client.close()


class Cluster:
    """Nodes by number."""

    def __init__(
        self,
        launch: Callable[..., Daemon],
        server: Server,
        machines: Sequence[tuple[str, Sequence[str]]],
        *options: str,
    ) -> None:
        """`machines` are the names of the nodes, each with what runs a command there."""
        names = ",".join(name for name, _ in machines)
        shared = ("--storage", "anna", "--anna-routing", server.routing, "--peer", names, *options)
        self.nodes = [Node(name, (*shared, *at(name)), launch, on) for name, on in machines]
        for node in self.nodes:
            node.daemon.wait_until_ready()

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, number: int) -> Node:
        return self.nodes[number]

    def is_idle(self) -> bool:
        """Whether no transaction runs anywhere."""
        return sum(node.running() for node in self.nodes) == 0

    def wait_until_idle(self) -> None:
        until(self.is_idle)

    def close(self) -> None:
        for node in self.nodes:
            node.close()


def on_this_machine(count: int) -> list[tuple[str, Sequence[str]]]:
    """Names for nodes on this machine that nobody else here uses."""
    if EXTERNAL:
        # That store must be able to reach them.
        first = os.getpid() % 200 * 100
        return [(f"{IP}:{first + next(_numbers)}", ()) for _ in range(count)]
    network = f"127.{os.getpid() % 250 + 1}.{next(_numbers)}"
    return [(f"{network}.{number}", ()) for number in range(1, count + 1)]


def at(name: str) -> Sequence[str]:
    """The options of a node that is called so."""
    ip, _, offset = name.partition(":")
    return ("--ip", ip, "--port-offset", offset or "0")
