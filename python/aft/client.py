"""The blocking client."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TypeVar

from aft import _attempt, _core
from aft._attempt import Attempt, Value
from aft._drive import Driver
from aft._effects import Flow
from aft._flows import Settings
from aft._ipc import IpcDir
from aft._pool import Pool
from aft.errors import OutcomeUnknown
from aft.policy import RetryPolicy
from aft.results import Outcome, Result
from aft.tokens import Tokens
from aft.transaction import Transaction, TransactionScope

__all__ = ["Client"]

T = TypeVar("T")


class Client:
    """Speaks to the sidecar on this machine.

    One client serves all threads of a process, and goes on working in a process that was forked.
    Making one opens no socket: that happens at the first request.
    """

    def __init__(
        self,
        ipc_dir: str | os.PathLike[str] | None = None,
        *,
        deadline: float = _core.DEADLINE_S,
        commit_deadline: float | None = None,
    ) -> None:
        """Make a client of the sidecar whose ``--ipc-dir`` is ``ipc_dir``.

        Without one it is taken from the environment, ``AFT_IPC_DIR``, or is ``/requests``.
        ``deadline`` is how many seconds one answer may take. A commit that is not answered, or with
        "not known yet", is asked again for ``commit_deadline`` seconds, 15 by default.
        """
        self._settings = _core.settings_for(deadline, commit_deadline)
        self._driver = Driver(Pool(IpcDir(ipc_dir)))

    @classmethod
    def _over(cls, driver: Driver, settings: Settings) -> Client:
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
    ) -> TransactionScope:
        """Begin a transaction: ``with client.transaction() as txn``.

        With an ``id``, it takes effect at most once, however often it is tried: entering raises
        ``AlreadyCommitted`` if it has. If the id was settled as aborted, the transaction goes on
        under the id that follows it, see ``txn.id``.

        It reads the commits that the tokens in ``after`` name, or newer ones, wherever they were made.
        """
        return TransactionScope(self._driver, lambda: _core.opened(self._settings, id, after))

    def step(
        self,
        tokens: Tokens | None = None,
        *,
        id: str | None = None,  # noqa: A002
        after: Tokens = (),
    ) -> TransactionScope:
        """Run one of several functions of a transaction: ``with client.step(token) as txn``.

        Without a token it begins one (``id`` and ``after`` as for `transaction`). With several, which
        parallel functions gave, their branches come together. At the end of the block the
        transaction is handed on, not committed: ``txn.token`` is then what the next functions need.
        If the block raises, the transaction is aborted on all nodes.
        """

        def opening() -> Flow[Attempt]:
            return _core.step_opened(self._settings, tokens, id, after)

        return TransactionScope(self._driver, opening, hands_on=True)

    def join(self, tokens: Tokens) -> TransactionScope:
        """Run the last function of a transaction: ``with client.join(tokens) as txn``.

        It goes on as `step` does, and commits at the end of the block.
        """
        return TransactionScope(self._driver, lambda: _core.joined(self._settings, tokens))

    def run(
        self,
        function: Callable[[Transaction], T],
        *,
        retries: int | RetryPolicy | None = None,
        id: str | None = None,  # noqa: A002
        after: Tokens = (),
        deadline: float = _core.RUN_DEADLINE_S,
    ) -> Result[T]:
        """Run a function in a transaction, again if that may help, until it has committed once.

        The function may be called several times, so all its effects should go through the
        transaction. Errors that a retry can cure are retried under one id after a growing, random
        pause; any other error aborts the transaction and is raised. After ``deadline`` seconds no
        new try begins.

        With an ``id`` of the caller's, the function takes effect once across calls and processes; if
        it has already, it is not called and the result says ``replayed``.

        Raises ``OutcomeUnknown`` if the commit was sent and its outcome could not be learnt in time.
        """

        def call(attempt: Attempt) -> T:
            return function(Transaction(self._driver, attempt))

        done = self._driver.drive(_core.ran(self._settings, call, retries, id, after, deadline))
        return Result(done.id, done.value, done.replayed, done.attempts, done.token)

    def run_dag(
        self,
        dag: Callable[[str], T],
        *,
        retries: int | RetryPolicy | None = None,
        id: str | None = None,  # noqa: A002
        deadline: float = _core.RUN_DEADLINE_S,
    ) -> Result[T]:
        """Run functions on several nodes as one transaction, all of them again if that may help.

        ``dag(id)`` runs them once, in whatever way: the first begins with ``step(id=id)``, the others
        go on, the last commits. Its errors have to come back here, as those of `concurrent.futures`
        do. The id takes effect once, however often and wherever it is tried: what an earlier try left
        behind can no longer commit once a later one has.
        """
        done = self._driver.drive(_core.dag_ran(self._settings, dag, retries, id, deadline))
        return Result(done.id, done.value, done.replayed, done.attempts, done.token)

    def resolve(self, what: str | OutcomeUnknown, *, deadline: float | None = None) -> Outcome:
        """Find out how a transaction ended: one whose ``OutcomeUnknown`` you have, or an id.

        Asking settles: an id of which nobody knows anything, and at which nobody works, is aborted
        for ever by this. While an attempt at the id still runs there is nothing to tell, and
        ``OutcomeUnknown`` is raised when the deadline is over.
        """
        return self._driver.drive(_core.resolved(self._settings, what, deadline))

    def get(self, key: str) -> bytes | None:
        """Read one key outside of any transaction; ``None`` if it has no value."""
        return self.get_many([key])[key]

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes | None]:
        """Read several keys as of one moment, outside of any transaction."""
        return self._driver.drive(_attempt.read(self._settings, None, keys))

    def put(self, key: str, value: Value) -> None:
        """Write one key and commit it at once."""
        self.put_many({key: value})

    def put_many(self, writes: Mapping[str, Value]) -> None:
        """Write several keys and commit them together, at once.

        If the answer is lost this may have taken effect or not; use a transaction where that matters.
        """
        self._driver.drive(_attempt.write(self._settings, None, writes))

    def close(self) -> None:
        """Close the sockets and remove their files."""
        self._driver.exchange.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
