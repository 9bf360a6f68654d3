"""`aft bench cluster`, in its short form: real nodes, an Anna of its own, all figures there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daemon import run


def test_it_measures_and_leaves_nothing_behind(place: Path) -> None:
    ended = run("bench", "cluster", "--quick", "--json", "--work-dir", str(place))
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    kinds = [chain["kind"] for chain in report["chains"]["chains"]]
    assert kinds == ["one_node", "two_nodes", "two_nodes_reading"]
    assert report["chains"]["refused"] == 0
    assert all(chain["whole"]["p50_us"] > 0 for chain in report["chains"]["chains"])
    assert report["chains"]["round_trip"]["p50_us"] > 0
    assert report["visibility"]["commits"] > 0
    alone, two = report["traffic"]["rows"]
    assert (alone["nodes"], alone["busy"]["messages_sent"]) == (1, 0)
    assert two["gossip_bytes_per_commit"] > 0
    assert two["busy"]["cpu_ms"] > 0
    few, many = report["model"]["rows"]
    assert many["bytes_per_commit"] == pytest.approx(15 * few["bytes_per_commit"], rel=0.1)
    assert report["model"]["index_bytes_per_commit"] > 0
    assert [target["what"] for target in report["targets"]]
    assert not list(place.iterdir())


def test_what_cannot_be_is_refused() -> None:
    ended = run("bench", "cluster", "--nodes", "2,50")
    assert ended.returncode == 1
    assert "49 nodes" in ended.stderr
