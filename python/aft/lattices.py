"""Values as Anna's clients write them."""

from __future__ import annotations

from dataclasses import dataclass

from aft._wire import anna_pb2 as anna

__all__ = ["LWWPairLattice"]


@dataclass
class LWWPairLattice:
    """A value and its time; of two, the one with the greater time stays."""

    ts: int
    val: bytes

    def reveal(self) -> bytes:
        """Give the plain value."""
        return self.val

    def assign(self, value: tuple[int, bytes]) -> None:
        """Replace time and value."""
        self.ts, self.val = value

    def merge(self, other: LWWPairLattice) -> LWWPairLattice:
        """Keep the newer of two."""
        return other if other.ts > self.ts else self

    def serialize(self) -> tuple[anna.LWWValue, int]:
        """Give the value as protobuf, and the number of its lattice type."""
        return anna.LWWValue(timestamp=self.ts, value=self.val), anna.LWW
