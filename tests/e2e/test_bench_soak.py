"""The soak benchmark, for seconds: that it measures, not what."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

from daemon import BINARY


def test_it_looks_compares_and_restarts(place: Path) -> None:
    samples = place / "samples.csv"
    options = "--keys 200 --seconds 2 --sample-each 0.5 --compare-rounds 2 --compare-seconds 0.5"
    command = [BINARY, "bench", "soak", "--json", "--csv", str(samples), "--work-dir", str(place)]
    done = subprocess.run(
        [*command, *options.split(), "--restart-after", "1000"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    with samples.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(report["samples"]["taken"]) >= 2
    assert int(rows[-1]["transactions"]) > int(rows[0]["transactions"])
    assert int(rows[-1]["store_versions"]) >= 200
    assert {fit["figure"] for fit in report["growth"]["fits"]} >= {"memory, bytes", "disk, bytes"}
    assert report["collecting"]["transactions_per_s"]["sidecar"] > 0
    for how in ("ended", "killed"):
        assert report["restarts"][how]["second"]["transactions"] >= 1000
        assert report["restarts"][how]["first"]["seconds"] > 0
    assert not list(place.glob("aft-bench-*")), "it leaves nothing behind"
