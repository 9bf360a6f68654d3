"""Lets any number of threads share a client, although a ZeroMQ socket belongs to one at a time.

Channels are lent out and given back; there are as many as threads ever asked at once, and none is
left behind by a thread that ended.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from typing import TypeVar

import zmq

from aft._channel import Channel
from aft._ipc import IpcDir
from aft._requests import Request
from aft.errors import InvalidRequest

R = TypeVar("R")

_open_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


class Pool:
    """Channels to one sidecar, for all threads of this process."""

    def __init__(self, directory: IpcDir) -> None:
        self._directory = directory
        self._is_closed = False
        self._start_empty()
        _open_pools.add(self)

    def ask(self, request: Request[R], within_s: float) -> R:
        """Send a request and wait for its answer."""
        channel = self._take()
        try:
            return channel.ask(request, within_s)
        finally:
            self._give_back(channel)

    def close(self) -> None:
        """Close all sockets that are not in use, and the others as soon as they are not."""
        with self._lock:
            self._is_closed = True
            self._close_idle()

    def start_anew_after_fork(self) -> None:
        """Leave the parent's sockets to the parent: they work in one process only."""
        self._inherited = (getattr(self, "_inherited", ()), self._context, self._idle)
        self._start_empty()

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Channel] = []
        self._lent = 0
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None

    def _take(self) -> Channel:
        with self._lock:
            if self._is_closed:
                raise InvalidRequest("the client is closed")
            if self._context is None:
                self._context = zmq.Context()
                self._context.set(zmq.MAX_SOCKETS, self._context.get(zmq.SOCKET_LIMIT))
            self._lent += 1
            return self._idle.pop() if self._idle else Channel(self._context, self._directory)

    def _give_back(self, channel: Channel) -> None:
        with self._lock:
            self._lent -= 1
            self._idle.append(channel)
            if self._is_closed:
                self._close_idle()

    def _close_idle(self) -> None:
        for channel in self._idle:
            channel.close()
        self._idle.clear()
        if self._context is not None and self._lent == 0:
            self._context.term()
            self._context = None

    def __del__(self) -> None:
        if hasattr(self, "_lock"):
            self.close()


def _close_all() -> None:
    for pool in list(_open_pools):
        pool.close()


def _start_all_anew() -> None:
    for pool in list(_open_pools):
        pool.start_anew_after_fork()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_start_all_anew)
