"""The exact place of the k-th largest score among any number of shards, in constant memory.

Scores become order-preserving uint32 keys (`ops.ragged.order_keys`). One pass counts their upper 16 bits
and finds the bucket that the k-th key falls into; a second pass counts the lower 16 bits within that
bucket. What is left to decide are ties at the cut-off: the earliest positions win.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Bool

_BUCKETS = 1 << 16


@dataclass
class Cutoff:
    """Which keys belong to the k largest.

    Attributes:
        key: the k-th largest key. Larger keys belong to the k largest, smaller ones do not.
        ties: how many keys equal to ``key`` still belong; falls as shards are decided in order.
    """

    key: int
    ties: int

    def keep(self, keys: NDArray[np.uint32]) -> Bool:
        """Decide the next shard's keys, in data-set order: bool ``[n]``, True for the k largest."""
        kept = keys > self.key
        tied = np.flatnonzero(keys == self.key)[: self.ties]
        kept[tied] = True
        self.ties -= len(tied)
        return kept


def count_upper(keys: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return int64 ``[65536]``, how many keys have which upper 16 bits."""
    return np.bincount(keys >> 16, minlength=_BUCKETS)


def count_lower(keys: NDArray[np.uint32], bucket: int) -> NDArray[np.int64]:
    """Return int64 ``[65536]``, how many keys with these upper 16 bits have which lower 16 bits."""
    return np.bincount(keys[keys >> 16 == bucket] & 0xFFFF, minlength=_BUCKETS)


def find_cutoff(upper: NDArray[np.int64], lower: Callable[[int], NDArray[np.int64]], count: int) -> Cutoff:
    """Find the cut-off that keeps exactly ``count`` keys.

    Args:
        upper: sum of `count_upper` over all shards.
        lower: returns the sum of `count_lower` over all shards for a bucket; called once.
        count: keys to keep, at most the number of keys.
    """
    if count == 0:
        return Cutoff(key=_BUCKETS * _BUCKETS, ties=0)
    bucket, above = bucket_of(upper, count)
    rest, above_in_bucket = bucket_of(lower(bucket), count - above)
    return Cutoff(key=(bucket << 16) | rest, ties=count - above - above_in_bucket)


def bucket_of(counts: NDArray[np.int64], count: int) -> tuple[int, int]:
    """Return the bucket of the ``count``-th largest element and how many elements lie above it."""
    from_top = np.cumsum(counts[::-1])
    index = int(np.searchsorted(from_top, count))
    return len(counts) - 1 - index, int(from_top[index] - counts[::-1][index])
