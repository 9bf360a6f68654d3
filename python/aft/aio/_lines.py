"""Lines to the sidecar for an asyncio client; the twin of the blocking client's."""

from __future__ import annotations

import asyncio
import socket
import time
from abc import ABC, abstractmethod
from typing import Any

import zmq

from aft import _ipc
from aft._calls import NUMBERS, Answers
from aft._ipc import CALL, Door, IpcDir
from aft._requests import Kind, Request
from aft._sockets import BUSY_S, GRACE_S, LOOK_S, Inlet, open_outlet
from aft.aio import _wait


class Line(ABC):
    """One request at a time."""

    @abstractmethod
    def leads_to(self, door: Door) -> bool:
        """Whether it can be used for requests to this socket of the sidecar's."""

    @abstractmethod
    async def send(self, request: Request[Any], door: Door, until: float) -> None:
        """Hand a request over to the sidecar; or raise, and it was not sent."""

    @abstractmethod
    async def receive(self, request: Request[Any], until: float) -> bytes | None:
        """Wait for a message. ``None`` if none comes in time; raises if none can come any more."""

    @abstractmethod
    def close(self) -> None:
        """Close it."""


class Call(Line):
    """A connection for requests and their answers."""

    def __init__(self, directory: IpcDir, door: Door) -> None:
        self._directory = directory
        self._door = door
        self._connection: socket.socket | None = None
        self._answers = Answers()
        self._number = 0

    def leads_to(self, door: Door) -> bool:
        return door == self._door

    async def send(self, request: Request[Any], door: Door, until: float) -> None:
        self._number = (self._number + 1) % NUMBERS
        try:
            connection = self._connection or await self._connect(until)
            await _wait.send_all(connection, request.called(self._number), until)
        except BaseException as error:
            # What has left is a part of a request at most.
            self.close()
            if isinstance(error, OSError):
                raise self._directory.unsent(error, request.about) from error
            raise

    async def _connect(self, until: float) -> socket.socket:
        connection = self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        while True:
            try:
                connection.connect(self._directory.path_of(CALL))
            except BlockingIOError:
                # Many connect at this moment.
                if time.monotonic() > until:
                    raise TimeoutError from None
                await asyncio.sleep(BUSY_S)
            else:
                return connection

    async def receive(self, request: Request[Any], until: float) -> bytes | None:
        while True:
            found = self._answers.take()
            if found is None:
                if not await self._read(request, until):
                    return None
            elif found[0] == self._number:
                return found[1]

    async def _read(self, request: Request[Any], until: float) -> bool:
        if self._connection is None:
            return False
        try:
            data = await _wait.receive_some(self._connection, self._answers.read_next(), until)
        except OSError:
            data = b""
        if data is None:
            return False
        if not data:
            raise _ipc.bereaved(request.about)
        self._answers.feed(data)
        return True

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._answers = None, Answers()


class Addressed(Line):
    """A socket for answers; requests share those of the client."""

    def __init__(self, directory: IpcDir, outlets: Outlets) -> None:
        self._directory = directory
        self._inlet = Inlet(outlets.context, directory)
        self._outlets = outlets
        self._door: Door | None = None

    def leads_to(self, door: Door) -> bool:
        return door.name != CALL and self._inlet.is_reachable()

    async def send(self, request: Request[Any], door: Door, until: float) -> None:
        self._door = door
        await self._outlets.send(request, self._inlet.address, until)

    async def receive(self, request: Request[Any], until: float) -> bytes | None:
        while (now := time.monotonic()) < until:
            message = await _wait.receive(self._inlet.socket, min(until, now + LOOK_S))
            if message is not None:
                return message
            if self._door is not None and self._directory.is_gone(self._door):
                raise _ipc.bereaved(request.about)
        return None

    def close(self) -> None:
        self._inlet.close()


class Outlets:
    """A socket for each kind of request, shared by all tasks, so that there are few of them."""

    def __init__(self, context: zmq.Context[Any], directory: IpcDir) -> None:
        self.context = context
        self._directory = directory
        self._sockets: dict[Kind, zmq.Socket[Any]] = {}
        self._locks = {kind: asyncio.Lock() for kind in Kind}

    async def send(self, request: Request[Any], reply_to: str, until: float) -> None:
        """As `Line.send`; the answer is to go to ``reply_to``."""
        kind = request.kind
        message = request.encode(reply_to)
        async with self._locks[kind]:
            if kind not in self._sockets:
                self._sockets[kind] = open_outlet(self.context, self._directory, kind)
            try:
                why = await self._send(self._sockets[kind], message, kind, until)
            except zmq.ZMQError as error:
                why = f"the request cannot be sent: {error}"
        if why is not None:
            raise _ipc.unreachable(why, request.about)

    async def _send(
        self, socket: zmq.Socket[Any], message: bytes, kind: Kind, until: float
    ) -> str | None:
        if await _wait.send(socket, message, min(until, time.monotonic() + GRACE_S)):
            return None
        why = self._directory.why_unreachable(kind.value)
        if why is None and await _wait.send(socket, message, until):
            return None
        return why or "the sidecar takes no requests"

    def close(self) -> None:
        """Close all sockets."""
        for outlet in self._sockets.values():
            outlet.close()
        self._sockets.clear()
        self.context.term()
