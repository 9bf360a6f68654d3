"""The asyncio twin of the client: the same names, awaited.

>>> import aft.aio
>>> client = aft.aio.AsyncClient()                                     # doctest: +SKIP
>>> async with client.transaction() as txn:                            # doctest: +SKIP
...     await txn.put("greeting", b"hello")
"""

from aft.aio._client import AsyncClient
from aft.aio._decorator import AsyncTransactional, transactional
from aft.aio._transaction import AsyncTransaction

__all__ = ["AsyncClient", "AsyncTransaction", "AsyncTransactional", "transactional"]
