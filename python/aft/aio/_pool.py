"""The sockets of an asyncio client: many conversations at once, in one event loop."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TypeVar

import zmq

from aft import _ipc
from aft._ipc import CALL, Door, IpcDir
from aft._requests import Request
from aft._sockets import with_room
from aft.aio._lines import Addressed, Call, Line, Outlets
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
        self._outlets: Outlets | None = None
        self._idle: list[Line] = []
        self._lent = 0
        self._is_closed = False

    def is_of_here(self) -> bool:
        """Whether they work in this loop and process."""
        return self._loop is asyncio.get_running_loop() and self._pid == os.getpid()

    def take(self, door: Door) -> Line:
        """Lend a line for one request."""
        while self._idle and not self._idle[-1].leads_to(door):
            self._idle.pop().close()
        line = self._idle.pop() if self._idle else self._new(door)
        self._lent += 1
        return line

    def give_back(self, line: Line, is_usable: bool) -> None:
        """Take a line back, or close it."""
        self._lent -= 1
        if is_usable:
            self._idle.append(line)
        else:
            line.close()
        if self._is_closed:
            self.close()

    def close(self) -> None:
        """Close all sockets that are not in use, and the others as soon as they are not.

        Does nothing to what a parent process owns.
        """
        if self._pid != os.getpid():
            return
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()
        if self._lent == 0 and self._outlets is not None:
            self._outlets.close()
            self._outlets = None

    def _new(self, door: Door) -> Line:
        if door.name == CALL:
            return Call(self._directory, door)
        if self._outlets is None:
            self._outlets = Outlets(with_room(zmq.Context()), self._directory)
        return Addressed(self._directory, self._outlets)


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
            door = self._directory.door(request.kind)
            line = sockets.take(door)
            answer = None
            is_sent = False
            try:
                await line.send(request, door, until)
                is_sent = True
                while answer is None and (message := await line.receive(request, until)) is not None:
                    answer = request.decode(message)
            finally:
                # Given up or cancelled: a late answer must reach nobody.
                sockets.give_back(line, is_usable=answer is not None or not is_sent)
        if answer is None:
            raise _ipc.unanswered(within_s, request.about)
        return answer

    def close(self) -> None:
        """Take no more requests. Those under way are answered, then their sockets are closed, too."""
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
