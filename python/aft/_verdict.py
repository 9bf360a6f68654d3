"""From the sidecar's error codes to exceptions."""

from __future__ import annotations

from aft._wire import anna_pb2 as anna
from aft.errors import (
    AftError,
    InvalidRequest,
    OutcomeUnknown,
    StoreUnavailable,
    TransactionAborted,
)

_RAISED: dict[int, type[AftError]] = {
    anna.TIMEOUT: StoreUnavailable,
    anna.LATTICE: InvalidRequest,
    anna.NO_SERVERS: StoreUnavailable,
    anna.RETRY: TransactionAborted,
    anna.INVALID: InvalidRequest,
    anna.UNDECIDED: OutcomeUnknown,
}

_WORDS: dict[int, str] = {
    anna.TIMEOUT: "the store did not answer in time",
    anna.LATTICE: "only last-writer-wins values can be written",
    anna.NO_SERVERS: "the store cannot be reached",
    anna.RETRY: "the transaction was aborted",
    anna.INVALID: "the sidecar cannot serve this request",
    anna.UNDECIDED: "the outcome is not known yet",
}


def exception(error: int, detail: str, about: str | None) -> AftError:
    """Make the exception that a code from the sidecar stands for."""
    kind = _RAISED.get(error, InvalidRequest)
    words = detail or _WORDS.get(error) or f"the sidecar answered with unknown error code {error}"
    return kind(words, about)
