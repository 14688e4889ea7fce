"""Ragged arrays: flat values with offsets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Bool, Float32, Int64

_SIGN = np.int32(-(2**31))


def offsets(lengths: Sequence[int] | NDArray[np.integer]) -> Int64:
    """Return int64 ``[segments + 1]`` offsets that start at 0, from the segments' lengths."""
    cu_seqlens = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=cu_seqlens[1:])
    return cu_seqlens


def segment_ids(cu_seqlens: Int64) -> Int64:
    """Return int64 ``[tokens]``, the number of the segment that each position lies in."""
    return np.repeat(np.arange(len(cu_seqlens) - 1), np.diff(cu_seqlens))


def segment_counts(mask: Bool, cu_seqlens: Int64) -> Int64:
    """Return int64 ``[segments]``, how many positions of each segment are True."""
    return _reduce_segments(np.add, mask, cu_seqlens, np.int64)


def segment_any(mask: Bool, cu_seqlens: Int64) -> Bool:
    """Return bool ``[segments]``, whether a position of each segment is True; six times as fast as counting."""
    return _reduce_segments(np.logical_or, mask, cu_seqlens, np.bool_)


def gather_segments(values: NDArray, cu_seqlens: Int64, order: NDArray[np.integer]) -> NDArray:
    """Return the segments in ``order``, concatenated: values ``[sum of their lengths]``."""
    lengths = np.diff(cu_seqlens)[order]
    new = offsets(lengths)
    source = np.repeat(cu_seqlens[order] - new[:-1], lengths) + np.arange(new[-1])
    return values[source]


def keep_segments(values: NDArray, cu_seqlens: Int64, chosen: Bool) -> NDArray:
    """Return the segments that ``chosen``, bool ``[segments]``, is True for: values ``[sum of their lengths]``.

    All of them are returned as they are, not copied.
    """
    return values if chosen.all() else values[np.repeat(chosen, np.diff(cu_seqlens))]


def order_keys(values: Float32) -> NDArray[np.uint32]:
    """Map float32 to uint32 keys of the same order, so that ranking needs integers alone.

    The sign bit is flipped for positive numbers and all bits for negative ones. Both zeros map to one
    key, as ``-0.0 == 0.0``. NaN is not ordered and must be refused before.
    """
    bits = (np.ascontiguousarray(values, dtype=np.float32) + np.float32(0)).view(np.int32)
    flips = bits >> 31  # 0, or all bits where negative
    flips |= _SIGN
    return np.bitwise_xor(bits, flips, out=flips).view(np.uint32)


def key_values(keys: NDArray[np.uint32]) -> Float32:
    """Return the float32 values that `order_keys` made the keys from."""
    positive = keys >> 31 == 1
    return np.where(positive, keys ^ np.uint32(0x80000000), ~keys).view(np.float32)


def rank_in_segments(keys: NDArray[np.uint32], segment: Int64) -> Int64:
    """Return int64 ``[n]``: the rank of each element in its segment, highest key first, 0-based.

    Equal keys rank by position: the earlier one first. ``segment`` must not fall.
    """
    order = np.lexsort((np.arange(len(keys)), ~keys, segment))
    starts = np.searchsorted(segment, segment[order], side="left")
    ranks = np.empty(len(keys), dtype=np.int64)
    ranks[order] = np.arange(len(keys)) - starts
    return ranks


def _reduce_segments(reduce: np.ufunc, mask: Bool, cu_seqlens: Int64, dtype: type[np.generic]) -> NDArray:
    """Return ``[segments]``: the values of each reduced to one, 0 for a segment without any."""
    starts, filled = cu_seqlens[:-1], np.diff(cu_seqlens) > 0
    found = np.zeros(len(starts), dtype=dtype)
    if filled.any():
        found[filled] = reduce.reduceat(mask[: cu_seqlens[-1]], starts[filled], dtype=dtype)
    return found


def segment_extremes(values: Float32, mask: Bool, cu_seqlens: Int64) -> tuple[Float32, Float32]:
    """Return float32 ``[tokens]`` twice: the least and the greatest masked value of each position's segment.

    Segments without a masked position give 0 for both.
    """
    lengths = np.diff(cu_seqlens)
    filled = lengths > 0
    starts = cu_seqlens[:-1][filled]
    extremes = []
    for reduce, neutral in ((np.minimum, np.inf), (np.maximum, -np.inf)):
        found = np.zeros(len(lengths), dtype=np.float32)
        if len(starts):
            found[filled] = reduce.reduceat(np.where(mask, values, np.float32(neutral)), starts)
        extremes.append(np.repeat(np.where(np.isfinite(found), found, np.float32(0)), lengths))
    return extremes[0], extremes[1]


def segment_means(values: Float32, mask: Bool, cu_seqlens: Int64) -> Float32:
    """Return float32 ``[tokens]``: the mean of the masked values of each position's segment, summed in float64.

    Segments without a masked position give 0.
    """
    sums = _reduce_segments(np.add, np.where(mask, values, np.float32(0)), cu_seqlens, np.float64)
    means = sums / np.maximum(segment_counts(mask, cu_seqlens), 1)
    return np.repeat(means.astype(np.float32), np.diff(cu_seqlens))
