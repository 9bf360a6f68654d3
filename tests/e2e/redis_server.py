"""Redis servers on free ports, in directories of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from daemon import until
from ports import free_port


class Redis:
    """A server, or with `sentinel` one that watches a master."""

    def __init__(self, place: Path, *options: str, sentinel: bool = False) -> None:
        self.port = free_port()
        self.place = place / f"redis-{self.port}"
        self.place.mkdir()
        self.options = [*options, *(["--sentinel"] if sentinel else ["--save", ""])]
        # A sentinel writes what it learns into its configuration.
        self.file = self.place / "redis.conf"
        self.file.write_text("")
        self.password = ""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self, *, plain: bool = True) -> Redis:
        """Starts it, again if it was killed."""
        port = ["--port", str(self.port)] if plain else ["--port", "0", "--tls-port", str(self.port)]
        arguments: Sequence[str] = [str(self.file), *port, "--dir", str(self.place), *self.options]
        self.process = subprocess.Popen(
            ["redis-server", *arguments], stdout=(self.place / "log").open("ab")
        )
        if plain:
            until(lambda: self.cli("PING") == "PONG")
        else:
            until(lambda: "Ready to accept" in (self.place / "log").read_text())
        return self

    def cli(self, *arguments: str) -> str:
        command = ["redis-cli", "-p", str(self.port), *arguments]
        if self.password:
            command[3:3] = ["--no-auth-warning", "-a", self.password]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
