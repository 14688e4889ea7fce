"""Flat columns as JSON lines, without a Python object for each token."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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
    parts: list[pa.Scalar | pa.Array] = []
    for place, (name, values) in enumerate(columns.items()):
        parts += (_scalar(f"{'{' if place == 0 else '],'}{json.dumps(name)}:["), _texts(values, cu_seqlens))
    lines = pc.binary_join_element_wise(*parts, _scalar("]}\n"), _scalar(""))  # type: ignore[attr-defined]
    return lines.buffers()[2].to_pybytes() if len(lines) else b""


def _scalar(text: str) -> pa.Scalar:
    return pa.scalar(text, pa.large_string())


def _texts(values: NDArray[Any], cu_seqlens: Int64) -> pa.LargeStringArray:
    """Return for each example its numbers, separated by commas."""
    whole = np.issubdtype(values.dtype, np.integer) and len(values) > 0
    low, high = (min(0, int(values.min())), int(values.max())) if whole else (0, _MOST_TEXTS)
    high = 2 ** high.bit_length() - 1 if high > 9 else 9  # one table for shards whose largest id differs
    if low == 0 and high == 9:
        data, bounds = pa.py_buffer((values.astype("<u2") + _DIGIT).tobytes()), 2 * cu_seqlens
    elif high - low < _MOST_TEXTS:
        _, starts, data = _table(low, high).take(pa.array(values - np.int64(low))).buffers()
        bounds = np.frombuffer(starts, dtype=np.int64)[cu_seqlens]
    else:
        texts = [json.dumps(values[span].tolist(), separators=(",", ":"))[1:-1] for span in segments(cu_seqlens)]
        return pa.array(texts, pa.large_string())
    texts = pa.LargeStringArray.from_buffers(len(cu_seqlens) - 1, pa.py_buffer(bounds.astype(np.int64)), data)
    return pc.ascii_rtrim(texts, characters=",")  # type: ignore[attr-defined]


@functools.lru_cache(maxsize=4)
def _table(low: int, high: int) -> pa.LargeStringArray:
    """Return the text of every integer from ``low`` to ``high``, with a comma behind it."""
    return pa.array([f"{number}," for number in range(low, high + 1)], type=pa.large_string())
