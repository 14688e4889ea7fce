"""A method and a rule over the shards of a store: scores and decisions on disk, in constant memory.

Only a ranking over the whole data set needs to see every score before it can decide the first token. It
gets by with two more passes over the stored scores (`ops.cutoff`); every other rule decides a shard alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.errors import TokensieveError
from tokensieve.methods._base import Method
from tokensieve.ops.cutoff import Cutoff, find_cutoff
from tokensieve.ops.rules import Rule, TopExamples, TopFraction, forced_tokens
from tokensieve.store.shards import read_shard, shard_name, write_shard
from tokensieve.types import Bool, Float32, Statistics, UInt8

LoadStatistics = Callable[[int], tuple[Statistics, NDArray[np.int64]]]
"""Shard number to its statistics and the source rows of its examples."""


def select_shards(method: Method, rule: Rule, load: LoadStatistics, shards: int, folder: Path) -> dict[str, Any]:
    """Score every shard, decide which tokens are kept, and write both.

    Args:
        method: what scores.
        rule: what decides.
        load: reads one shard's statistics.
        shards: number of shards.
        folder: gets one file a shard, with ``row``, ``score``, ``kept`` and, where the method gives them, ``reasons``.

    Returns:
        Counts: ``trainable``, ``kept``, ``examples``, ``examples_without_kept``, and ``threshold``, the
        lowest score that was kept by rank (None where no single one exists).
    """
    if isinstance(rule, TopFraction | TopExamples) and rule.scope == "batch":
        raise TokensieveError(
            "scope 'batch' ranks within a training batch, and offline there is none",
            mend="scope: dataset or scope: example"
            if isinstance(rule, TopFraction)
            else "a method that selects offline",
        )
    whole = isinstance(rule, TopFraction) and rule.scope == "dataset"
    for number in range(shards):
        statistics, rows = load(number)
        scores = np.where(statistics.trainable, method.score(statistics), np.float32(0)).astype(np.float32)
        kept = np.zeros_like(statistics.trainable) if whole else rule.keep(scores, statistics)
        _write(folder, number, statistics, rows, scores, kept, method.reasons(statistics))
    threshold = None
    if whole:
        assert isinstance(rule, TopFraction)
        threshold = _decide_dataset(rule, load, shards, folder)
    return {**_count(load, shards, folder), "threshold": threshold}


def read_selection(folder: Path, number: int) -> tuple[Float32, Bool]:
    """Read one shard's scores, float32 ``[tokens]``, and decisions, bool ``[tokens]``."""
    _, columns = read_shard(folder / shard_name(number))
    return columns["score"], columns["kept"]


def _decide_dataset(rule: TopFraction, load: LoadStatistics, shards: int, folder: Path) -> float | None:
    def keys() -> Iterator[NDArray[np.uint32]]:
        for number in range(shards):
            statistics, _ = load(number)
            scores, _ = read_selection(folder, number)
            yield rule.keys(scores, statistics)

    trainable = forced = 0
    for number in range(shards):
        statistics, _ = load(number)
        trainable += int(statistics.trainable.sum())
        forced += int(forced_tokens(statistics).sum())
    cutoff = find_cutoff(keys, rule.picks(trainable, forced))
    lowest = np.float32(np.inf)
    for number, shard_keys in enumerate(keys()):
        lowest = min(lowest, _decide_shard(rule, cutoff, shard_keys, load, number, folder))
    return float(lowest) if np.isfinite(lowest) else None


def _decide_shard(
    rule: TopFraction, cutoff: Cutoff, keys: NDArray[np.uint32], load: LoadStatistics, number: int, folder: Path
) -> np.float32:
    """Write one shard's decisions; return its lowest score that was kept by rank."""
    statistics, rows = load(number)
    _, columns = read_shard(folder / shard_name(number))
    scores = columns["score"]
    kept = np.zeros_like(statistics.trainable)
    kept[statistics.trainable] = rule.decide(cutoff.keep(keys))
    _write(folder, number, statistics, rows, scores, kept, columns.get("reasons"))
    by_rank = scores[kept & ~forced_tokens(statistics)]
    return by_rank.min() if len(by_rank) else np.float32(np.inf)


def _count(load: LoadStatistics, shards: int, folder: Path) -> dict[str, int]:
    counts = {"trainable": 0, "kept": 0, "examples": 0, "examples_without_kept": 0}
    for number in range(shards):
        statistics, _ = load(number)
        _, kept = read_selection(folder, number)
        counts["trainable"] += int(statistics.trainable.sum())
        counts["kept"] += int(kept.sum())
        counts["examples"] += len(statistics)
        kept_in_example = np.add.reduceat(kept.astype(np.int64), statistics.cu_seqlens[:-1])
        counts["examples_without_kept"] += int((kept_in_example == 0).sum())
    return counts


def _write(
    folder: Path,
    number: int,
    statistics: Statistics,
    rows: NDArray[np.int64],
    scores: Float32,
    kept: Bool,
    reasons: UInt8 | None,
) -> None:
    columns: dict[str, NDArray[Any]] = {"score": scores, "kept": kept}
    if reasons is not None:
        columns["reasons"] = reasons
    write_shard(folder / shard_name(number), statistics.cu_seqlens, columns, {"row": rows})
