"""Coroutine functions that run in a transaction whenever they are called."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from aft._core import RUN_DEADLINE_S
from aft.aio._client import AsyncClient
from aft.aio._transaction import AsyncTransaction
from aft.errors import AlreadyCommitted
from aft.policy import RetryPolicy
from aft.results import Result

P = ParamSpec("P")
T = TypeVar("T")


@functools.cache
def default_client() -> AsyncClient:
    """Give the client of the sidecar that the environment names, one for the process."""
    return AsyncClient()


class AsyncTransactional(Generic[P, T]):
    """A coroutine function that takes a transaction first, and is called without it."""

    def __init__(
        self,
        function: Callable[Concatenate[AsyncTransaction, P], Awaitable[T]],
        client: AsyncClient | Callable[[], AsyncClient] | None,
        retries: int | RetryPolicy | None,
        deadline: float,
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._client = client
        self._retries = retries
        self._deadline = deadline

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function in a new transaction and return what it returned."""
        result = await self._run(None, *args, **kwargs)
        if result.replayed:
            raise AlreadyCommitted("the function ended its transaction and then failed", result.id)
        return cast(T, result.value)

    async def once(self, id: str, /, *args: P.args, **kwargs: P.kwargs) -> Result[T]:  # noqa: A002
        """Run the function under an id of yours, unless it took effect under that id before."""
        return await self._run(id, *args, **kwargs)

    async def _run(
        self,
        id: str | None,  # noqa: A002
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Result[T]:
        return await self._use_client().run(
            lambda txn: self._function(txn, *args, **kwargs),
            retries=self._retries,
            id=id,
            deadline=self._deadline,
        )

    def _use_client(self) -> AsyncClient:
        if self._client is None:
            return default_client()
        return self._client if isinstance(self._client, AsyncClient) else self._client()


@overload
def transactional(
    function: Callable[Concatenate[AsyncTransaction, P], Awaitable[T]], /
) -> AsyncTransactional[P, T]: ...


@overload
def transactional(
    *,
    client: AsyncClient | Callable[[], AsyncClient] | None = None,
    retries: int | RetryPolicy | None = None,
    deadline: float = RUN_DEADLINE_S,
) -> Callable[[Callable[Concatenate[AsyncTransaction, P], Awaitable[T]]], AsyncTransactional[P, T]]: ...


def transactional(
    function: Callable[Concatenate[AsyncTransaction, P], Awaitable[T]] | None = None,
    /,
    *,
    client: AsyncClient | Callable[[], AsyncClient] | None = None,
    retries: int | RetryPolicy | None = None,
    deadline: float = RUN_DEADLINE_S,
) -> (
    AsyncTransactional[P, T]
    | Callable[[Callable[Concatenate[AsyncTransaction, P], Awaitable[T]]], AsyncTransactional[P, T]]
):
    """Make a coroutine function run in a transaction whenever it is called; see `aft.transactional`."""
    if function is not None:
        return AsyncTransactional(function, client, retries, deadline)
    return lambda wrapped: AsyncTransactional(wrapped, client, retries, deadline)
