"""Client of the ``aft`` sidecar: read-atomic transactions for serverless functions.

>>> import aft
>>> client = aft.Client()                                              # doctest: +SKIP
>>> with client.transaction() as txn:                                  # doctest: +SKIP
...     txn.put("greeting", b"hello")

The asyncio twin is `aft.aio`, the stand-in for Cloudburst's client `aft.cloudburst`, and the
in-memory fake for your own tests `aft.testing`.
"""

from aft.client import Client
from aft.decorator import Transactional, transactional
from aft.errors import (
    AftError,
    AlreadyCommitted,
    InvalidRequest,
    OutcomeUnknown,
    RetryableError,
    SidecarUnavailable,
    StoreUnavailable,
    TransactionAborted,
)
from aft.ids import base_of, new_id
from aft.policy import RetryPolicy
from aft.results import Outcome, Result
from aft.tokens import Token
from aft.transaction import Transaction

__all__ = [
    "AftError",
    "AlreadyCommitted",
    "Client",
    "InvalidRequest",
    "Outcome",
    "OutcomeUnknown",
    "Result",
    "RetryPolicy",
    "RetryableError",
    "SidecarUnavailable",
    "StoreUnavailable",
    "Token",
    "Transaction",
    "TransactionAborted",
    "Transactional",
    "base_of",
    "new_id",
    "transactional",
]
