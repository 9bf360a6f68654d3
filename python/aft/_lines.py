"""Lines to the sidecar for a blocking client: a request leaves by one, and its answer arrives there.

A sidecar that has the socket ``call`` takes all requests there and answers on the same connection. One
that has only a socket for each kind of request, as the original's, wants to be told a socket of ours.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import zmq

from aft import _ipc
from aft._ipc import CALL, IpcDir
from aft._requests import Kind, Request
from aft._sockets import GRACE_S, Inlet, dealer, left_ms, milliseconds, outlet


class Line(ABC):
    """One request at a time."""

    socket: zmq.Socket[Any]
    """Where the answer arrives."""

    @abstractmethod
    def leads_to(self, door: str) -> bool:
        """Whether it can be used for requests to this socket of the sidecar's."""

    @abstractmethod
    def send(self, request: Request[Any], until: float) -> None:
        """Hand a request over to libzmq, connected to the sidecar; or raise, and it was not sent."""

    @abstractmethod
    def close(self) -> None:
        """Close it."""


class Call(Line):
    """A connection of its own, for requests and answers."""

    def __init__(self, context: zmq.Context[Any], directory: IpcDir) -> None:
        self._directory = directory
        self.socket = dealer(context, directory)

    def leads_to(self, door: str) -> bool:
        return door == CALL

    def send(self, request: Request[Any], until: float) -> None:
        _send(self.socket, request.called(), self._directory, CALL, request, until)

    def close(self) -> None:
        self.socket.close()


class Addressed(Line):
    """A socket for answers; requests share those of the client."""

    def __init__(self, context: zmq.Context[Any], directory: IpcDir, outlets: Outlets) -> None:
        self._inlet = Inlet(context, directory)
        self._outlets = outlets
        self.socket = self._inlet.socket

    def leads_to(self, door: str) -> bool:
        return door != CALL and self._inlet.is_reachable()

    def send(self, request: Request[Any], until: float) -> None:
        self._outlets.send(request, self._inlet.address, until)

    def close(self) -> None:
        self._inlet.close()


class Outlets:
    """A socket for each kind of request, shared by all threads, so that there are few of them."""

    def __init__(self, context: zmq.Context[Any], directory: IpcDir) -> None:
        self._context = context
        self._directory = directory
        self._sockets: dict[Kind, zmq.Socket[Any]] = {}
        self._locks = {kind: threading.Lock() for kind in Kind}

    def send(self, request: Request[Any], reply_to: str, until: float) -> None:
        """As `Line.send`; the answer is to go to ``reply_to``."""
        kind = request.kind
        frames = [request.encode(reply_to)]
        if not self._locks[kind].acquire(timeout=max(until - time.monotonic(), 0)):
            raise _ipc.unreachable("the sidecar takes no requests", request.about)
        try:
            if kind not in self._sockets:
                self._sockets[kind] = outlet(self._context, self._directory, kind)
            _send(self._sockets[kind], frames, self._directory, kind.value, request, until)
        finally:
            self._locks[kind].release()

    def close(self) -> None:
        """Close all sockets; nobody may be sending."""
        for socket in self._sockets.values():
            socket.close()
        self._sockets.clear()


def _send(
    socket: zmq.Socket[Any],
    frames: Sequence[bytes],
    directory: IpcDir,
    door: str,
    request: Request[Any],
    until: float,
) -> None:
    try:
        try:
            socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            _wait_for_sidecar(socket, directory, door, request, until)
            socket.send_multipart(frames, zmq.NOBLOCK)
    except zmq.ZMQError as error:
        raise _ipc.unreachable(f"the request cannot be sent: {error}", request.about) from error


def _wait_for_sidecar(
    socket: zmq.Socket[Any], directory: IpcDir, door: str, request: Request[Any], until: float
) -> None:
    if socket.poll(min(milliseconds(GRACE_S), left_ms(until)), zmq.POLLOUT):
        return
    why = directory.why_unreachable(door)
    if why is None and socket.poll(left_ms(until), zmq.POLLOUT):
        return
    raise _ipc.unreachable(why or "the sidecar takes no requests", request.about)
