"""How requests and answers stand in the stream of a connection to ``call``. No input or output here.

Each begins with its length, of what follows, and a number that the client chose for the request; both
have four bytes, the first one first. In a request a byte for its kind follows. The rest is the message.
"""

from __future__ import annotations

import struct

_REQUEST_HEAD = struct.Struct(">IIB")
_ANSWER_HEAD = struct.Struct(">II")
_LENGTH_BYTES = 4
_READ_BYTES = 64 << 10
_LARGE_READ_BYTES = 1 << 20

NUMBERS = 1 << 32
"""So many numbers there are."""


def request(number: int, kind: int, message: bytes) -> bytes:
    """Write a request."""
    length = _REQUEST_HEAD.size - _LENGTH_BYTES + len(message)
    return _REQUEST_HEAD.pack(length, number, kind) + message


class Answers:
    """Finds answers in what has come so far."""

    def __init__(self) -> None:
        self._received = bytearray()

    def read_next(self) -> int:
        """How much is worth reading at once."""
        missing = self._whole() - len(self._received)
        return max(_READ_BYTES, min(missing, _LARGE_READ_BYTES))

    def feed(self, data: bytes) -> None:
        """Add what has come."""
        self._received += data

    def take(self) -> tuple[int, bytes] | None:
        """Take the next answer, with its number, if all of it has come."""
        whole = self._whole()
        if len(self._received) < whole:
            return None
        _, number = _ANSWER_HEAD.unpack_from(self._received)
        with memoryview(self._received) as received:
            answer = bytes(received[_ANSWER_HEAD.size : whole])
        del self._received[:whole]
        return number, answer

    def _whole(self) -> int:
        """How long the answer is that comes first, as far as can be told."""
        if len(self._received) < _ANSWER_HEAD.size:
            return _ANSWER_HEAD.size
        return _LENGTH_BYTES + int.from_bytes(self._received[:_LENGTH_BYTES], "big")
