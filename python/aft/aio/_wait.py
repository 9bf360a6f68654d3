"""Waits for plain ZeroMQ sockets in an asyncio loop.

A ZeroMQ socket has a file descriptor that becomes readable when something about the socket changed.
Trying the operation first, and waiting only if it would block, is all that this needs; it takes half
the time of ``zmq.asyncio``, which polls for each message.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import zmq


async def receive(socket: zmq.Socket[Any], until: float) -> bytes | None:
    """Take the next message; ``None`` if there is none in time."""
    while True:
        try:
            message: bytes = socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            if not await _changed(socket, until):
                return None
        else:
            return message


async def send(socket: zmq.Socket[Any], frames: Sequence[bytes], until: float) -> bool:
    """Hand a message to a connected peer; ``False`` if there is none in time."""
    while True:
        try:
            socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            if not await _changed(socket, until):
                return False
        else:
            return True


async def _changed(socket: zmq.Socket[Any], until: float) -> bool:
    """Wait until trying again may help. One task at a time may wait for a socket."""
    wait_s = until - time.monotonic()
    if wait_s <= 0:
        return False
    loop = asyncio.get_running_loop()
    change: asyncio.Future[bool] = loop.create_future()
    descriptor = int(socket.get(zmq.FD))
    loop.add_reader(descriptor, _settle, change, True)
    timer = loop.call_later(wait_s, _settle, change, False)
    try:
        return await change
    finally:
        timer.cancel()
        loop.remove_reader(descriptor)


def _settle(change: asyncio.Future[bool], result: bool) -> None:
    if not change.done():
        change.set_result(result)
