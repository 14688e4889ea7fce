"""Selecting over shards: 100 million tokens against a sort of Python tuples, cleaned data, a billion tokens.

    python benchmarks/speed/selection.py

The baseline is what published scripts do: a list of (score, example, position), sorted; the first are kept, and labels
are written into nested lists. It is run on a million tokens and extrapolated by n log n, in its favour: the memory of
100 million tuples is not counted. Cleaned data is compared with dictionaries that `datasets` writes.
Checksums of the files that are read are verified in every run.
"""

from __future__ import annotations

import math
import resource
import shutil
import tempfile
from pathlib import Path

import datasets
import numpy as np
from harness import Row, main, middle, ratios, seconds

from tokensieve.containers import Examples, Statistics
from tokensieve.methods import get_method
from tokensieve.ops.rules import TopFraction
from tokensieve.select.cleaned import cleaned_rows, write_data
from tokensieve.select.streaming import LoadStatistics, read_selection, select_shards
from tokensieve.store.atomic import atomic_folder
from tokensieve.store.manifest import Manifest, open_manifest, write_manifest
from tokensieve.store.shards import shard_name, write_shard

datasets.disable_progress_bars()
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


def naive_data(ids: list[list[int]], cleaned: list[list[int]], folder: Path, *, jsonl: bool) -> None:
    """Write cleaned data the way published scripts do."""
    rows = [
        {"input_ids": row, "attention_mask": [1] * len(row), "labels": labels}
        for row, labels in zip(ids, cleaned, strict=True)
    ]
    data = datasets.Dataset.from_list(rows)
    data.to_parquet(folder / "naive.parquet")
    if jsonl:
        data.to_json(folder / "naive.jsonl")


def write(folder: Path, shards: int) -> dict[str, Manifest]:
    """Write generated shards of examples and losses, as a run has them."""
    cu_seqlens = np.arange(0, SHARD + 1, LENGTH, dtype=np.int64)
    records = {"examples": {}, "base": {}, "reference": {}}
    for number in range(shards):
        labels, base, reference = figures(number)
        ids = np.random.default_rng(number).integers(0, 50_000, SHARD, dtype=np.int32)
        columns = {
            "examples": {"input_ids": ids, "labels": np.where(labels == 7, ids, labels)},
            "base": {"loss": base},
            "reference": {"loss": reference},
        }
        for name, values in columns.items():
            file = shard_name(number)
            records[name][file] = write_shard(folder / name / file, cu_seqlens, values)
    for name, files in records.items():
        write_manifest(folder / name, files)
    return {name: open_manifest(folder / name) for name in records}


def changed(manifests: dict[str, Manifest]) -> None:
    """Make every file look new, so that its checksum is verified again."""
    for manifest in manifests.values():
        for name in manifest.files:
            (manifest.folder / name).touch()


def cleaned_data(examples: Manifest, folder: Path, runs: int, *, jsonl: bool) -> Row:
    """Measure cleaned data of a quarter of the shards."""
    shards = len(examples.files) // 4
    generator = np.random.default_rng(0)
    kept = [generator.random(SHARD, dtype=np.float32) < FRACTION for _ in range(shards)]

    def cleaned(number: int):
        cu_seqlens, columns = examples.read(shard_name(number))
        shard = Examples(cu_seqlens=cu_seqlens, input_ids=columns["input_ids"], labels=columns["labels"], rows=numbers)
        return cleaned_rows(shard, kept[number] & (shard.labels != -100))

    numbers = np.arange(SHARD // LENGTH, dtype=np.int64)
    columns = examples.read(shard_name(0))[1]
    ids = columns["input_ids"].reshape(-1, LENGTH).tolist()
    labels = np.where(kept[0], columns["labels"], -100).reshape(-1, LENGTH).tolist()
    slow, fast = [], []
    for _ in range(runs):
        changed({"examples": examples})
        slow.append(shards * seconds(lambda: naive_data(ids, labels, folder, jsonl=jsonl)))
        fast.append(seconds(lambda: write_data(folder / "cleaned", cleaned, shards, jsonl=jsonl)))
        shutil.rmtree(folder / "cleaned")
    return Row(
        f"write cleaned data of {shards * SHARD / 1e6:.0f}M tokens as Parquet" + (" and JSON lines" if jsonl else ""),
        "rows of dictionaries, written by `datasets`, extrapolated from 1M",
        "",
        ratios(slow, fast),
        f"{middle(slow)} to {middle(fast)}",
    )


def rows(runs: int) -> list[Row]:
    """Measure every line."""
    method, rule = get_method("token-cleaning"), TopFraction(FRACTION)
    numbers = np.arange(SHARD // LENGTH, dtype=np.int64)

    def from_disk(number: int) -> tuple[Statistics, np.ndarray]:
        cu_seqlens, columns = manifests["examples"].read(shard_name(number))
        values = {(role, "loss"): manifests[role].column(shard_name(number), "loss") for role in ("base", "reference")}
        return Statistics(cu_seqlens, columns["labels"], values), numbers

    cu_seqlens = np.arange(0, SHARD + 1, LENGTH, dtype=np.int64)

    def generated(number: int) -> tuple[Statistics, np.ndarray]:
        labels, base, reference = figures(number)
        return Statistics(cu_seqlens, labels, {("base", "loss"): base, ("reference", "loss"): reference}), numbers

    def selected(load: LoadStatistics, shards: int, out: Path) -> None:
        """Select as a run does: everything is on the disk at the end."""
        with atomic_folder(out) as partial:
            select_shards(method, rule, load, shards, partial)

    with tempfile.TemporaryDirectory(dir=".") as temporary:
        folder, shards = Path(temporary), 96
        manifests = write(folder, shards)
        slow, fast = [], []
        for run in range(runs):
            inputs = figures(run)
            one_million = seconds(lambda inputs=inputs: naive(*inputs))
            trainable = 0.7 * SHARD
            slow.append(one_million * shards * math.log(shards * trainable) / math.log(trainable))
            out = folder / f"out-{run}"
            changed(manifests)
            fast.append(seconds(lambda out=out: selected(from_disk, shards, out)))
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
        data = [cleaned_data(manifests["examples"], folder, runs, jsonl=jsonl) for jsonl in (False, True)]
    with tempfile.TemporaryDirectory(dir=".") as temporary:
        times = {}
        for shards in (95, 953):
            out = Path(temporary) / str(shards)
            times[shards] = seconds(lambda shards=shards, out=out: selected(generated, shards, out))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        billion = Row(
            f"select {FRACTION} of {953 * SHARD / 1e9:.2f} billion tokens, generated on the way",
            "-",
            "done, linear",
            (),
            f"{times[953]:.0f} s, {times[953] / times[95]:.1f} times that of a tenth; peak {memory:.2f} GB",
        )
    return [hundred, *data, billion]


if __name__ == "__main__":
    main(rows, __doc__)
