"""A transaction, as a function sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType

from aft._attempt import Attempt, Value
from aft._drive import Driver
from aft._effects import Flow
from aft.tokens import Token, Tokens

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
        """The node where it runs now."""
        return self._attempt.node

    @property
    def token(self) -> Token:
        """What to hand on when the block has ended.

        After a step: the running transaction, for `Client.step` and `Client.join` of the functions
        that follow. After a commit: the session, for ``after=`` of transactions that are to read it.
        """
        return self._attempt.token

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

    def commit(self, also: Tokens = ()) -> Token:
        """Let the writes take effect now, rather than at the end of the ``with`` block.

        ``also`` are the tokens of functions in which other branches ended: they belong to the
        transaction, too, and what is not named is lost. Returns what ``token`` is from then on.
        """
        return self._driver.drive(self._attempt.commit(also))

    def abort(self) -> None:
        """Give the writes up."""
        self._driver.drive(self._attempt.abort())


class TransactionScope:
    """What ``with client.transaction() as txn`` enters, and how it is left."""

    def __init__(
        self, driver: Driver, opening: Callable[[], Flow[Attempt]], *, hands_on: bool = False
    ) -> None:
        self._driver = driver
        self._opening = opening
        self._hands_on = hands_on
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
            self._driver.drive(self._attempt.leave(error, self._hands_on))
