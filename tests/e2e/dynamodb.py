"""A DynamoDB server for tests.

`AFT_TEST_DYNAMODB=URL` names a server to use instead.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from ministack import Ministack

EXTERNAL = os.environ.get("AFT_TEST_DYNAMODB")
ours = pytest.mark.skipif(bool(EXTERNAL), reason="needs a server that can be stopped")


class DynamoDb(Ministack):
    """The server, and a table of this test's own."""

    def __init__(self, place: Path) -> None:
        self.table = f"aft-{uuid.uuid4().hex}"
        super().__init__(place, EXTERNAL)

    @property
    def options(self) -> list[str]:
        """What a sidecar is told to use this table, which it makes."""
        return [*self.options_without_create, "--create"]

    @property
    def options_without_create(self) -> list[str]:
        where = ["--dynamodb-endpoint", self.url, "--dynamodb-table", self.table]
        return ["--storage", "dynamodb", "--dynamodb-region", "us-east-1", *where]
