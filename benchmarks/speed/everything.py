"""The whole table of speed and memory: one script after the other, each in a process of its own.

    python benchmarks/speed/everything.py

Those that take a minute a run are measured fewer times.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import harness

SCRIPTS = {
    "measure": 1.0,
    "memory": 0.2,
    "selection": 0.4,
    "attention": 0.6,
    "training_step": 1.0,
    "xtf": 0.4,
    "uds": 1.0,
    "tokenising": 1.0,
}
"""Name of each script and its share of the runs."""


def rows(runs: int) -> list[harness.Row]:
    """Measure every line."""
    found = []
    for name, share in SCRIPTS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.json"
            script = str(Path(__file__).with_name(f"{name}.py"))
            few = str(max(2, round(runs * share)))
            subprocess.run([sys.executable, script, "--runs", few, "--rows", str(path)], check=True)
            found += [harness.Row(**{**row, "ratio": tuple(row["ratio"])}) for row in json.loads(path.read_text())]
    return found


if __name__ == "__main__":
    harness.main(rows, __doc__)
