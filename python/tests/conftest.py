from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import aft
from tests.responder import Responder


@pytest.fixture
def ipc_dir() -> Iterator[Path]:
    # Not tmp_path: its names can be too long for a Unix socket.
    directory = Path(tempfile.mkdtemp(prefix="aft"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=[True, False], ids=["called", "addressed"])
def calls(request: pytest.FixtureRequest) -> bool:
    """Whether the sidecar has a socket on which it answers callers, besides those of the original."""
    return bool(request.param)


@pytest.fixture
def responder(ipc_dir: Path, calls: bool) -> Iterator[Responder]:
    sidecar = Responder(ipc_dir, calls)
    yield sidecar
    sidecar.close()


@pytest.fixture
def client(ipc_dir: Path) -> Iterator[aft.Client]:
    with aft.Client(ipc_dir) as client:
        yield client
