"""The sockets of an asyncio client: many conversations at once, in one event loop."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, TypeVar

import zmq

from aft import _ipc
from aft._ipc import IpcDir
from aft._requests import Kind, Request
from aft._sockets import GRACE_S, LOOK_S, Inlet, outlet, with_room
from aft.aio import _wait
from aft.errors import InvalidRequest

R = TypeVar("R")

CONVERSATIONS_MAX = 128
"""How many requests may wait for their answers at once; each needs a socket. Others wait in line."""


class _Sockets:
    """What belongs to one event loop in one process."""

    def __init__(self, directory: IpcDir) -> None:
        self.turns = asyncio.Semaphore(CONVERSATIONS_MAX)
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._directory = directory
        self._context: zmq.Context[Any] = with_room(zmq.Context())
        self._outlets: dict[Kind, zmq.Socket[Any]] = {}
        self._locks = {kind: asyncio.Lock() for kind in Kind}
        self._idle: list[Inlet] = []
        self._lent: set[Inlet] = set()

    def is_of_here(self) -> bool:
        """Whether they work in this loop and process."""
        return self._loop is asyncio.get_running_loop() and self._pid == os.getpid()

    def take(self) -> Inlet:
        """Lend a socket for one answer."""
        while self._idle and not self._idle[-1].is_reachable():
            self._idle.pop().close()
        inlet = self._idle.pop() if self._idle else Inlet(self._context, self._directory)
        self._lent.add(inlet)
        return inlet

    def give_back(self, inlet: Inlet, is_usable: bool) -> None:
        """Take a socket back, or close it."""
        self._lent.discard(inlet)
        if is_usable:
            self._idle.append(inlet)
        else:
            inlet.close()

    async def send(self, request: Request[Any], reply_to: str, until: float) -> None:
        """Hand a request over to libzmq, connected to the sidecar; or raise, and it was not sent."""
        frame = request.encode(reply_to)
        try:
            async with self._locks[request.kind]:
                socket = self._outlet(request.kind)
                await self._send_when_connected(socket, frame, request, until)
        except zmq.ZMQError as error:
            raise _ipc.unreachable(f"the request cannot be sent: {error}", request.about) from error

    def close(self) -> None:
        """Close all sockets. Does nothing to what a parent process owns."""
        if self._pid != os.getpid():
            return
        for inlet in (*self._idle, *self._lent):
            inlet.close()
        self._idle.clear()
        for socket in self._outlets.values():
            socket.close()
        self._context.term()

    async def _send_when_connected(
        self, socket: zmq.Socket[Any], frame: bytes, request: Request[Any], until: float
    ) -> None:
        if await _wait.send(socket, frame, min(until, time.monotonic() + GRACE_S)):
            return
        why = self._directory.why_unreachable(request.kind)
        if why is None and await _wait.send(socket, frame, until):
            return
        raise _ipc.unreachable(why or "the sidecar takes no requests", request.about)

    def _outlet(self, kind: Kind) -> zmq.Socket[Any]:
        if kind not in self._outlets:
            self._outlets[kind] = outlet(self._context, self._directory, kind)
        return self._outlets[kind]


class AsyncPool:
    """The sockets of one client. Made anew when it is used in another event loop or process."""

    def __init__(self, directory: IpcDir) -> None:
        self._directory = directory
        self._is_closed = False
        self._sockets: _Sockets | None = None

    async def ask(self, request: Request[R], within_s: float) -> R:
        """Send a request and wait for its answer."""
        sockets = self._current()
        async with sockets.turns:
            until = time.monotonic() + within_s
            presence = self._directory.present(request.kind)
            inlet = sockets.take()
            answer = None
            is_sent = False
            try:
                await sockets.send(request, inlet.address, until)
                is_sent = True
                while answer is None and (now := time.monotonic()) < until:
                    answer = await _receive(inlet, request, min(until, now + LOOK_S))
                    if answer is None and self._directory.is_gone(request.kind, presence):
                        raise _ipc.bereaved(request.about)
            finally:
                # Given up or cancelled: a late answer must reach nobody.
                sockets.give_back(inlet, is_usable=answer is not None or not is_sent)
        if answer is None:
            raise _ipc.unanswered(within_s, request.about)
        return answer

    def close(self) -> None:
        """Close all sockets."""
        self._is_closed = True
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None

    def __del__(self) -> None:
        if getattr(self, "_sockets", None) is not None:
            self.close()

    def _current(self) -> _Sockets:
        if self._is_closed:
            raise InvalidRequest("the client is closed")
        if self._sockets is not None and not self._sockets.is_of_here():
            self._sockets.close()
            self._sockets = None
        if self._sockets is None:
            self._sockets = _Sockets(self._directory)
        return self._sockets


async def _receive(inlet: Inlet, request: Request[R], until: float) -> R | None:
    """Wait for the answer, and drop whatever else arrives."""
    while (frame := await _wait.receive(inlet.socket, until)) is not None:
        answer = request.decode(frame)
        if answer is not None:
            return answer
    return None
