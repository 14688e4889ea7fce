"""Selecting over shards: 100 million tokens against a sort of Python tuples, and a billion tokens in bounded memory.

    python benchmarks/speed/selection.py

The baseline is what published scripts do: a list of (score, example, position), sorted; the first are kept, and labels
are written into nested lists. It is run on a million tokens and extrapolated by n log n, in its favour: the memory of
100 million tuples is not counted.
"""

from __future__ import annotations

import math
import resource
import shutil
import tempfile
from pathlib import Path

import numpy as np
from harness import Row, main, middle, seconds

from tokensieve.containers import Statistics
from tokensieve.methods import get_method
from tokensieve.ops.rules import TopFraction
from tokensieve.select.streaming import read_selection, select_shards
from tokensieve.store.shards import read_shard, shard_name, write_shard

LENGTH, SHARD = 200, 2**20 // 200 * 200
FRACTION = 0.6


def figures(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels and two losses of one generated shard; rounded, so that there are ties."""
    generator = np.random.default_rng(number)
    labels = np.where(generator.random(SHARD, dtype=np.float32) < 0.7, np.int32(7), np.int32(-100))
    labels[::LENGTH] = -100
    base = np.round(generator.standard_exponential(SHARD, dtype=np.float32), 3)
    return labels, base, np.round(base * generator.random(SHARD, dtype=np.float32), 3)


def naive(labels: np.ndarray, base: np.ndarray, reference: np.ndarray) -> list[list[int]]:
    """Return the cleaned labels of each example, the way published scripts compute them."""
    rows = labels.reshape(-1, LENGTH).tolist()
    scores = (base - reference).reshape(-1, LENGTH).tolist()
    ranked = []
    for example, (row, values) in enumerate(zip(rows, scores, strict=True)):
        for position, label in enumerate(row):
            if label != -100:
                ranked.append((values[position], example, position))
    ranked.sort(key=lambda entry: entry[0], reverse=True)
    cleaned = [[-100] * LENGTH for _ in rows]
    for _, example, position in ranked[: int(len(ranked) * FRACTION)]:
        cleaned[example][position] = rows[example][position]
    return cleaned


def write(folder: Path, shards: int) -> None:
    """Write generated shards of labels and losses."""
    cu_seqlens = np.arange(0, SHARD + 1, LENGTH, dtype=np.int64)
    for number in range(shards):
        labels, base, reference = figures(number)
        write_shard(folder / "labels" / shard_name(number), cu_seqlens, {"labels": labels})
        write_shard(folder / "base" / shard_name(number), cu_seqlens, {"loss": base})
        write_shard(folder / "reference" / shard_name(number), cu_seqlens, {"loss": reference})


def rows(runs: int) -> list[Row]:
    """Measure both lines."""
    method, rule = get_method("token-cleaning"), TopFraction(FRACTION)
    numbers = np.arange(SHARD // LENGTH, dtype=np.int64)

    def from_disk(number: int) -> tuple[Statistics, np.ndarray]:
        cu_seqlens, columns = read_shard(folder / "labels" / shard_name(number))
        values = {
            (role, "loss"): read_shard(folder / role / shard_name(number))[1]["loss"] for role in ("base", "reference")
        }
        return Statistics(cu_seqlens, columns["labels"], values), numbers

    cu_seqlens = np.arange(0, SHARD + 1, LENGTH, dtype=np.int64)

    def generated(number: int) -> tuple[Statistics, np.ndarray]:
        labels, base, reference = figures(number)
        return Statistics(cu_seqlens, labels, {("base", "loss"): base, ("reference", "loss"): reference}), numbers

    with tempfile.TemporaryDirectory(dir=".") as temporary:
        folder, shards = Path(temporary), 96
        write(folder, shards)
        slow, fast, exact = [], [], True
        for run in range(runs):
            inputs = figures(run)
            one_million = seconds(lambda inputs=inputs: naive(*inputs))
            trainable = 0.7 * SHARD
            slow.append(one_million * shards * math.log(shards * trainable) / math.log(trainable))
            out = folder / f"out-{run}"
            fast.append(seconds(lambda out=out: select_shards(method, rule, from_disk, shards, out)))
            shutil.rmtree(out)
        small = folder / "small"
        select_shards(method, rule, from_disk, 1, small)
        kept = read_selection(small, 0)[1]
        exact = np.array_equal(kept, np.concatenate(naive(*figures(0))) != -100)
        tokens = shards * SHARD
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        hundred = Row(
            f"select {FRACTION} of {tokens / 1e6:.0f}M tokens, scope dataset, from shards",
            "Python sort of tuples, extrapolated from 1M",
            "100x",
            tuple(a / b for a, b in zip(slow, fast, strict=True)),
            f"{middle(slow)} to {middle(fast)}; peak {memory:.2f} GB; same tokens as the sort: {exact}",
        )
    with tempfile.TemporaryDirectory(dir=".") as temporary:
        times = {}
        for shards in (95, 953):
            out = Path(temporary) / str(shards)
            times[shards] = seconds(lambda shards=shards, out=out: select_shards(method, rule, generated, shards, out))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        billion = Row(
            f"select {FRACTION} of {953 * SHARD / 1e9:.2f} billion tokens, generated on the way",
            "-",
            "done, linear",
            (),
            f"{times[953]:.0f} s, {times[953] / times[95]:.1f} times that of a tenth; peak {memory:.2f} GB",
        )
    return [hundred, billion]


if __name__ == "__main__":
    main(rows, __doc__)
