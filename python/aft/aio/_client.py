"""The asyncio client."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import TypeVar

from aft import _attempt, _core
from aft._attempt import Attempt, Value
from aft._effects import Flow
from aft._flows import Settings
from aft._ipc import IpcDir
from aft.aio._drive import AsyncDriver
from aft.aio._pool import AsyncPool
from aft.aio._transaction import AsyncTransaction, AsyncTransactionScope
from aft.errors import OutcomeUnknown
from aft.policy import RetryPolicy
from aft.results import Outcome, Result
from aft.tokens import Tokens

T = TypeVar("T")


class AsyncClient:
    """Speaks to the sidecar on this machine; the asyncio twin of `aft.Client`.

    One client serves all tasks of an event loop. Making one does no I/O and needs no running loop.
    """

    def __init__(
        self,
        ipc_dir: str | os.PathLike[str] | None = None,
        *,
        deadline: float = _core.DEADLINE_S,
        commit_deadline: float | None = None,
    ) -> None:
        """Make a client of the sidecar whose ``--ipc-dir`` is ``ipc_dir``; see `aft.Client`."""
        self._settings = _core.settings_for(deadline, commit_deadline)
        self._driver = AsyncDriver(AsyncPool(IpcDir(ipc_dir)))

    @classmethod
    def _over(cls, driver: AsyncDriver, settings: Settings) -> AsyncClient:
        """Make a client of something else than a sidecar's sockets."""
        client = cls.__new__(cls)
        client._settings = settings
        client._driver = driver
        return client

    def transaction(
        self,
        id: str | None = None,  # noqa: A002
        *,
        after: Tokens = (),
    ) -> AsyncTransactionScope:
        """Begin a transaction: ``async with client.transaction() as txn``; see `aft.Client`."""
        return AsyncTransactionScope(self._driver, lambda: _core.opened(self._settings, id, after))

    def step(
        self,
        tokens: Tokens | None = None,
        *,
        id: str | None = None,  # noqa: A002
        after: Tokens = (),
    ) -> AsyncTransactionScope:
        """Run one of several functions of a transaction; see `aft.Client.step`."""

        def opening() -> Flow[Attempt]:
            return _core.step_opened(self._settings, tokens, id, after)

        return AsyncTransactionScope(self._driver, opening, hands_on=True)

    def join(self, tokens: Tokens) -> AsyncTransactionScope:
        """Run the last function of a transaction; see `aft.Client.join`."""
        return AsyncTransactionScope(self._driver, lambda: _core.joined(self._settings, tokens))

    async def run(
        self,
        function: Callable[[AsyncTransaction], Awaitable[T]],
        *,
        retries: int | RetryPolicy | None = None,
        id: str | None = None,  # noqa: A002
        after: Tokens = (),
        deadline: float = _core.RUN_DEADLINE_S,
    ) -> Result[T]:
        """Run a coroutine function until it has committed once; see `aft.Client.run`."""

        def call(attempt: Attempt) -> Awaitable[T]:
            return function(AsyncTransaction(self._driver, attempt))

        done = await self._driver.drive(_core.ran(self._settings, call, retries, id, after, deadline))
        return Result(done.id, done.value, done.replayed, done.attempts, done.token)

    async def run_dag(
        self,
        dag: Callable[[str], Awaitable[T]],
        *,
        retries: int | RetryPolicy | None = None,
        id: str | None = None,  # noqa: A002
        deadline: float = _core.RUN_DEADLINE_S,
    ) -> Result[T]:
        """Run functions on several nodes as one transaction; see `aft.Client.run_dag`."""
        done = await self._driver.drive(_core.dag_ran(self._settings, dag, retries, id, deadline))
        return Result(done.id, done.value, done.replayed, done.attempts, done.token)

    async def resolve(self, what: str | OutcomeUnknown, *, deadline: float | None = None) -> Outcome:
        """Find out how a transaction ended; see `aft.Client.resolve`."""
        return await self._driver.drive(_core.resolved(self._settings, what, deadline))

    async def get(self, key: str) -> bytes | None:
        """Read one key outside of any transaction; ``None`` if it has no value."""
        return (await self.get_many([key]))[key]

    async def get_many(self, keys: Iterable[str]) -> dict[str, bytes | None]:
        """Read several keys as of one moment, outside of any transaction."""
        return await self._driver.drive(_attempt.read(self._settings, None, keys))

    async def put(self, key: str, value: Value) -> None:
        """Write one key and commit it at once."""
        await self.put_many({key: value})

    async def put_many(self, writes: Mapping[str, Value]) -> None:
        """Write several keys and commit them together, at once; see `aft.Client.put_many`."""
        await self._driver.drive(_attempt.write(self._settings, None, writes))

    async def aclose(self) -> None:
        """Close the sockets and remove their files."""
        self._driver.exchange.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
