"""Fixtures: a real daemon in a directory of its own, and raw clients that know only the wire."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from anna import Reader, Server, storage
from cluster import Cluster, on_this_machine
from daemon import Daemon
from ports import free_offset
from wire import Raw


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="aft-e2e-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def launch(place: Path) -> Iterator[Callable[..., Daemon]]:
    """Starts daemons and does not wait for them; all of them are gone afterwards."""
    started: list[Daemon] = []

    def launch_one(*arguments: str, environment: Mapping[str, str] | None = None, **how: Any) -> Daemon:
        started.append(Daemon(place, arguments, environment or {}, **how))
        return started[-1]

    yield launch_one
    for daemon in started:
        daemon.kill()


@pytest.fixture
def start(launch: Callable[..., Daemon]) -> Callable[..., Daemon]:
    """Starts daemons; all of them are gone afterwards."""

    def start_one(*arguments: str, name: str = "", data: Path | None = None) -> Daemon:
        return launch(*arguments, name=name, data=data).wait_until_ready()

    return start_one


@pytest.fixture
def daemon(start: Callable[..., Daemon]) -> Daemon:
    return start("--storage", "memory")


@pytest.fixture
def raw(daemon: Daemon) -> Iterator[Raw]:
    with Raw(daemon.ipc) as client:
        yield client


@pytest.fixture
def server(place: Path) -> Iterator[Server]:
    """A store that speaks Anna's protocol."""
    server = Server(place / "anna")
    yield server
    server.kill()


@pytest.fixture
def cluster_of(launch: Callable[..., Daemon], server: Server) -> Iterator[Callable[..., Cluster]]:
    """Starts so many nodes on the store, each with the options given."""
    made: list[Cluster] = []

    def cluster_of(count: int, *options: str) -> Cluster:
        made.append(Cluster(launch, server, on_this_machine(count), *options))
        return made[-1]

    yield cluster_of
    for cluster in made:
        cluster.close()


@pytest.fixture
def cluster(cluster_of: Callable[..., Cluster]) -> Cluster:
    """Three nodes that tell each other of commits."""
    return cluster_of(3)


@pytest.fixture
def store(server: Server) -> Iterator[Reader]:
    reader = Reader(server.routing)
    yield reader
    reader.close()


@pytest.fixture
def offset() -> str:
    """Makes the node's name this test's own on an Anna that others use."""
    return free_offset()


@pytest.fixture
def serve(server: Server, start: Callable[..., Daemon], offset: str) -> Callable[..., Daemon]:
    """Starts the same sidecar on the store, again and again."""

    def serve_one(*arguments: str) -> Daemon:
        return start(*storage(server, "--port-offset", offset, "--anna-lands-within", "1", *arguments))

    return serve_one


@pytest.fixture
def sidecar(serve: Callable[..., Daemon]) -> Daemon:
    return serve()


@pytest.fixture
def executor(sidecar: Daemon) -> Iterator[Raw]:
    with Raw(sidecar.ipc) as raw:
        yield raw


@pytest.fixture
def prefix() -> str:
    """What the names of a test begin with: the store may hold those of others."""
    return f"e2e-{uuid.uuid4().hex}-"
