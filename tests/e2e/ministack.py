"""A server for DynamoDB and S3 for tests (ministack), which scripts/setup.sh installs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from daemon import until
from ports import free_port

#: What a server for tests takes for credentials.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def _program() -> str:
    beside = Path(sys.executable).parent / "ministack"
    found = str(beside) if beside.exists() else shutil.which("ministack")
    assert found, "ministack is not installed: scripts/test does so, or: pip install ministack"
    return found


class Ministack(ABC):
    """The server, and a store in it. It keeps what it holds when it is stopped and started again."""

    title: ClassVar[str]
    """How messages call the service."""
    option: ClassVar[str]
    """The option with the store's name."""
    used: ClassVar[str]
    """What /status counts when something is written."""
    name: str

    def __init__(self, place: Path, external: str | None) -> None:
        self.place = place
        self.is_ours = not external
        self.process: subprocess.Popen[bytes] | None = None
        if external:
            self.url = external
            return
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    @property
    @abstractmethod
    def options_without_create(self) -> list[str]:
        """What a sidecar is told to use this store, if it is there."""

    @property
    def options(self) -> list[str]:
        """The same, and to make it."""
        return [*self.options_without_create, "--create"]

    def start(self) -> None:
        self.place.mkdir(exist_ok=True)
        environment = {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "SERVICES": "dynamodb,s3",
            "PERSIST_STATE": "1",
            "STATE_DIR": str(self.place / "state"),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(self.place / "s3"),
            "LOG_LEVEL": "WARNING",
        }
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [_program()], stdout=log, stderr=log, env={**os.environ, **environment}
            )
        until(self._answers, 60)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """Ends it in good order, so that it writes down what it holds."""
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
            self.process = None

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
