"""Requests on their way out: one blocking socket for each kind, shared by all threads."""

from __future__ import annotations

import threading
import time
from typing import Any

import zmq

from aft import _ipc
from aft._ipc import IpcDir
from aft._requests import Kind, Request
from aft._sockets import GRACE_S, left_ms, milliseconds, outlet


class Outlets:
    """The sockets to the sidecar. Sharing them keeps the number of open files per thread small."""

    def __init__(self, context: zmq.Context[Any], directory: IpcDir) -> None:
        self._context = context
        self._directory = directory
        self._sockets: dict[Kind, zmq.Socket[Any]] = {}
        self._locks = {kind: threading.Lock() for kind in Kind}

    def send(self, request: Request[Any], reply_to: str, until: float) -> None:
        """Hand a request over to libzmq, connected to the sidecar; or raise, and it was not sent."""
        frame = request.encode(reply_to)
        lock = self._locks[request.kind]
        if not lock.acquire(timeout=max(until - time.monotonic(), 0)):
            raise _ipc.unreachable("the sidecar takes no requests", request.about)
        try:
            socket = self._socket(request.kind)
            try:
                socket.send(frame, zmq.NOBLOCK)
            except zmq.Again:
                self._wait_for_sidecar(socket, request, until)
                socket.send(frame, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            raise _ipc.unreachable(f"the request cannot be sent: {error}", request.about) from error
        finally:
            lock.release()

    def close(self) -> None:
        """Close all sockets; nobody may be sending."""
        for socket in self._sockets.values():
            socket.close()
        self._sockets.clear()

    def _socket(self, kind: Kind) -> zmq.Socket[Any]:
        if kind not in self._sockets:
            self._sockets[kind] = outlet(self._context, self._directory, kind)
        return self._sockets[kind]

    def _wait_for_sidecar(self, socket: zmq.Socket[Any], request: Request[Any], until: float) -> None:
        if socket.poll(min(milliseconds(GRACE_S), left_ms(until)), zmq.POLLOUT):
            return
        why = self._directory.why_unreachable(request.kind)
        if why is None and socket.poll(left_ms(until), zmq.POLLOUT):
            return
        raise _ipc.unreachable(why or "the sidecar takes no requests", request.about)
