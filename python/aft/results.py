"""What the client tells about transactions that ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Generic, TypeVar

from aft.tokens import Token

__all__ = ["Outcome", "Result"]

T = TypeVar("T")


class Outcome(enum.Enum):
    """How a transaction ended, for ever."""

    COMMITTED = "committed"
    ABORTED = "aborted"


@dataclass(frozen=True)
class Result(Generic[T]):
    """A transaction that took effect, once."""

    id: str
    """The id under which it took effect."""

    value: T | None
    """What the function returned. ``None`` if this was a replay: what an earlier run returned is not
    stored anywhere, so a function whose callers need it should put it under a key of its own."""

    replayed: bool
    """The id had committed before, so the function was not run again."""

    attempts: int
    """How often the function was begun, by this call."""

    token: Token | None = None
    """The session: give it as ``after`` to read on any node what was written. ``None`` if the
    transaction ended elsewhere (of a DAG, let the function that commits return its token)."""
