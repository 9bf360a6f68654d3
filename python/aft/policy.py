"""How often, and how fast, to try again."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RetryPolicy"]


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with full jitter: each pause is drawn from nothing to a doubling ceiling.

    Jitter is what keeps many functions that failed together from coming back together.
    """

    retries: int = 8
    """How many times to run again after the first."""

    first_pause_s: float = 0.02
    """The ceiling of the first pause, in seconds."""

    longest_pause_s: float = 2.0
    """The ceiling never exceeds this."""

    def pause_s(self, failures: int, draw: float) -> float:
        """How long to wait after so many failures; ``draw`` is random, from 0 to 1."""
        doublings = min(failures - 1, 60)
        return draw * min(self.longest_pause_s, self.first_pause_s * 2.0**doublings)
