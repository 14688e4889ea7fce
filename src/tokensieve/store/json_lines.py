"""Flat columns as JSON lines, without a Python object for each token."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tokensieve.containers import Int64, segments

_MOST_TEXTS = 2**22  # integers whose text is made once, and then copied for each token
_DIGIT = np.uint16(ord("0") | ord(",") << 8)  # the two bytes of "0,"; adding a digit gives the text of that digit


def json_lines(cu_seqlens: Int64, columns: Mapping[str, NDArray[Any]]) -> bytes:
    """Return one line of JSON for each example: the bytes that `json.dumps` gives without spaces.

    Args:
        cu_seqlens: int64 ``[examples + 1]``, offsets of the examples.
        columns: ``[tokens]`` arrays of numbers by name.
    """
    keys = [f"{'{' if place == 0 else '],'}{json.dumps(name)}:[".encode() for place, name in enumerate(columns)]
    texts = [_texts(values, cu_seqlens) for values in columns.values()]
    pieces: list[bytes | memoryview] = []
    for row in zip(*texts, strict=True):
        for key, text in zip(keys, row, strict=True):
            pieces += (key, text)
        pieces.append(b"]}\n")
    return b"".join(pieces)


def _texts(values: NDArray[Any], cu_seqlens: Int64) -> list[memoryview] | list[bytes]:
    """Return for each example its numbers, separated by commas."""
    whole = np.issubdtype(values.dtype, np.integer) and len(values) > 0
    low, high = (min(0, int(values.min())), int(values.max())) if whole else (0, _MOST_TEXTS)
    high = 2 ** high.bit_length() - 1 if high > 9 else 9  # one table for shards whose largest id differs
    if low == 0 and high == 9:
        text, bounds = memoryview((values.astype("<u2") + _DIGIT).tobytes()), 2 * cu_seqlens
    elif high - low < _MOST_TEXTS:
        taken = _table(low, high).take(pa.array(values - np.int64(low)))
        _, starts, data = taken.buffers()
        text, bounds = memoryview(data), np.frombuffer(starts, dtype=np.int64)[cu_seqlens]
    else:
        return [
            json.dumps(values[span].tolist(), separators=(",", ":"))[1:-1].encode() for span in segments(cu_seqlens)
        ]
    return [text[start : max(start, stop - 1)] for start, stop in itertools.pairwise(bounds.tolist())]


@functools.lru_cache(maxsize=4)
def _table(low: int, high: int) -> pa.LargeStringArray:
    """Return the text of every integer from ``low`` to ``high``, with a comma behind it."""
    return pa.array([f"{number}," for number in range(low, high + 1)], type=pa.large_string())
