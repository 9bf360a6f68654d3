"""`scripts/cluster` as operators use it, with the examples that need it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from daemon import BINARY

ROOT = Path(__file__).parents[2]
Run: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def directory(place: Path) -> Path:
    return place / "c"


@pytest.fixture
def run(directory: Path) -> Iterator[Run]:
    environment = {
        **os.environ,
        "AFT_BIN": BINARY,
        "AFT_CLUSTER_DIR": str(directory),
        # Not where somebody's own cluster may be.
        "AFT_CLUSTER_OFFSET": str(random.randrange(5000, 19000)),
    }

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    yield run
    run(str(ROOT / "scripts/cluster"), "down")


@pytest.fixture
def script(run: Run) -> Callable[..., str]:
    def script(*arguments: str, fails: bool = False) -> str:
        ended = run(str(ROOT / "scripts/cluster"), *arguments)
        assert (ended.returncode != 0) == fails, ended.stdout + ended.stderr
        return ended.stderr if fails else ended.stdout

    return script


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines() if line[:1].isdigit()]


def processes(directory: Path) -> list[str]:
    """Those whose command names the directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{directory}/" in command:
            found.append(command)
    return found


def test_a_cluster_is_run(run: Run, script: Callable[..., str], directory: Path) -> None:
    first = rows(script("up"))
    assert [row[0] for row in first] == ["1", "2", "3"]
    for name, says in (
        ("chain.py", "node 3 reads all three"),
        ("fan_in.py", "at try 2"),
        ("session.py", "with it none"),
    ):
        ended = run(sys.executable, "-W", "error", str(ROOT / "python/examples" / name))
        assert (ended.returncode, ended.stderr) == (0, "")
        assert says in ended.stdout
    assert rows(script("up"))[0][3] == first[0][3], "what is up stays as it is"
    script("kill", "2")
    pids = [row[3] for row in rows(script("status"))]
    assert pids == [first[0][3], "dead", first[2][3]]
    again = rows(script("start", "2"))
    assert "dead" not in [row[3] for row in again]
    assert again[1][1:3] == first[1][1:3], "at the same address"
    ended = run(sys.executable, str(ROOT / "python/examples/chain.py"))
    assert ended.returncode == 0, ended.stderr
    assert len(processes(directory)) == 4
    script("down")
    assert processes(directory) == []
    assert not directory.exists()


def test_what_is_wrong_is_said(script: Callable[..., str], directory: Path) -> None:
    assert "nothing is up" in script("status", fails=True)
    assert "nothing is up" in script("down")
    assert "not 'many'" in script("up", "many", fails=True)
    script("up", "1")
    assert "a cluster of 1" in script("up", "2", fails=True)
    assert "One from 1 to 1" in script("kill", "2", fails=True)
    assert len(rows(script("status"))) == 1
    assert script("sideways", fails=True) == ""


def test_what_cannot_be_started_leaves_nothing(
    run: Run, script: Callable[..., str], directory: Path
) -> None:
    ended = run("env", "AFT_CLUSTER_OFFSET=60000", str(ROOT / "scripts/cluster"), "up", "2")
    assert ended.returncode == 1
    assert "port-offset" in ended.stderr, "the node's own words"
    assert processes(directory) == []
    assert not directory.exists()
