"""A DynamoDB server for tests.

`AFT_TEST_DYNAMODB=URL` names a server to use instead.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from ministack import Ministack

EXTERNAL = os.environ.get("AFT_TEST_DYNAMODB")


class DynamoDb(Ministack):
    """The server, and a table of this test's own."""

    title = "DynamoDB"
    option = "dynamodb-table"
    used = "dynamodb_write_units"

    def __init__(self, place: Path) -> None:
        self.name = f"aft-{uuid.uuid4().hex}"
        super().__init__(place, EXTERNAL)

    @property
    def options_without_create(self) -> list[str]:
        where = ["--dynamodb-endpoint", self.url, "--dynamodb-table", self.name]
        return ["--storage", "dynamodb", "--dynamodb-region", "us-east-1", *where]
