"""The example that shows what all this is for, and that it would notice if it were not so."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from daemon import Daemon, until

BANK = Path(__file__).parents[2] / "python/examples/bank.py"
FAULTS = ("fractured reads", "transfers logged twice", "transfers lost", "accounts wrong at the end")


def run(daemon: Daemon, *arguments: str) -> tuple[int, dict[str, tuple[int, int]]]:
    """The exit status, and what the table says of faults with and without aft."""
    done = subprocess.run(
        [sys.executable, str(BANK), *arguments],
        env={**os.environ, "AFT_IPC_DIR": str(daemon.ipc)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "/60 transfers" in done.stderr, "it shows how far it is"
    rows = {line[:34].strip(): line[34:].split() for line in done.stdout.splitlines()}
    assert int(rows["functions started"][0]) > 60
    assert int(rows["pairs read"][0]) > 50
    return done.returncode, {name: (int(rows[name][0]), int(rows[name][1])) for name in FAULTS}


def test_nothing_is_done_by_half_or_twice(start: Callable[..., Daemon]) -> None:
    status, faults = run(start(), "--transfers", "60")
    assert status == 0
    assert {name: with_ for name, (with_, _) in faults.items()} == dict.fromkeys(FAULTS, 0)
    assert faults["fractured reads"][1] > 0, "without aft they are seen"
    assert faults["accounts wrong at the end"][1] > 0


def test_it_notices_when_reads_are_not_atomic(start: Callable[..., Daemon]) -> None:
    daemon = start("--consistency", "lww", "--storage", "memory")

    def is_noticed() -> bool:
        status, faults = run(daemon, "--transfers", "60", "--kill-share", "0.1")
        assert (status != 0) == any(with_ for with_, _ in faults.values())
        return status != 0

    until(is_noticed, 60)
