"""The examples run, against the in-memory sidecar on real sockets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.responder import Responder

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("quickstart.py", "still:   b'Ada'"),
        ("retry.py", "delivery 3: already placed"),
        ("async_.py", "100 sensors are on"),
        ("cloudburst_style.py", "read: nobody yet"),
    ],
)
def test_example(name: str, says: str, ipc_dir: Path, responder: Responder) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        env={**os.environ, "AFT_IPC_DIR": str(ipc_dir)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert says in done.stdout


@pytest.mark.parametrize("calls", [True], indirect=True)
def test_without_the_client(ipc_dir: Path, responder: Responder) -> None:
    test_example("without_client.py", "found:     b'Ada'", ipc_dir, responder)
