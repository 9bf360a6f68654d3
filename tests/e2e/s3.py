"""An S3 server for tests.

`AFT_TEST_S3=URL` names a server to use instead.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from ministack import Ministack

EXTERNAL = os.environ.get("AFT_TEST_S3")


class S3(Ministack):
    """The server, and a bucket of this test's own."""

    title = "S3"
    option = "s3-bucket"
    used = "s3_puts"

    def __init__(self, place: Path) -> None:
        self.name = f"aft-{uuid.uuid4().hex}"
        super().__init__(place, EXTERNAL)

    @property
    def options_without_create(self) -> list[str]:
        where = ["--s3-endpoint", self.url, "--s3-bucket", self.name]
        return ["--storage", "s3", "--s3-region", "us-east-1", *where]
