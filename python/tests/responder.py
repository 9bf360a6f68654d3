"""A sidecar in a Python thread, over real ZeroMQ sockets, that can be told to misbehave."""

from __future__ import annotations

import threading
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
        router = self._context.socket(zmq.ROUTER)
        pulls = {kind: self._context.socket(zmq.PULL) for kind in Kind}
        pushes: dict[str, zmq.Socket[Any]] = {"": router}
        poller = zmq.Poller()
        poller.register(control, zmq.POLLIN)
        if self._calls:
            router.bind(f"ipc://{self.directory}/{CALL}")
            poller.register(router, zmq.POLLIN)
        for kind, pull in pulls.items():
            pull.bind(f"ipc://{self.directory}/{kind.value}")
            poller.register(pull, zmq.POLLIN)
        self._ready.set()
        try:
            self._loop(control, pulls, pushes, poller)
        except BaseException as failure:
            self._failure = failure
        for socket in (*pulls.values(), *pushes.values()):
            socket.close(linger=0)
        control.send(b"done")
        control.close()

    def _loop(self, control: Any, pulls: Any, pushes: dict[str, Any], poller: Any) -> None:
        while True:
            ready = dict(poller.poll())
            for kind, pull in pulls.items():
                if pull in ready:
                    self._answer(kind, pull.recv(), pushes)
            if pushes[""] in ready:
                caller, name, frame = pushes[""].recv_multipart()
                self._answer(Kind(name.decode()), frame, pushes, caller)
            if control in ready:
                if control.recv() == b"stop":
                    return
                self._send(self.held, pushes)
                self.held.clear()
                control.send(b"done")

    def _answer(self, kind: Kind, frame: bytes, pushes: dict[str, Any], caller: bytes = b"") -> None:
        self.seen[kind].append(frame)
        address, reply = self.node.answer(kind, frame)
        assert bool(caller) == (address == ""), "where to answer is said once"
        address = address or caller.hex()
        planned = self._mischief[kind]
        to_send = planned.popleft()(address, reply) if planned else [(address, reply)]
        self._send(to_send, pushes)

    def _send(self, replies: list[tuple[str, bytes]], pushes: dict[str, Any]) -> None:
        for address, reply in replies:
            if not address.startswith("ipc:"):
                pushes[""].send_multipart([bytes.fromhex(address), reply])
                continue
            if address not in pushes:
                pushes[address] = self._context.socket(zmq.PUSH)
                pushes[address].connect(address)
            pushes[address].send(reply)
