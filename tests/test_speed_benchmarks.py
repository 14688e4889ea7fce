"""The scripts of `benchmarks/speed` as far as they can lose what they measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SPEED = Path(__file__).parents[1] / "benchmarks/speed"
ONE_ROW = """
import harness
harness.main(lambda runs: [harness.Row("select", "a sort", "2x", (2.0, 4.0, 3.0)[:runs], "words")], "One row.")
"""


def test_rows_are_written_into_a_folder_that_did_not_exist(tmp_path):
    rows = tmp_path / "not/there/rows.json"
    done = subprocess.run(
        [sys.executable, "-c", ONE_ROW, "--runs", "3", "--rows", str(rows)],
        cwd=SPEED,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "| select | a sort | 2x | **3x** (2 to 4) | words |"
    (row,) = json.loads(rows.read_text(encoding="utf-8"))
    assert row["ratio"] == [2.0, 4.0, 3.0]

    picture = tmp_path / "speed.svg"
    subprocess.run([sys.executable, str(SPEED / "figure.py"), str(rows), str(picture)], check=True)
    assert "</svg>" in picture.read_text(encoding="utf-8")
