"""A method and a rule over the shards of a store: scores and decisions on disk, a few shards in memory.

Only a ranking over the whole data set needs to see every score before it can decide the first token. It gets by with
two counts of the stored scores (`ops.cutoff`) and two bits a token in memory; every other rule decides a shard alone.
Shards are worked on side by side, and the result does not depend on how many at once.
"""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tokensieve.errors import TokensieveError
from tokensieve.methods._base import Method
from tokensieve.ops.cutoff import count_lower, count_upper, find_cutoff
from tokensieve.ops.ragged import segment_counts
from tokensieve.ops.rules import Rule, TopExamples, TopFraction, forced_tokens
from tokensieve.store.shards import read_column, read_shard, shard_name, write_shard
from tokensieve.types import Advance, Bool, Float32, Int64, Statistics, UInt8, check_finite

Result = TypeVar("Result")
_MOST_WORKERS = 8  # beyond it the disk is the limit, and every worker holds a shard or two

LoadStatistics = Callable[[int], tuple[Statistics, NDArray[np.int64]]]
"""Shard number to its statistics and the source rows of its examples."""


Stage = Callable[[str], AbstractContextManager[Advance]]
"""Opens a progress bar, in trainable tokens, for what it is told: ``score`` or ``select``."""


@contextmanager
def unseen(_: str) -> Iterator[Advance]:
    """Show no progress."""
    yield lambda amount, /, *, total=None, note=None: None


def select_shards(
    method: Method, rule: Rule, load: LoadStatistics, shards: int, folder: Path, stage: Stage = unseen
) -> dict[str, Any]:
    """Score every shard, decide which tokens are kept, and write both.

    Args:
        method: what scores.
        rule: what decides.
        load: reads one shard's statistics.
        shards: number of shards.
        folder: gets one file a shard, with ``row``, ``score`` and, where the method gives them, ``reasons``, and one in
            ``kept/`` with the decisions.
        stage: shows progress, and the kept share so far.

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
    with ThreadPoolExecutor(_workers()) as pool:
        if isinstance(rule, TopFraction) and rule.scope == "dataset":
            return _select_dataset(method, rule, load, shards, folder, pool, stage)
        counts = _Counts()

        def work(number: int) -> _Counts:
            statistics, scores = _score(method, load, number, folder)
            kept = rule.keep(scores, statistics)
            _write_kept(folder, number, statistics.cu_seqlens, kept)
            return _Counts.of(statistics.trainable, kept, statistics.cu_seqlens)

        with stage("select") as advance:
            for part in in_order(pool, work, shards):
                counts.add(part, advance)
        return {**asdict(counts), "threshold": None}


def read_selection(folder: Path, number: int) -> tuple[Float32, Bool]:
    """Read one shard's scores, float32 ``[tokens]``, and decisions, bool ``[tokens]``."""
    name = shard_name(number)
    return read_column(folder / name, "score"), read_column(folder / "kept" / name, "kept")


def in_order(pool: ThreadPoolExecutor, work: Callable[[int], Result], count: int) -> Iterator[Result]:
    """Yield the results of ``work(0)``, ``work(1)``, ... in order, a few ahead of the reader at most."""
    ahead: deque[Future[Result]] = deque()
    for number in range(count):
        ahead.append(pool.submit(work, number))
        if len(ahead) > _workers():
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


@dataclass
class _Counts:
    trainable: int = 0
    kept: int = 0
    examples: int = 0
    examples_without_kept: int = 0

    @classmethod
    def of(cls, trainable: Bool, kept: Bool, cu_seqlens: Int64) -> _Counts:
        without = int((segment_counts(kept, cu_seqlens) == 0).sum())
        return cls(int(trainable.sum()), int(kept.sum()), len(cu_seqlens) - 1, without)

    def add(self, other: _Counts, advance: Advance) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        advance(other.trainable, note=f"{100 * self.kept / max(1, self.trainable):.1f} % kept")


@dataclass(frozen=True, eq=False)
class _Masks:
    """Which tokens of a shard are trainable and which of them must be kept: two bits a token, held for every shard."""

    tokens: int
    trainable: UInt8
    forced: UInt8

    @classmethod
    def of(cls, statistics: Statistics) -> _Masks:
        forced = forced_tokens(statistics)
        return cls(len(forced), np.packbits(statistics.trainable), np.packbits(forced))

    def unpacked(self) -> tuple[Bool, Bool]:
        both = (np.unpackbits(bits, count=self.tokens).view(bool) for bits in (self.trainable, self.forced))
        trainable, forced = both
        return trainable, forced


def _select_dataset(
    method: Method,
    rule: TopFraction,
    load: LoadStatistics,
    shards: int,
    folder: Path,
    pool: ThreadPoolExecutor,
    stage: Stage,
) -> dict[str, Any]:
    """Score every shard, find the cut-off by two counts of the scores, and decide: three passes."""

    def first(number: int) -> tuple[_Masks, NDArray[np.int64]]:
        statistics, scores = _score(method, load, number, folder)
        masks = _Masks.of(statistics)
        return masks, count_upper(rule.keys(scores, *masks.unpacked()))

    masks: list[_Masks] = []
    upper = np.zeros(0, dtype=np.int64)
    with stage("score") as advance:
        for mask, counted in in_order(pool, first, shards):
            masks.append(mask)
            upper = counted + (upper if len(upper) else 0)
            advance(_set_bits(mask.trainable))

    def keys(number: int) -> NDArray[np.uint32]:
        return rule.keys(read_column(folder / shard_name(number), "score"), *masks[number].unpacked())

    def lower(bucket: int) -> NDArray[np.int64]:
        parts = in_order(pool, lambda number: count_lower(keys(number), bucket), shards)
        return functools.reduce(np.add, parts)

    trainable, forced = (sum(_set_bits(getattr(mask, name)) for mask in masks) for name in ("trainable", "forced"))
    cutoff = find_cutoff(upper, lower, rule.picks(trainable, forced))

    def third(number: int) -> tuple[Int64, Float32, NDArray[np.uint32]]:
        cu_seqlens, columns = read_shard(folder / shard_name(number))
        return cu_seqlens, columns["score"], rule.keys(columns["score"], *masks[number].unpacked())

    def finish(number: int, cu_seqlens: Int64, scores: Float32, picked: Bool) -> tuple[_Counts, np.float32]:
        trainable, forced = masks[number].unpacked()
        kept = np.zeros(len(trainable), dtype=bool)
        kept[trainable] = rule.decide(picked)
        _write_kept(folder, number, cu_seqlens, kept)
        by_rank = scores[kept & ~forced]
        return _Counts.of(trainable, kept, cu_seqlens), by_rank.min() if len(by_rank) else np.float32(np.inf)

    counts, lowest = _Counts(), np.float32(np.inf)
    # Ties are shared out in the order of the shards; reading and writing need no order.
    writing: deque[Future[tuple[_Counts, np.float32]]] = deque()
    with stage("select") as advance:
        for number, (cu_seqlens, scores, shard_keys) in enumerate(in_order(pool, third, shards)):
            writing.append(pool.submit(finish, number, cu_seqlens, scores, cutoff.keep(shard_keys)))
            while writing and (len(writing) > _workers() or number == shards - 1):
                part, least = writing.popleft().result()
                counts.add(part, advance)
                lowest = min(lowest, least)
    return {**asdict(counts), "threshold": float(lowest) if np.isfinite(lowest) else None}


def _score(method: Method, load: LoadStatistics, number: int, folder: Path) -> tuple[Statistics, Float32]:
    statistics, rows = load(number)
    scores = np.where(statistics.trainable, method.score(statistics), np.float32(0)).astype(np.float32, copy=False)
    check_finite(scores, statistics.trainable, statistics.cu_seqlens, "score")
    columns: dict[str, NDArray[Any]] = {"score": scores}
    if (reasons := method.reasons(statistics)) is not None:
        columns["reasons"] = reasons
    write_shard(folder / shard_name(number), statistics.cu_seqlens, columns, {"row": rows})
    return statistics, scores


def _set_bits(packed: UInt8) -> int:
    return int(np.bitwise_count(packed).sum(dtype=np.int64))


def _write_kept(folder: Path, number: int, cu_seqlens: Int64, kept: Bool) -> None:
    write_shard(folder / "kept" / shard_name(number), cu_seqlens, {"kept": kept})


def _workers() -> int:
    return min(_MOST_WORKERS, os.cpu_count() or 1)
