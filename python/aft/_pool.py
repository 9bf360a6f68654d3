"""Lets any number of threads share a client, although a line serves one at a time.

Lines to the sidecar are lent out and given back; there are as many as threads ever asked at once, and
none is left behind by a thread that ended.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from typing import TypeVar

import zmq

from aft import _ipc
from aft._ipc import CALL, Door, IpcDir
from aft._lines import Addressed, Call, Line, Outlets
from aft._requests import Request
from aft._sockets import with_room
from aft.errors import InvalidRequest, SidecarUnavailable

R = TypeVar("R")

_open_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


class Pool:
    """The sockets of one client, for all threads of this process."""

    def __init__(self, directory: IpcDir) -> None:
        self._directory = directory
        self._is_closed = False
        self._inherited: list[object] = []
        self._start_empty()
        _open_pools.add(self)

    def ask(self, request: Request[R], within_s: float) -> R:
        """Send a request and wait for its answer."""
        until = time.monotonic() + within_s
        door = self._directory.door(request.kind)
        line = self._take(door)
        answer = None
        is_untouched = False
        try:
            try:
                line.send(request, door, until)
            except SidecarUnavailable:
                is_untouched = True
                raise
            while answer is None and (message := line.receive(request, until)) is not None:
                answer = request.decode(message)
        finally:
            # A late answer to a request that was given up must reach nobody.
            self._give_back(line, is_usable=answer is not None or is_untouched)
        if answer is None:
            raise _ipc.unanswered(within_s, request.about)
        return answer

    def close(self) -> None:
        """Close all sockets that are not in use, and the others as soon as they are not."""
        with self._lock:
            self._is_closed = True
            self._close_if_unused()

    def start_anew_after_fork(self) -> None:
        """Leave the parent's sockets to the parent: they work in one process only."""
        for line in self._idle:
            line.leave_to_parent()
        self._inherited += [self._outlets, self._idle]
        self._start_empty()

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Line] = []
        self._lent = 0
        self._outlets: Outlets | None = None

    def _take(self, door: Door) -> Line:
        with self._lock:
            if self._is_closed:
                raise InvalidRequest("the client is closed")
            while self._idle and not self._idle[-1].leads_to(door):
                self._idle.pop().close()
            line = self._idle.pop() if self._idle else self._new(door)
            self._lent += 1
            return line

    def _new(self, door: Door) -> Line:
        if door.name == CALL:
            return Call(self._directory, door)
        if self._outlets is None:
            self._outlets = Outlets(with_room(zmq.Context()), self._directory)
        return Addressed(self._directory, self._outlets)

    def _give_back(self, line: Line, is_usable: bool) -> None:
        with self._lock:
            self._lent -= 1
            if is_usable:
                self._idle.append(line)
            else:
                line.close()
            if self._is_closed:
                self._close_if_unused()

    def _close_if_unused(self) -> None:
        while self._idle:
            self._idle.pop().close()
        if self._lent == 0 and self._outlets is not None:
            self._outlets.close()
            self._outlets = None

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
