"""Memory and processor time of a driver with a million shards, which an engine does at once without doing anything.

    python benchmarks/speed/driver.py [--shards 10000 100000 1000000]

The drivers are those of measuring, selecting and writing cleaned data, and the manifests that they write and read are
whole; only the shards are not there. The engine says of each what a worker would say. Each size has a process of its
own, whose peak is that of its resident memory.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tokensieve.containers import LOSS
from tokensieve.data.counts import Counts as RowCounts
from tokensieve.data.example_store import ExampleStore
from tokensieve.engines import Done
from tokensieve.measure import measure as measuring
from tokensieve.measure.measurement import file_name
from tokensieve.measure.settings import MeasureSettings
from tokensieve.methods import get_method
from tokensieve.models.pool import ModelPool
from tokensieve.models.settings import ModelSettings
from tokensieve.ops.cutoff import Tally
from tokensieve.ops.rules import TopFraction
from tokensieve.select.cleaned import write_data
from tokensieve.select.passes import Counts, Decide, Scored, ScoreRanked, kept_name
from tokensieve.select.streaming import select_shards
from tokensieve.store.checksum import FileRecord
from tokensieve.store.manifest import open_manifest, write_manifest
from tokensieve.store.records import FileRecords
from tokensieve.store.shards import shard_name

TOKENS, ROWS = 2**20, 2**12  # of a shard
MODEL = Path(__file__).parents[2] / "src/tokensieve/demo/model"


def record(number: int) -> FileRecord:
    """Return what a manifest says of a file of a shard."""
    return FileRecord(ROWS, TOKENS, f"{number:032x}")


class AtOnce:
    """Says of every shard what a worker would say, and does nothing."""

    def map(
        self,
        make: Any,
        shards: Sequence[int],
        on_tokens: Callable[[int], None],
        *,
        holds_model: bool = True,
        one_at_a_time: bool = False,
    ) -> Iterator[Done]:
        """Yield all shards."""
        work = None if holds_model else make.args[0]
        values = np.sort(np.random.default_rng(0).random(2**16, dtype=np.float32))
        for number in shards:
            on_tokens(TOKENS)
            yield self._done(work, number, values)

    def _done(self, work: Any, number: int, values: np.ndarray) -> Done:
        if work is None:
            return Done(number, TOKENS, {file_name(LOSS, number): record(number)})
        if isinstance(work, ScoreRanked):
            sample = values[np.random.default_rng(number).integers(0, len(values), -(-TOKENS // work.one_in))]
            scored = Scored(TOKENS, TOKENS, 0, sample, (0.0, 1.0))
            return Done(number, TOKENS, {shard_name(number): record(number)}, scored)
        if isinstance(work, Decide):
            files = {kept_name(number): record(number)}
            return Done(number, TOKENS, files, Counts(TOKENS, TOKENS * 3 // 5, ROWS))
        if hasattr(work, "work"):  # a pass over scores
            if work.work.func.__name__ == "count_ties":
                return Done(number, TOKENS, {}, 1)
            low, high = work.work.args
            within = values[(values >= low) & (values <= high)]
            each = TOKENS // len(values)
            above = each * int((values > high).sum())
            return Done(number, TOKENS, {}, Tally(above, within, np.full(len(within), each)))
        return Done(number, TOKENS, {f"data/train-{number:05d}-of-{work.shards:05d}.parquet": record(number)})


def examples_of(folder: Path, shards: int) -> ExampleStore:
    """Return a store whose manifest has so many shards."""
    files = FileRecords()
    for number in range(shards):
        files[shard_name(number)] = record(number)
    write_manifest(folder, files)
    return ExampleStore(folder, "f" * 64, RowCounts(), (), shards)


def measure(folder: Path, shards: int) -> None:
    """Measure nothing."""
    examples = examples_of(folder / "examples", shards)
    settings, pool = MeasureSettings(), ModelPool("cpu")
    measuring.measure(examples, ModelSettings(str(MODEL)), [LOSS], settings, folder, pool, AtOnce(), lambda _: None)


def select(folder: Path, shards: int) -> None:
    """Select nothing, with ties at the cut-off."""

    def load(_: int) -> Any:
        raise AssertionError

    counts = select_shards(
        get_method("token-cleaning"), TopFraction(0.6), load, shards, folder / "scores", engine=AtOnce()
    )
    assert counts["trainable"] == shards * TOKENS
    assert 0.39 < counts["threshold"] < 0.41


def write(folder: Path, shards: int) -> None:
    """Write nothing."""

    def rows(_: int) -> Any:
        raise AssertionError

    assert write_data(folder / "cleaned", rows, shards, engine=AtOnce()) == shards * ROWS


def manifest(folder: Path, shards: int) -> None:
    """Write a manifest, and read it."""
    examples_of(folder / "examples", shards)
    assert len(open_manifest(folder / "examples").files) == shards


DRIVERS = {"manifest": manifest, "measure": measure, "select": select, "write": write}


def peak_of(name: str, shards: int) -> tuple[float, float]:
    """Return the megabytes that a driver adds to those of the process, and its seconds of the processor."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        before, start = _peak(), time.process_time()
        DRIVERS[name](Path(folder), shards)
        return _peak() - before, time.process_time() - start


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure every driver at every size, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, nargs="+", default=[10**4, 10**5, 10**6])
    parser.add_argument("--driver", choices=[*DRIVERS], help="only this one, at the first size, in this process")
    options = parser.parse_args()
    if options.driver:
        print(*peak_of(options.driver, options.shards[0]))
        return
    print("| driver |", " | ".join(f"{shards:,} shards" for shards in options.shards), "|")
    print("|---|" + "---|" * len(options.shards))
    for name in DRIVERS:
        cells = []
        for shards in options.shards:
            command = [sys.executable, __file__, "--driver", name, "--shards", str(shards)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            added, seconds = map(float, done.stdout.split())
            cells.append(f"{added:,.0f} MB, {seconds:.1f} s")
        print(f"| {name} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
