"""Runs the daemon that is under test: the binary that AFT_BIN names."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

BINARY = os.environ.get("AFT_BIN") or str(Path(__file__).parents[2] / "target/debug/aft")


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Waits until a condition holds, and answers it."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return result


class Served:
    """A process that says when it is ready and has an admin endpoint; `log` is where its log goes.

    `on` is a command that runs commands, elsewhere.
    """

    def __init__(
        self,
        log: Path,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        on: Sequence[str] = (),
    ) -> None:
        self.log = log
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                [*on, BINARY, *command, "--admin", "127.0.0.1:0"],
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env={**os.environ, **(environment or {})},
            )
        self.ready = ""

    def wait_until_ready(self) -> Self:
        assert self.process.stdout
        self.ready = self.process.stdout.readline()
        assert self.ready.startswith("ready"), f"not ready: {self.logged()}"
        return self

    def logged(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def admin_address(self) -> str:
        match = re.search(r"admin=(\S+)", self.ready)
        assert match
        return match[1]

    def admin(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.admin_address}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.admin("/status")))

    def counter(self, name: str) -> float:
        """The sum of a counter over its labels."""
        lines = self.admin("/metrics").splitlines()
        return sum(float(line.split()[-1]) for line in lines if re.match(rf"{name}[{{ ]", line))

    def rss_bytes(self) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert match
        return int(match[1]) * 1024

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def terminate(self, seconds: float = 8.0) -> int:
        self.process.terminate()
        return self.process.wait(seconds)

    def kill(self) -> None:
        """What `kill -9` does, and waits for it."""
        if self.is_alive():
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


class Daemon(Served):
    """A sidecar, with its sockets in `ipc` and its store in `data` below a directory.

    Those with another `name` have sockets of their own.
    """

    def __init__(
        self,
        place: Path,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        name: str = "",
        data: Path | None = None,
        on: Sequence[str] = (),
    ) -> None:
        self.arguments = tuple(arguments)
        self.ipc, self.data = place / (name + "ipc"), data or place / "data"
        given = ["sidecar", "--ipc-dir", str(self.ipc), "--data-dir", str(self.data)]
        super().__init__(place / (name + "log"), [*given, *arguments], environment, on)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command that ends by itself."""
    return subprocess.run(
        [BINARY, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **environment},
        check=False,
    )
