"""Draws the samples of `aft bench soak`: plot_soak.py SAMPLES.csv PICTURE.svg."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

MIB = 1 << 20
# Text stays text, and the same samples give the same file.
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "soak", "font.size": 9})


def draw(samples: list[dict[str, float]], picture: Path) -> None:
    """Bytes above, counts in the middle, throughput below, over the transactions committed."""
    millions = [sample["transactions"] / 1e6 for sample in samples]

    def line(axes: Any, name: str, label: str, unit: float) -> None:
        axes.plot(millions, [sample[name] / unit for sample in samples], label=label, linewidth=1.2)

    figure, (space, counts, rate) = plt.subplots(3, sharex=True, figsize=(7.5, 7))
    line(space, "resident_bytes", "memory of the sidecar", MIB)
    line(space, "disk_bytes", "its store on the disk", MIB)
    space.set_ylabel("MiB")
    line(counts, "index_versions", "versions in memory", 1e3)
    line(counts, "store_versions", "versions in the store", 1e3)
    line(counts, "log_entries", "entries in the log", 1e3)
    line(counts, "outcomes", "outcomes", 1e3)
    counts.set_ylabel("thousands")
    # The first sample has nothing before it to be compared with.
    rate.plot(millions[1:], [sample["transactions_per_s"] for sample in samples[1:]], linewidth=1.2)
    rate.set_ylabel("transactions / s")
    rate.set_xlabel("million transactions committed")
    for axes in (space, counts, rate):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    space.legend(loc="lower right")
    counts.legend(loc="lower right", ncols=2)
    figure.tight_layout()
    figure.savefig(picture, metadata={"Date": None} if picture.suffix == ".svg" else None)


def main() -> None:
    source, picture = map(Path, sys.argv[1:])
    with source.open() as file:
        rows = csv.DictReader(file)
        draw([{name: float(text) for name, text in row.items()} for row in rows], picture)


if __name__ == "__main__":
    main()
