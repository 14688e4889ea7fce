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
    "measure": 5,
    "memory": 1,
    "adapter": 5,
    "selection": 5,
    "attention": 5,
    "training_step": 5,
    "xtf": 5,
    "uds": 5,
    "tokenising": 5,
    "end_to_end": 2,
    "start": 5,
    "gpu": 5,
}
"""Name of each script and how often it is run."""


def rows(runs: int) -> list[harness.Row]:
    """Measure every line, each at most so often."""
    found = []
    for name, most in SCRIPTS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.json"
            script = str(Path(__file__).with_name(f"{name}.py"))
            subprocess.run([sys.executable, script, "--runs", str(min(runs, most)), "--rows", str(path)], check=True)
            found += [harness.Row(**{**row, "ratio": tuple(row["ratio"])}) for row in json.loads(path.read_text())]
    return found


if __name__ == "__main__":
    harness.main(rows, __doc__)
