"""What an engine costs beside the work: shards that do nothing, and shards that wait.

    python benchmarks/speed/engines.py [--shards 400] [--runs 3]

A shard that does nothing shows the overhead of a shard. One that waits 50 ms keeps no core busy, so that eight workers
can be shown to work at once on a machine with fewer cores. Both are timed with workers that have done a shard already.
The fixed cost is that of a run with twice as many shards as workers: starting Ray, the workers with their imports, and
stopping both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tokensieve.engines import Done, start_engine, unseen
from tokensieve.engines.settings import EngineSettings

WAIT, WORKERS = 0.05, 8


class Worker:
    """Waits instead of measuring."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def do(self, shard: int, _: Any) -> Done:
        """Wait."""
        time.sleep(self._seconds)
        return Done(shard, 1, {})


@contextmanager
def make(seconds: float) -> Any:
    yield Worker(seconds)


def timed(workers: int, shards: int, seconds: float) -> tuple[float, float]:
    """Return seconds from the start of Ray to its end, and those in which workers that are there do all shards."""
    begin = end = start = time.perf_counter()
    with start_engine(EngineSettings("ray", workers=workers)) as engine:
        for number in (workers, shards):  # the second map has the workers of the first
            start = time.perf_counter()
            for _ in engine.map(partial(make, seconds), range(number), unseen, holds_model=False):
                end = time.perf_counter()
    return time.perf_counter() - begin, end - start


def spread(values: list[float], unit: str, scale: float = 1) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle * scale:.2f} {unit} ({low * scale:.2f} to {high * scale:.2f})"


def main() -> None:
    """Measure the engines, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=400)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_TOKEN", "of-the-benchmark" * 2)  # Ray remembers the first of a process
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    fixed, overhead, processor, scaling = [], [], [], []
    for _ in range(options.runs):
        before = os.times()
        whole, _ = timed(2, 2, 0)
        after = os.times()
        fixed.append(whole)
        processor.append(sum(after[:4]) - sum(before[:4]))
        overhead.append(timed(1, options.shards, 0)[1] / options.shards)
        alone = options.shards * WAIT
        with eight_places():
            scaling.append(alone / WORKERS / timed(WORKERS, options.shards, WAIT)[1])
    print("| Ray, beside the work | |\n|---|---|")
    print(f"| a shard | {spread(overhead, 'ms', 1000)} |")
    print(f"| a run with two workers: start, imports, end | {spread(fixed, 's')} |")
    print(f"| processor time of the driver in that | {spread(processor, 's')} |")
    print(f"| {WORKERS} workers with shards of {WAIT * 1000:.0f} ms, share of {WORKERS}x | {spread(scaling, '')} |")


@contextmanager
def eight_places() -> Any:
    """Give a cluster that takes more workers than this machine has cores."""
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
