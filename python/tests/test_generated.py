"""The generated protobuf code is what the repository's proto files say."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PYTHON = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which("protoc") is None, reason="protoc is not installed")
@pytest.mark.skipif(not (PYTHON.parent / "proto").is_dir(), reason="not in the repository")
def test_generated_code_is_current(tmp_path: Path) -> None:
    version = subprocess.run(["protoc", "--version"], capture_output=True, text=True, check=True)
    if not version.stdout.startswith("libprotoc 3.21."):
        pytest.skip(f"{version.stdout.strip()} writes other code than 3.21, which is wanted")
    subprocess.run([PYTHON / "tools/generate-protos", tmp_path], check=True)
    made = sorted((tmp_path / "aft/_wire").iterdir())
    assert [path.name for path in made] == [
        "aft_pb2.py",
        "aft_pb2.pyi",
        "anna_pb2.py",
        "anna_pb2.pyi",
    ]
    for path in made:
        current = (PYTHON / "aft/_wire" / path.name).read_text()
        assert path.read_text() == current, f"run tools/generate-protos: {path.name} is out of date"
