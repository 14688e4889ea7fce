"""The whole table of speed and memory, one script after the other.

python benchmarks/speed/everything.py
"""

from __future__ import annotations

import attention
import harness
import measure
import memory
import selection
import tokenising
import training_step
import uds
import xtf


def rows(runs: int) -> list[harness.Row]:
    """Measure every line; those that take a minute a run are measured fewer times."""
    few = max(2, runs // 2)
    return [
        *measure.rows(runs),
        *memory.rows(1),
        *selection.rows(few),
        *attention.rows(few),
        *training_step.rows(runs),
        *xtf.rows(few),
        *uds.rows(few),
        *tokenising.rows(runs),
    ]


if __name__ == "__main__":
    harness.main(rows, __doc__)
