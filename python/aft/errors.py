"""What can go wrong, sorted by what to do about it.

There are few kinds, and each tells the caller its next step; the words of the sidecar say what
happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from aft.tokens import Token

__all__ = [
    "AftError",
    "AlreadyCommitted",
    "InvalidRequest",
    "OutcomeUnknown",
    "RetryableError",
    "SidecarUnavailable",
    "StoreUnavailable",
    "TransactionAborted",
]


class AftError(RuntimeError):
    """Anything that this package raises on its own account.

    It is a ``RuntimeError`` because that is what callers of Cloudburst's client look out for.
    """

    hint: ClassVar[str] = ""
    """What to do about it, in one sentence."""

    def __init__(self, message: str, id: str | None = None) -> None:  # noqa: A002
        super().__init__(message, id)
        self.message = message
        #: The transaction that it is about, if it is about one.
        self.id = id

    def __str__(self) -> str:
        about = f" [transaction {self.id}]" if self.id else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.message}{about}{hint}"


class RetryableError(AftError):
    """The transaction took no effect and can be run again."""

    hint = "nothing took effect: run the transaction again, as Client.run does"


class TransactionAborted(RetryableError):
    """The attempt is over: aborted, timed out, fenced by a newer one, or lost in a restart."""


class StoreUnavailable(RetryableError):
    """The sidecar could not reach its store, or not in time."""

    hint = "nothing took effect: run the transaction again a little later, as Client.run does"


class InvalidRequest(AftError):
    """The request can never be served as it is."""

    hint = "correct the call: repeating it cannot help"


class OutcomeUnknown(AftError):
    """The commit was sent, and whether it took effect is not known yet."""

    hint = "ask later with Client.resolve: do not run the transaction again under another id"


class SidecarUnavailable(AftError):
    """Nobody answers in the IPC directory."""

    hint = "start `aft sidecar` with the same --ipc-dir, or set AFT_IPC_DIR to its directory"

    def __init__(self, message: str, id: str | None = None, sent: bool = False) -> None:  # noqa: A002
        super().__init__(message, id)
        self.args = (message, id, sent)
        #: Whether the request was handed over; if not, it certainly has no effect.
        self.sent = sent


class AlreadyCommitted(AftError):
    """The id took effect before, perhaps in an earlier try that did not live to hear of it."""

    hint = "it is done: do not run it again, read its results from the store"

    def __init__(
        self,
        message: str,
        id: str | None = None,  # noqa: A002
        token: Token | None = None,
    ) -> None:
        super().__init__(message, id)
        self.args = (message, id, token)
        #: Lets a transaction on any node read what it wrote; ``None`` if it is not known.
        self.token = token
