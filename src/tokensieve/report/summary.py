"""What the scores of one arm look like over the whole data set, gathered in two passes over the shards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokensieve.ops.ragged import order_keys, segment_counts
from tokensieve.report.heatmap import PERCENTILES
from tokensieve.report.view import RunView, ShardView
from tokensieve.types import Bool, Float32, Int64

BINS = 40
LEAST_SEEN = 20
"""Occurrences below which a token's kept share says too little."""
_KEY_BITS = 20  # of 32: a percentile is off by 2^-11 of its value at most


@dataclass(frozen=True)
class Histogram:
    """How many kept and dropped tokens have which value.

    Attributes:
        name: of the value: ``score``, or a statistic such as ``base.loss``.
        edges: float64 ``[BINS + 1]``, from the 1st to the 99th percentile; what lies beyond is counted in
            the first and the last bin.
        kept: int64 ``[BINS]``.
        dropped: int64 ``[BINS]``.
    """

    name: str
    edges: NDArray[np.float64]
    kept: Int64
    dropped: Int64


@dataclass(frozen=True)
class TokenCount:
    """How often one token of the vocabulary was trainable, and kept."""

    token_id: int
    seen: int
    kept: int

    @property
    def share(self) -> float:
        """Kept share."""
        return self.kept / self.seen


@dataclass(frozen=True)
class Summary:
    """What one arm kept of the whole data set.

    Attributes:
        histograms: of its score, then of every statistic.
        tokens: tokens seen at least `LEAST_SEEN` times, by kept share, highest first.
        examples: numbers of the examples that have trainable tokens, by kept share, lowest first.
        percentiles: of each value, by name.
    """

    histograms: tuple[Histogram, ...]
    tokens: tuple[TokenCount, ...]
    examples: Int64
    percentiles: dict[str, tuple[float, float]]


def summarise(view: RunView, arm: str) -> Summary:
    """Gather an arm's figures; memory grows with the vocabulary and the number of examples, not of tokens."""
    percentiles = _percentiles(view, arm)
    histograms = {name: _Bins(*ends) for name, ends in percentiles.items()}
    counts = np.zeros((2, 0), dtype=np.int64)
    shares: list[NDArray[np.float64]] = []
    for shard in view.shards():
        trainable, kept = shard.trainable, shard.kept[arm]
        for name, bins in histograms.items():
            bins.add(shard.value(arm, name)[trainable], kept[trainable])
        ids = shard.examples.input_ids
        counts = _add_counts(counts, [np.bincount(ids[chosen]) for chosen in (trainable, kept & trainable)])
        shares.append(_kept_shares(shard, arm))
    share = np.concatenate(shares)
    numbers = np.flatnonzero(~np.isnan(share))
    return Summary(
        tuple(Histogram(name, bins.edges, *bins.counts) for name, bins in histograms.items()),
        _by_share(counts),
        numbers[np.argsort(share[numbers], kind="stable")],
        percentiles,
    )


def pick_examples(order: Int64, count: int) -> list[tuple[str, list[int]]]:
    """Choose examples to look at: those that lost the most, the middle, those that lost the least.

    Args:
        order: int64 ``[examples]``, numbers of examples, lowest kept share first.
        count: examples to choose in all, at most.

    Returns:
        Three headings with example numbers; a heading without any is left out.
    """
    count = min(count, len(order))
    most, middle, least = (count + 2) // 3, (count + 1) // 3, count // 3
    rest = order[most : len(order) - least]
    start = (len(rest) - middle) // 2
    picked = {
        "most dropped": order[:most],
        "median": rest[start : start + middle],
        "least dropped": order[len(order) - least :][::-1],
    }
    return [(heading, numbers.tolist()) for heading, numbers in picked.items() if len(numbers)]


class _Bins:
    """Counts values between two ends."""

    def __init__(self, low: float, high: float) -> None:
        # Values that are all the same still need a bin with a width.
        margin = 0.5 if high <= low else 0.0
        self.edges = np.linspace(low - margin, high + margin, BINS + 1)
        self.counts = np.zeros((2, BINS), dtype=np.int64)

    def add(self, values: Float32, kept: Bool) -> None:
        inside = np.clip(values.astype(np.float64), self.edges[0], self.edges[-1])
        for row, chosen in enumerate((kept, ~kept)):
            self.counts[row] += np.histogram(inside[chosen], bins=self.edges)[0]


def _percentiles(view: RunView, arm: str) -> dict[str, tuple[float, float]]:
    """Return the 1st and 99th percentile of the trainable tokens' score and statistics, by name."""
    counts: dict[str, Int64] = {}
    for shard in view.shards():
        for name in ("score", *shard.statistics):
            keys = order_keys(shard.value(arm, name)[shard.trainable]) >> (32 - _KEY_BITS)
            total = counts.setdefault(name, np.zeros(2**_KEY_BITS, dtype=np.int64))
            total += np.bincount(keys, minlength=2**_KEY_BITS)
    return {name: _ends(total) for name, total in counts.items()}


def _ends(counts: Int64) -> tuple[float, float]:
    cumulative = np.cumsum(counts)
    if cumulative[-1] == 0:
        return 0.0, 0.0
    low, high = (_key_value(int(np.searchsorted(cumulative, share * cumulative[-1]))) for share in PERCENTILES)
    return low, high


def _key_value(bucket: int) -> float:
    """Return the number of smallest magnitude whose `order_keys` begins with these bits."""
    key = bucket << (32 - _KEY_BITS)
    # All bits of a negative number's key are flipped: its smallest magnitude has the largest key.
    largest = key | (2 ** (32 - _KEY_BITS) - 1)
    bits = key & 0x7FFFFFFF if key >> 31 else ~largest & 0xFFFFFFFF
    return float(np.array(bits, dtype=np.uint32).view(np.float32))


def _add_counts(total: Int64, found: list[Int64]) -> Int64:
    """Return ``total`` with the counts of another shard, as wide as its largest id needs."""
    width = max(total.shape[1], *(len(counts) for counts in found))
    wider = np.pad(total, ((0, 0), (0, width - total.shape[1])))
    for row, counts in zip(wider, found, strict=True):
        row[: len(counts)] += counts
    return wider


def _by_share(counts: Int64) -> tuple[TokenCount, ...]:
    seen, kept = counts
    ids = np.flatnonzero(seen >= LEAST_SEEN)
    ids = ids[np.lexsort((ids, -seen[ids], -kept[ids] / seen[ids]))]
    return tuple(TokenCount(number, int(seen[number]), int(kept[number])) for number in ids.tolist())


def _kept_shares(shard: ShardView, arm: str) -> NDArray[np.float64]:
    """Return float64 ``[examples]``; NaN for examples without trainable tokens."""
    cu_seqlens, trainable = shard.examples.cu_seqlens, shard.trainable
    of = segment_counts(trainable, cu_seqlens)
    kept = segment_counts(shard.kept[arm] & trainable, cu_seqlens)
    return np.where(of > 0, kept / np.maximum(of, 1), np.nan)
