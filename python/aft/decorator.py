"""Functions that run in a transaction whenever they are called."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from aft._core import RUN_DEADLINE_S
from aft.client import Client
from aft.errors import AlreadyCommitted
from aft.policy import RetryPolicy
from aft.results import Result
from aft.transaction import Transaction

__all__ = ["Transactional", "transactional"]

P = ParamSpec("P")
T = TypeVar("T")


@functools.cache
def default_client() -> Client:
    """Give the client of the sidecar that the environment names, one for the process."""
    return Client()


class Transactional(Generic[P, T]):
    """A function that takes a transaction first, and is called without it."""

    def __init__(
        self,
        function: Callable[Concatenate[Transaction, P], T],
        client: Client | Callable[[], Client] | None,
        retries: int | RetryPolicy | None,
        deadline: float,
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._client = client
        self._retries = retries
        self._deadline = deadline

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function in a new transaction and return what it returned."""
        result = self._run(None, *args, **kwargs)
        if result.replayed:
            raise AlreadyCommitted("the function ended its transaction and then failed", result.id)
        return cast(T, result.value)

    def once(self, id: str, /, *args: P.args, **kwargs: P.kwargs) -> Result[T]:  # noqa: A002
        """Run the function under an id of yours, unless it took effect under that id before."""
        return self._run(id, *args, **kwargs)

    def _run(self, id: str | None, /, *args: P.args, **kwargs: P.kwargs) -> Result[T]:  # noqa: A002
        return self._use_client().run(
            lambda txn: self._function(txn, *args, **kwargs),
            retries=self._retries,
            id=id,
            deadline=self._deadline,
        )

    def _use_client(self) -> Client:
        if self._client is None:
            return default_client()
        return self._client if isinstance(self._client, Client) else self._client()


@overload
def transactional(function: Callable[Concatenate[Transaction, P], T], /) -> Transactional[P, T]: ...


@overload
def transactional(
    *,
    client: Client | Callable[[], Client] | None = None,
    retries: int | RetryPolicy | None = None,
    deadline: float = RUN_DEADLINE_S,
) -> Callable[[Callable[Concatenate[Transaction, P], T]], Transactional[P, T]]: ...


def transactional(
    function: Callable[Concatenate[Transaction, P], T] | None = None,
    /,
    *,
    client: Client | Callable[[], Client] | None = None,
    retries: int | RetryPolicy | None = None,
    deadline: float = RUN_DEADLINE_S,
) -> Transactional[P, T] | Callable[[Callable[Concatenate[Transaction, P], T]], Transactional[P, T]]:
    """Make a function run in a transaction, as ``Client.run`` does, whenever it is called.

    The function takes the transaction as its first argument; callers leave it out. ``client`` may be
    a function that gives one; without it, the sidecar is the one that the environment names.
    """
    if function is not None:
        return Transactional(function, client, retries, deadline)
    return lambda wrapped: Transactional(wrapped, client, retries, deadline)
