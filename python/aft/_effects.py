"""Conversations with the sidecar, apart from how they are carried out.

A *flow* is a generator that yields what it wants done and is sent what came of it. The blocking
client, the asyncio client and the in-memory fake each carry the same flows out in their own way, so
there is one retry policy and one commit, and neither opens a socket or reads a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from aft._requests import Request

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Ask(Generic[R]):
    """Send a request; sent back its answer, or thrown ``SidecarUnavailable``."""

    request: Request[R]
    within_s: float


@dataclass(frozen=True)
class Pause:
    """Let time pass."""

    seconds: float


@dataclass(frozen=True)
class Body:
    """Call the user's function; sent back what it returned, or thrown what it raised."""

    call: Callable[[], Any]


Effect: TypeAlias = Ask[Any] | Pause | Body
Flow: TypeAlias = Generator[Effect, Any, T]


def ask(request: Request[R], within_s: float) -> Flow[R]:
    """Send a request and wait for its answer."""
    answer: R = yield Ask(request, within_s)
    return answer


def pause(seconds: float) -> Flow[None]:
    """Let time pass."""
    yield Pause(seconds)
