"""Ports that nobody listens on, for servers that a test starts, and perhaps stops and starts again.

All are below those that the system gives to connections: such a one could come between.
"""

from __future__ import annotations

import itertools
import os
import socket

#: The ports of a node whose offset is 0, and that of a manager.
_NODE_PORTS = (7007, 7777, 9000, 9001, 9100, 9200, 10000, 10100)

# Where to look first depends on the process: several runs of the tests do not meet.
_ports = itertools.count(21_600 + os.getpid() % 500 * 20)
# Some ports of a node are one apart.
_offsets = itertools.count(500 + os.getpid() % 200 * 100, 3)


def free_port() -> int:
    """One on the loopback address."""
    return next(port for port in _ports if _is_free(port))


def free_offset() -> str:
    """An offset for a node or manager on the loopback address; those of two calls do not meet."""
    free = (n for n in _offsets if all(_is_free(port + n) for port in _NODE_PORTS))
    return str(next(free))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As those that are to listen there: a connection that has ended does not keep them from it.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
