"""The exact place of the k-th largest value among any number of shards, in little memory.

A sample of the values tells between which two the k-th probably lies (`bracket`). One pass counts what lies above them
and how often each value between them occurs (`Tally`), which almost always settles it. Where it does not, and where
there is no sample, two passes do: values become order-preserving uint32 keys (`ops.ragged.order_keys`). One pass counts
their upper 16 bits and finds the bucket that the k-th key falls into; a second pass counts the lower 16 bits within
that bucket. What is left to decide are ties at the cut-off: the earliest positions win.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Bool, Float32, Int64
from tokensieve.ops.ragged import key_values

_BUCKETS = 1 << 16
_MERGED, _PARTS = 1 << 20, 1 << 12  # values and parts that wait to be merged
_DEVIATIONS, _FURTHER = 5, 8  # one bracket in a million misses


@dataclass(frozen=True)
class Cutoff:
    """Which values belong to the k largest.

    Attributes:
        value: the k-th largest. Larger values belong to the k largest, smaller ones do not; infinity where k is 0.
        ties: how many of the values that equal it belong.
    """

    value: float
    ties: int

    def keep(self, values: Float32, among: Bool) -> Bool:
        """Return bool ``[n]``, True for the k largest of the values where ``among`` is True."""
        kept = values > self.value
        kept &= among
        if self.ties:
            tied = values == self.value
            tied &= among
            kept[np.flatnonzero(tied)[: self.ties]] = True
        return kept


@dataclass(frozen=True)
class Tally:
    """How values lie with respect to a bracket.

    Attributes:
        above: number of values above it.
        values: float32 ``[distinct]``, the values within it, in ascending order.
        counts: int64 ``[distinct]``, how often each occurs.
    """

    above: int
    values: Float32
    counts: Int64

    @classmethod
    def of(cls, values: Float32, among: Bool, low: float, high: float) -> Tally:
        """Tally the values where ``among`` is True; both ends belong to the bracket."""
        above, within = values > high, values >= low
        above &= among
        within &= among
        within ^= above
        return cls(int(np.count_nonzero(above)), *np.unique(values[within], return_counts=True))

    @classmethod
    def total(cls, parts: Sequence[Tally]) -> Tally:
        """Return the tally of the values of all parts."""
        every = [np.zeros(0, dtype=np.float32), *(part.values for part in parts)]
        values, places = np.unique(np.concatenate(every), return_inverse=True)
        counts = np.zeros(len(values), dtype=np.int64)
        np.add.at(counts, places, np.concatenate([np.zeros(0, dtype=np.int64), *(part.counts for part in parts)]))
        return cls(sum(part.above for part in parts), values, counts)

    def count(self, value: float) -> int:
        """Return how often a value of the bracket occurs."""
        return int(self.counts[self.values == value].sum())

    def cutoff(self, count: int) -> Cutoff | None:
        """Return the cut-off that keeps exactly ``count`` values; None where it does not lie within the bracket."""
        rest = count - self.above
        if not 0 < rest <= self.counts.sum():
            return None
        place, above = bucket_of(self.counts, rest)
        return Cutoff(float(self.values[place]), rest - above)


class TallySum:
    """The tally of any number of parts, which keeps no part, in memory that does not grow with their number.

    Args:
        most: distinct values to hold at most. A sum that would need more gives up, and knows nothing.
    """

    def __init__(self, most: int = 1 << 21) -> None:
        self._most, self._total, self._pending, self._size = most, Tally.total([]), list[Tally](), 0
        self._gave_up = False

    def add(self, part: Tally) -> bool:
        """Add a part; return False where this is of no use any more."""
        self._pending.append(part)
        self._size += len(part.values)
        if self._size > max(_MERGED, len(self._total.values)) or len(self._pending) > _PARTS:
            self._merge()
        return not self._gave_up

    def count(self, value: float) -> int:
        """Return how often a value of the bracket occurs; 0 of a sum that gave up."""
        self._merge()
        return 0 if self._gave_up else self._total.count(value)

    def cutoff(self, count: int) -> Cutoff | None:
        """Return the cut-off that keeps exactly ``count`` values; None where it is not known."""
        self._merge()
        return None if self._gave_up else self._total.cutoff(count)

    def _merge(self) -> None:
        if self._pending:
            self._total = Tally.total([self._total, *self._pending])
            self._pending, self._size = [], 0
            self._gave_up |= len(self._total.values) > self._most


def bracket(sample: Float32, count: int, total: int) -> tuple[float, float]:
    """Return two values that the ``count``-th largest of ``total`` values probably lies between.

    Args:
        sample: some of the values, each as likely as any other.
        count: from 1 to ``total``.
        total: number of values.
    """
    ordered, share = np.sort(sample)[::-1], count / total
    place = share * len(ordered)
    margin = _DEVIATIONS * math.sqrt(place * (1 - share)) + _FURTHER
    first, last = math.floor(place - margin), math.ceil(place + margin)
    high = float(ordered[first]) if first >= 0 else math.inf
    return float(ordered[last]) if last < len(ordered) else -math.inf, high


def cutoff_of(values: Float32, count: int) -> Cutoff:
    """Return the cut-off that keeps exactly ``count`` of the values, which are all in memory."""
    if count == 0:
        return Cutoff(math.inf, 0)
    place = len(values) - count
    value = np.partition(values, place)[place]
    return Cutoff(float(value), count - int(np.count_nonzero(values > value)))


def count_upper(keys: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return int64 ``[65536]``, how many keys have which upper 16 bits."""
    return np.bincount(keys >> 16, minlength=_BUCKETS)


def count_lower(keys: NDArray[np.uint32], bucket: int) -> NDArray[np.int64]:
    """Return int64 ``[65536]``, how many keys with these upper 16 bits have which lower 16 bits."""
    return np.bincount(keys[keys >> 16 == bucket] & 0xFFFF, minlength=_BUCKETS)


def find_cutoff(upper: NDArray[np.int64], lower: Callable[[int], NDArray[np.int64]], count: int) -> Cutoff:
    """Find the cut-off that keeps exactly ``count`` values.

    Args:
        upper: sum of `count_upper` over all shards.
        lower: returns the sum of `count_lower` over all shards for a bucket; called once.
        count: values to keep, at most the number of keys.
    """
    if count == 0:
        return Cutoff(math.inf, 0)
    bucket, above = bucket_of(upper, count)
    rest, above_in_bucket = bucket_of(lower(bucket), count - above)
    value = key_values(np.array([(bucket << 16) | rest], dtype=np.uint32))[0]
    return Cutoff(float(value), count - above - above_in_bucket)


def bucket_of(counts: NDArray[np.int64], count: int) -> tuple[int, int]:
    """Return the bucket of the ``count``-th largest element and how many elements lie above it."""
    from_top = np.cumsum(counts[::-1])
    index = int(np.searchsorted(from_top, count))
    return len(counts) - 1 - index, int(from_top[index] - counts[::-1][index])
