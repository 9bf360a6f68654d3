"""ZeroMQ sockets as the sidecar needs them; the same for the blocking and the asyncio client."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import zmq

from aft import _ipc
from aft._ipc import IpcDir
from aft._requests import Kind

GRACE_S = 0.05
"""A new connection takes a moment; only after this long the sidecar's socket is looked at closely."""

LOOK_S = 0.2
"""How often, while waiting for an answer, to see whether the sidecar still lives."""

BUSY_S = 0.002
"""A pause before it is tried again, where more clients connect than the sidecar lets in."""

_SHARED_MODE = 0o660
"""The sidecar may run as another user of the same group, and must be able to connect."""


class Inlet:
    """A socket for answers. One request at a time names its address."""

    def __init__(self, context: zmq.Context[Any], directory: IpcDir) -> None:
        self._path = directory.new_reply_path()
        self._pid = os.getpid()
        self.address = f"ipc://{self._path}"
        self.socket: zmq.Socket[Any] = context.socket(zmq.PULL)
        self.socket.linger = 0
        try:
            self.socket.bind(self.address)
            os.chmod(self._path, _SHARED_MODE)
        except (zmq.ZMQError, OSError) as error:
            self.close()
            why = directory.why_unusable() or f"no socket for answers can be made: {error}"
            raise _ipc.unreachable(why, None) from error

    def is_reachable(self) -> bool:
        """Whether its file is still there; somebody may have emptied the directory."""
        return os.path.exists(self._path)

    def close(self) -> None:
        """Close it and remove its file. Does nothing to what a parent process owns."""
        if self._pid == os.getpid():
            self.socket.close()
            Path(self._path).unlink(missing_ok=True)


def open_outlet(context: zmq.Context[Any], directory: IpcDir, kind: Kind) -> zmq.Socket[Any]:
    """Open a socket for requests of this kind."""
    socket: zmq.Socket[Any] = context.socket(zmq.PUSH)
    socket.linger = 0
    # Requests go to a sidecar that is there or nowhere: none waits here to surprise one that is
    # started later.
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, 20)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
    socket.connect(f"ipc://{directory.path_of(kind.value)}")
    return socket


def with_room(context: zmq.Context[Any]) -> zmq.Context[Any]:
    """Let a context hold as many sockets as libzmq can."""
    context.set(zmq.MAX_SOCKETS, context.get(zmq.SOCKET_LIMIT))
    return context


def milliseconds(seconds: float) -> int:
    """Round a wait up, so that what is left of it never becomes a busy loop."""
    return max(0, int(seconds * 1000 + 0.999))


def left_ms(until: float) -> int:
    """How much of a wait is left, on the monotonic clock."""
    return milliseconds(until - time.monotonic())
