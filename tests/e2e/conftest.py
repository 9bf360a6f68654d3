"""Fixtures: a real daemon in a directory of its own, and raw clients that know only the wire."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon import Daemon
from wire import Raw


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="aft-e2e-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., Daemon]]:
    """Starts daemons; all of them are gone afterwards."""
    started: list[Daemon] = []

    def start_one(*arguments: str, name: str = "", data: Path | None = None) -> Daemon:
        daemon = Daemon(place, arguments, {}, name, data)
        started.append(daemon)
        return daemon.wait_until_ready()

    yield start_one
    for daemon in started:
        daemon.kill()


@pytest.fixture
def daemon(start: Callable[..., Daemon]) -> Daemon:
    return start("--storage", "memory")


@pytest.fixture
def raw(daemon: Daemon) -> Iterator[Raw]:
    with Raw(daemon.ipc) as client:
        yield client
