"""What a fake sidecar does wrong on purpose."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from aft._requests import Kind


class Killed(BaseException):
    """Stands for the end of the process that ran the function.

    It is no ``Exception``, so that the function under test does not handle what nothing could.
    """


class Fault(enum.Enum):
    """What becomes of a request."""

    ABORT = enum.auto()
    """The transaction is aborted, and the answer says so."""

    STORE_DOWN = enum.auto()
    """Nothing is done: the store cannot be reached."""

    NO_SIDECAR = enum.auto()
    """There is nobody to send the request to, and the caller is told so at once."""

    LOSE_REQUEST = enum.auto()
    """The request does not arrive, and is not answered."""

    LOSE_ANSWER = enum.auto()
    """The request is served, and its answer does not arrive."""

    UNDECIDED = enum.auto()
    """The request is served, and the answer is that the outcome is not known yet."""

    KILL = enum.auto()
    """The calling process dies before it can send the request."""


@dataclass
class Plan:
    """A fault that happens ``times`` times, after ``after`` requests of its kind went well."""

    kind: Kind
    fault: Fault
    times: int
    after: int

    def strikes(self, kind: Kind) -> bool:
        """Count a request, and tell whether the fault happens to it."""
        if kind is not self.kind or self.times == 0:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        return True
