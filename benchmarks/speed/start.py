"""How long `tokensieve --help` takes, as a command.

python benchmarks/speed/start.py
"""

from __future__ import annotations

import subprocess
import sys

from harness import Row, main, seconds


def rows(runs: int) -> list[Row]:
    """Measure the line."""
    command = [sys.executable, "-m", "tokensieve", "--help"]
    spent = [seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(runs + 1)][1:]
    return [Row("start of `tokensieve --help`", "-", "< 0.5 s", (), f"{min(spent):.2f} to {max(spent):.2f} s")]


if __name__ == "__main__":
    main(rows, __doc__)
