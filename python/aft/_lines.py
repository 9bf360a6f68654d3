"""Lines to the sidecar for a blocking client: a request leaves by one, and its answer arrives there.

A sidecar that has the socket ``call`` takes all requests there and answers on the same connection. One
that has only a ZeroMQ socket for each kind of request, as the original's, wants to be told one of ours.
"""

from __future__ import annotations

import socket
import threading
import time
from abc import ABC, abstractmethod
from typing import Any

import zmq

from aft import _ipc
from aft._calls import NUMBERS, Answers
from aft._ipc import CALL, Door, IpcDir
from aft._requests import Kind, Request
from aft._sockets import BUSY_S, GRACE_S, LOOK_S, Inlet, left_ms, milliseconds, open_outlet


class Line(ABC):
    """One request at a time."""

    @abstractmethod
    def leads_to(self, door: Door) -> bool:
        """Whether it can be used for requests to this socket of the sidecar's."""

    @abstractmethod
    def send(self, request: Request[Any], door: Door, until: float) -> None:
        """Hand a request over to the sidecar; or raise, and it was not sent."""

    @abstractmethod
    def receive(self, request: Request[Any], until: float) -> bytes | None:
        """Wait for a message. ``None`` if none comes in time; raises if none can come any more."""

    @abstractmethod
    def close(self) -> None:
        """Close it."""

    @abstractmethod
    def leave_to_parent(self) -> None:
        """Let go of it in a process that was forked."""


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

    def send(self, request: Request[Any], door: Door, until: float) -> None:
        self._number = (self._number + 1) % NUMBERS
        try:
            connection = self._connection or self._connect(request, until)
            connection.settimeout(_left_s(until))
            connection.sendall(request.called(self._number))
        except BaseException as error:
            # What has left is a part of a request at most.
            self.close()
            if isinstance(error, OSError):
                raise self._directory.unsent(error, request.about) from error
            raise

    def _connect(self, request: Request[Any], until: float) -> socket.socket:
        connection = self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(_left_s(until))
        while True:
            try:
                connection.connect(self._directory.path_of(CALL))
            except BlockingIOError:
                # Many connect at this moment.
                if time.monotonic() > until:
                    raise TimeoutError from None
                time.sleep(BUSY_S)
            else:
                return connection

    def receive(self, request: Request[Any], until: float) -> bytes | None:
        while True:
            found = self._answers.take()
            if found is None:
                if not self._read(request, until):
                    return None
            elif found[0] == self._number:
                return found[1]

    def _read(self, request: Request[Any], until: float) -> bool:
        if self._connection is None or time.monotonic() >= until:
            return False
        self._connection.settimeout(_left_s(until))
        try:
            data = self._connection.recv(self._answers.read_next())
        except TimeoutError:
            return False
        except ConnectionError:
            data = b""
        if not data:
            raise _ipc.bereaved(request.about)
        self._answers.feed(data)
        return True

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._answers = None, Answers()

    def leave_to_parent(self) -> None:
        # The connection itself goes on, as the parent has it open.
        self.close()


class Addressed(Line):
    """A socket for answers; requests share those of the client."""

    def __init__(self, directory: IpcDir, outlets: Outlets) -> None:
        self._directory = directory
        self._inlet = Inlet(outlets.context, directory)
        self._outlets = outlets
        self._door: Door | None = None

    def leads_to(self, door: Door) -> bool:
        return door.name != CALL and self._inlet.is_reachable()

    def send(self, request: Request[Any], door: Door, until: float) -> None:
        self._door = door
        self._outlets.send(request, self._inlet.address, until)

    def receive(self, request: Request[Any], until: float) -> bytes | None:
        while (wait_ms := min(milliseconds(LOOK_S), left_ms(until))) > 0:
            self._inlet.socket.rcvtimeo = wait_ms
            try:
                return self._inlet.socket.recv()
            except zmq.Again:
                if self._door is not None and self._directory.is_gone(self._door):
                    raise _ipc.bereaved(request.about) from None
        return None

    def close(self) -> None:
        self._inlet.close()

    def leave_to_parent(self) -> None:
        # A socket of ZeroMQ must not be touched here.
        pass


class Outlets:
    """A socket for each kind of request, shared by all threads, so that there are few of them."""

    def __init__(self, context: zmq.Context[Any], directory: IpcDir) -> None:
        self.context = context
        self._directory = directory
        self._sockets: dict[Kind, zmq.Socket[Any]] = {}
        self._locks = {kind: threading.Lock() for kind in Kind}

    def send(self, request: Request[Any], reply_to: str, until: float) -> None:
        """As `Line.send`; the answer is to go to ``reply_to``."""
        kind = request.kind
        message = request.encode(reply_to)
        if not self._locks[kind].acquire(timeout=max(until - time.monotonic(), 0)):
            raise _ipc.unreachable("the sidecar takes no requests", request.about)
        try:
            if kind not in self._sockets:
                self._sockets[kind] = open_outlet(self.context, self._directory, kind)
            self._send(self._sockets[kind], message, request, until)
        except zmq.ZMQError as error:
            raise _ipc.unreachable(f"the request cannot be sent: {error}", request.about) from error
        finally:
            self._locks[kind].release()

    def _send(
        self, socket: zmq.Socket[Any], message: bytes, request: Request[Any], until: float
    ) -> None:
        try:
            socket.send(message, zmq.NOBLOCK)
        except zmq.Again:
            self._wait_for_sidecar(socket, request, until)
            socket.send(message, zmq.NOBLOCK)

    def _wait_for_sidecar(self, socket: zmq.Socket[Any], request: Request[Any], until: float) -> None:
        if socket.poll(min(milliseconds(GRACE_S), left_ms(until)), zmq.POLLOUT):
            return
        why = self._directory.why_unreachable(request.kind.value)
        if why is None and socket.poll(left_ms(until), zmq.POLLOUT):
            return
        raise _ipc.unreachable(why or "the sidecar takes no requests", request.about)

    def close(self) -> None:
        """Close all sockets; nobody may be sending."""
        for outlet in self._sockets.values():
            outlet.close()
        self._sockets.clear()
        self.context.term()


def _left_s(until: float) -> float:
    """How much of a wait is left, and never nothing: that would mean not to wait at all."""
    return max(until - time.monotonic(), 0.001)
