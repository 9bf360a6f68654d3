"""A sidecar in a Python thread, over real sockets, that can be told to misbehave."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import zmq

from aft._ipc import CALL
from aft._requests import Kind
from aft.testing._node import Node

# Takes the reply address and the reply; gives what to send, where, and in which order.
Mischief: TypeAlias = Callable[[str, bytes], list[tuple[str, bytes]]]


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class Caller:
    """A connection to ``call``, from the sidecar's side."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._received = b""

    def requests(self) -> list[tuple[int, Kind, bytes]] | None:
        """Take what has come; ``None`` at the end of the connection."""
        data = self.connection.recv(1 << 20)
        if not data:
            return None
        self._received += data
        found = []
        while len(self._received) >= 9:
            length, number, code = struct.unpack_from(">IIB", self._received)
            if len(self._received) < 4 + length:
                break
            found.append((number, list(Kind)[code - 1], self._received[9 : 4 + length]))
            self._received = self._received[4 + length :]
        return found

    def answer(self, number: int, reply: bytes) -> None:
        # A client that has given up is gone.
        with contextlib.suppress(OSError):
            self.connection.sendall(struct.pack(">II", 4 + len(reply), number) + reply)


class Responder:
    """Answers like a sidecar, except where a mischief is planned for the next request of a kind.

    If it takes no calls it has a socket for each kind of request only, as the original's.
    """

    def __init__(self, directory: Path, calls: bool = True) -> None:
        self.directory = directory
        self._calls = calls
        self.node = Node()
        self.held: list[tuple[str, bytes]] = []
        self.seen: dict[Kind, list[bytes]] = defaultdict(list)
        self._mischief: dict[Kind, deque[Mischief]] = defaultdict(deque)
        self._context: zmq.Context[Any] = zmq.Context()
        self._listener: socket.socket | None = None
        self.callers: dict[int, Caller] = {}
        self._pushes: dict[str, zmq.Socket[Any]] = {}
        self._control = self._context.socket(zmq.PAIR)
        self._control.bind("inproc://control")
        self._thread = threading.Thread(target=self._serve)
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread.start()
        assert self._ready.wait(10)

    def next(self, kind: Kind, mischief: Mischief, times: int = 1) -> None:
        """Let the next answers of this kind go wrong."""
        self._mischief[kind].extend([mischief] * times)

    def hold(self, address: str, reply: bytes) -> list[tuple[str, bytes]]:
        """A mischief: keep the answer back until `release`."""
        self.held.append((address, reply))
        return []

    def release(self) -> None:
        """Send the answers that were kept back, and wait until they were handed over."""
        self._tell(b"release")

    def close(self) -> None:
        self._tell(b"stop")
        self._thread.join(10)
        self._control.close()
        self._context.term()
        if self._failure is not None:
            raise self._failure

    def _tell(self, what: bytes) -> None:
        self._control.send(what)
        assert self._control.poll(10_000)
        self._control.recv()

    def _serve(self) -> None:
        control = self._context.socket(zmq.PAIR)
        control.connect("inproc://control")
        pulls = {kind: self._context.socket(zmq.PULL) for kind in Kind}
        poller = zmq.Poller()
        poller.register(control, zmq.POLLIN)
        if self._calls:
            path = Path(self.directory) / CALL
            path.unlink(missing_ok=True)
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(str(path))
            self._listener.listen()
            poller.register(self._listener, zmq.POLLIN)
        for kind, pull in pulls.items():
            pull.bind(f"ipc://{self.directory}/{kind.value}")
            poller.register(pull, zmq.POLLIN)
        self._ready.set()
        try:
            self._loop(control, pulls, poller)
        except BaseException as failure:
            self._failure = failure
        for used in (*pulls.values(), *self._pushes.values()):
            used.close(linger=0)
        for caller in self.callers.values():
            caller.connection.close()
        if self._listener is not None:
            self._listener.close()
        control.send(b"done")
        control.close()

    def _loop(self, control: Any, pulls: Any, poller: Any) -> None:
        while True:
            ready = dict(poller.poll())
            for kind, pull in pulls.items():
                if pull in ready:
                    self._answer(kind, pull.recv())
            if self._listener is not None and self._listener.fileno() in ready:
                caller = Caller(self._listener.accept()[0])
                self.callers[caller.connection.fileno()] = caller
                poller.register(caller.connection, zmq.POLLIN)
                continue
            for descriptor in ready.keys() & self.callers.keys():
                self._serve_caller(descriptor, poller)
            if control in ready:
                if control.recv() == b"stop":
                    return
                self._send(self.held)
                self.held.clear()
                control.send(b"done")

    def _serve_caller(self, descriptor: int, poller: Any) -> None:
        caller = self.callers[descriptor]
        requests = caller.requests()
        if requests is None:
            poller.unregister(caller.connection)
            self.callers.pop(descriptor).connection.close()
            return
        for number, kind, message in requests:
            self._answer(kind, message, f"call:{descriptor}:{number}")

    def _answer(self, kind: Kind, frame: bytes, caller: str = "") -> None:
        self.seen[kind].append(frame)
        address, reply = self.node.answer(kind, frame)
        assert bool(caller) == (address == ""), "where to answer is said once"
        address = address or caller
        planned = self._mischief[kind]
        self._send(planned.popleft()(address, reply) if planned else [(address, reply)])

    def _send(self, replies: list[tuple[str, bytes]]) -> None:
        for address, reply in replies:
            if address.startswith("call:"):
                _, descriptor, number = address.split(":")
                if caller := self.callers.get(int(descriptor)):
                    caller.answer(int(number), reply)
                continue
            if address not in self._pushes:
                self._pushes[address] = self._context.socket(zmq.PUSH)
                self._pushes[address].connect(address)
            self._pushes[address].send(reply)
