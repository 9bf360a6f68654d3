"""A transaction, as a coroutine function sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType

from aft._attempt import Attempt, Value
from aft._effects import Flow
from aft.aio._drive import AsyncDriver
from aft.tokens import Token, Tokens


class AsyncTransaction:
    """Reads and writes that take effect together or not at all; see `aft.Transaction`."""

    def __init__(self, driver: AsyncDriver, attempt: Attempt) -> None:
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
        """What to hand on when the block has ended; see `aft.Transaction.token`."""
        return self._attempt.token

    async def get(self, key: str) -> bytes | None:
        """Read one key; ``None`` if it has no value."""
        return (await self.get_many([key]))[key]

    async def get_many(self, keys: Iterable[str]) -> dict[str, bytes | None]:
        """Read several keys as of one moment, in one round trip."""
        return await self._driver.drive(self._attempt.get(keys))

    async def put(self, key: str, value: Value) -> None:
        """Write one key."""
        await self.put_many({key: value})

    async def put_many(self, writes: Mapping[str, Value]) -> None:
        """Write several keys in one round trip.

        If it raises, some of them may be buffered, and the transaction will refuse to commit.
        """
        await self._driver.drive(self._attempt.put(writes))

    async def commit(self, also: Tokens = ()) -> Token:
        """Let the writes take effect now; see `aft.Transaction.commit`."""
        return await self._driver.drive(self._attempt.commit(also))

    async def abort(self) -> None:
        """Give the writes up."""
        await self._driver.drive(self._attempt.abort())


class AsyncTransactionScope:
    """What ``async with client.transaction() as txn`` enters, and how it is left."""

    def __init__(
        self, driver: AsyncDriver, opening: Callable[[], Flow[Attempt]], *, hands_on: bool = False
    ) -> None:
        self._driver = driver
        self._opening = opening
        self._hands_on = hands_on
        self._attempt: Attempt | None = None

    async def __aenter__(self) -> AsyncTransaction:
        self._attempt = await self._driver.drive(self._opening())
        return AsyncTransaction(self._driver, self._attempt)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._attempt is not None:
            await self._driver.drive(self._attempt.leave(error, self._hands_on))
