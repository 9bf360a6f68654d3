"""One conversation at a time with the sidecar, over blocking ZeroMQ sockets."""

from __future__ import annotations

import os
import time
from typing import Any, TypeVar

import zmq

from aft import _ipc
from aft._ipc import IpcDir
from aft._requests import Kind, Request

R = TypeVar("R")

_GRACE_S = 0.05
"""A new connection takes a moment; after this long the sidecar's socket is looked at more closely."""


class Talk:
    """The pair of sockets for one kind of request: where it is sent and where its answer arrives."""

    def __init__(self, context: zmq.Context[Any], directory: IpcDir, kind: Kind) -> None:
        self._path = directory.new_reply_path(kind)
        self._pid = os.getpid()
        self.reply_address = f"ipc://{self._path}"
        self.pull = context.socket(zmq.PULL)
        self.push = context.socket(zmq.PUSH)
        try:
            self._open(directory, kind)
        except BaseException as error:
            self.close()
            if isinstance(error, (zmq.ZMQError, OSError)):
                why = f"no socket for answers can be made in {directory.path}: {error}"
                raise _ipc.unreachable(why, None) from error
            raise

    def _open(self, directory: IpcDir, kind: Kind) -> None:
        for socket in (self.pull, self.push):
            socket.linger = 0
        # Requests go to a sidecar that is there or nowhere: none waits here to surprise one that is
        # started later.
        self.push.setsockopt(zmq.IMMEDIATE, 1)
        self.push.setsockopt(zmq.RECONNECT_IVL, 20)
        self.push.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        self.pull.bind(self.reply_address)
        _ipc.share(self._path)
        self.push.connect(f"ipc://{directory.request_path(kind)}")

    def close(self) -> None:
        """Close the sockets and remove the file. Does nothing to what a parent process owns."""
        if self._pid != os.getpid():
            return
        self.pull.close()
        self.push.close()
        _ipc.remove(self._path)


class Channel:
    """All sockets that one conversation at a time needs. Belongs to one thread at a time."""

    def __init__(self, context: zmq.Context[Any], directory: IpcDir) -> None:
        self._context = context
        self._directory = directory
        self._talks: dict[Kind, Talk] = {}

    def ask(self, request: Request[R], within_s: float) -> R:
        """Send a request and wait for its answer."""
        until = time.monotonic() + within_s
        talk = self._talk(request.kind)
        self._wait_for_sidecar(talk, request, until)
        try:
            talk.push.send(request.encode(talk.reply_address), zmq.NOBLOCK)
            answer = _receive(talk, request, until)
        except BaseException:
            self._forget(request.kind)
            raise
        if answer is None:
            self._forget(request.kind)
            raise _ipc.unanswered(within_s, request.about)
        return answer

    def close(self) -> None:
        """Close all sockets."""
        for kind in list(self._talks):
            self._forget(kind)

    def _talk(self, kind: Kind) -> Talk:
        if kind not in self._talks:
            if not self._directory.is_present(kind):
                why = self._directory.why_unreachable(kind) or "there is no sidecar"
                raise _ipc.unreachable(why, None)
            self._talks[kind] = Talk(self._context, self._directory, kind)
        return self._talks[kind]

    def _wait_for_sidecar(self, talk: Talk, request: Request[R], until: float) -> None:
        if talk.push.poll(_ms(_GRACE_S), zmq.POLLOUT):
            return
        why = self._directory.why_unreachable(request.kind)
        if why is None and talk.push.poll(_ms(until - time.monotonic()), zmq.POLLOUT):
            return
        raise _ipc.unreachable(why or "the sidecar takes no requests", request.about)

    def _forget(self, kind: Kind) -> None:
        """Close a pair of sockets: a late answer to its last request must reach nobody."""
        self._talks.pop(kind).close()


def _receive(talk: Talk, request: Request[R], until: float) -> R | None:
    while talk.pull.poll(_ms(until - time.monotonic()), zmq.POLLIN):
        answer = request.decode(talk.pull.recv(zmq.NOBLOCK))
        if answer is not None:
            return answer
    return None


def _ms(seconds: float) -> int:
    return max(0, int(seconds * 1000 + 0.999))
