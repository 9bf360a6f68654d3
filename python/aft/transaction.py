"""A transaction, as a function sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType

from aft._attempt import Attempt, Value
from aft._drive import Driver
from aft._effects import Flow

__all__ = ["Transaction", "TransactionScope"]


class Transaction:
    """Reads and writes that take effect together or not at all.

    Reads never show half of another transaction. Writes are seen by this transaction at once and by
    nobody else before the commit. Two transactions that read and then write the same key do not wait
    for each other: the later commit wins.
    """

    def __init__(self, driver: Driver, attempt: Attempt) -> None:
        self._driver = driver
        self._attempt = attempt

    @property
    def id(self) -> str:
        """What is done once: bring it again to try again."""
        return self._attempt.id

    @property
    def attempt(self) -> str:
        """The name of this try, as the sidecar knows it."""
        return self._attempt.name

    @property
    def node(self) -> str:
        """The node where it began."""
        return self._attempt.node

    def get(self, key: str) -> bytes | None:
        """Read one key; ``None`` if it has no value."""
        return self.get_many([key])[key]

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes | None]:
        """Read several keys as of one moment, in one round trip."""
        return self._driver.drive(self._attempt.get(keys))

    def put(self, key: str, value: Value) -> None:
        """Write one key."""
        self.put_many({key: value})

    def put_many(self, writes: Mapping[str, Value]) -> None:
        """Write several keys in one round trip.

        If it raises, some of them may be buffered, and the transaction will refuse to commit.
        """
        self._driver.drive(self._attempt.put(writes))

    def commit(self, addresses: Iterable[str] = ()) -> None:
        """Let the writes take effect now, rather than at the end of the ``with`` block.

        ``addresses`` names further nodes where the transaction ran, as a function does that gathers
        several branches.
        """
        self._driver.drive(self._attempt.commit(addresses))

    def abort(self) -> None:
        """Give the writes up."""
        self._driver.drive(self._attempt.abort())

    def hand_over(self) -> tuple[str, str]:
        """Leave the transaction to another function, which goes on with ``Client.join``.

        Returns what that function needs: the attempt's name and its node.
        """
        return self._attempt.hand_over()


class TransactionScope:
    """``with client.transaction() as txn``: commits at the end, aborts if the block raises."""

    def __init__(self, driver: Driver, opening: Callable[[], Flow[Attempt]]) -> None:
        self._driver = driver
        self._opening = opening
        self._attempt: Attempt | None = None

    def __enter__(self) -> Transaction:
        self._attempt = self._driver.drive(self._opening())
        return Transaction(self._driver, self._attempt)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._attempt is not None:
            self._driver.drive(self._attempt.leave(error))
