"""The ratios of the table as a picture.

python benchmarks/speed/figure.py rows.json docs/images/speed.svg
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import textwrap
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw each line that is a speed-up: the median as a bar, the spread as a line, its aim as a diamond."""
    plt.rcParams["svg.hashsalt"] = "tokensieve"  # the same figures give the same file
    shown = [row for row in rows if row["ratio"] and "its time" not in row["target"]][::-1]
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(shown) + 1))
    names = [textwrap.fill(row["what"].replace("`", ""), 46) for row in shown]
    medians = [statistics.median(row["ratio"]) for row in shown]
    axes.barh(names, [median - 1 for median in medians], left=1, color="#3b6ea8", height=0.6)
    for place, row in enumerate(shown):
        axes.plot([min(row["ratio"]), max(row["ratio"])], [place, place], "|-", color="#1c2733", linewidth=1)
        if wanted := re.search(r"(\d+)x", row["target"]):
            axes.plot(int(wanted[1]), place, "D", color="#b3541e", markerfacecolor="white", markersize=6)
    axes.axvline(1, color="#1c2733", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}x")
    axes.set_xlabel("faster than the naive way (memory: less)\nbar: median, line: all runs, diamond: the aim")
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
