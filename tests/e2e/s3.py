"""An S3 server for tests.

`AFT_TEST_S3=URL` names a server to use instead.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from ministack import Ministack

EXTERNAL = os.environ.get("AFT_TEST_S3")
ours = pytest.mark.skipif(bool(EXTERNAL), reason="needs a server that can be stopped")


class S3(Ministack):
    """The server, and a bucket of this test's own."""

    def __init__(self, place: Path) -> None:
        self.bucket = f"aft-{uuid.uuid4().hex}"
        super().__init__(place, EXTERNAL)

    @property
    def options(self) -> list[str]:
        """What a sidecar is told to use this bucket, which it makes."""
        return [*self.options_without_create, "--create"]

    @property
    def options_without_create(self) -> list[str]:
        where = ["--s3-endpoint", self.url, "--s3-bucket", self.bucket]
        return ["--storage", "s3", "--s3-region", "us-east-1", *where]
