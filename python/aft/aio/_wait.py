"""Waits for sockets in an asyncio loop: plain ones, and those of ZeroMQ.

A ZeroMQ socket has a file descriptor that becomes readable when something about the socket changed.
Trying the operation first, and waiting only if it would block, is all that this needs; it takes half
the time of ``zmq.asyncio``, which polls for each message.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import zmq


async def receive_some(connection: socket.socket, size: int, until: float) -> bytes | None:
    """Take some of what has come, nothing at its end; ``None`` if nothing comes in time."""
    while True:
        try:
            return connection.recv(size)
        except BlockingIOError:
            if not await _changed(connection.fileno(), until):
                return None


async def send_all(connection: socket.socket, data: bytes, until: float) -> None:
    """Send all of it; raises `TimeoutError` if the other end does not take it in time."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[connection.send(rest) :]
        except BlockingIOError:
            if not await _changed(connection.fileno(), until, is_written=True):
                raise TimeoutError from None


async def receive(socket: zmq.Socket[Any], until: float) -> bytes | None:
    """Take the next message; ``None`` if there is none in time."""
    while True:
        try:
            message: bytes = socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            if not await _changed(int(socket.get(zmq.FD)), until):
                return None
        else:
            return message


async def send(socket: zmq.Socket[Any], message: bytes, until: float) -> bool:
    """Hand a message to a connected peer; ``False`` if there is none in time."""
    while True:
        try:
            socket.send(message, zmq.NOBLOCK)
        except zmq.Again:
            if not await _changed(int(socket.get(zmq.FD)), until):
                return False
        else:
            return True


async def _changed(descriptor: int, until: float, is_written: bool = False) -> bool:
    """Wait until trying again may help. One task at a time may wait for a descriptor."""
    wait_s = until - time.monotonic()
    if wait_s <= 0:
        return False
    loop = asyncio.get_running_loop()
    change: asyncio.Future[bool] = loop.create_future()
    watch, forget = (
        (loop.add_writer, loop.remove_writer) if is_written else (loop.add_reader, loop.remove_reader)
    )
    watch(descriptor, _settle, change, True)
    timer = loop.call_later(wait_s, _settle, change, False)
    try:
        return await change
    finally:
        timer.cancel()
        forget(descriptor)


def _settle(change: asyncio.Future[bool], result: bool) -> None:
    if not change.done():
        change.set_result(result)
