"""The nodes that `scripts/cluster up` has started, for the examples that need several."""

import os
from pathlib import Path

import aft

BESIDE = Path(__file__).parents[2] / "target/cluster"


def client_of(node: int) -> aft.Client:
    """What a function on that machine gets from `aft.Client()`. Nodes are counted from 1."""
    return aft.Client(Path(os.environ.get("AFT_CLUSTER_DIR", BESIDE)) / str(node) / "ipc")
