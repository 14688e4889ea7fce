"""Examples that are there twice, by 8 bytes of each: the hash of its token ids."""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Int64
from tokensieve.store import checksum

UInt64 = NDArray[np.uint64]
_SHOWN = 3


class Hashes:
    """Collects the hash and the source row of each example, 16 bytes in all."""

    def __init__(self) -> None:
        self._hashes, self._rows = array("Q"), array("q")

    def add(self, input_ids: NDArray[np.int32], row: int) -> None:
        """Add an example."""
        self._hashes.append(checksum.short(input_ids.tobytes()))
        self._rows.append(row)

    @property
    def hashes(self) -> UInt64:
        """uint64 ``[examples]``."""
        return np.array(self._hashes, dtype=np.uint64)

    @property
    def rows(self) -> Int64:
        """int64 ``[examples]``."""
        return np.array(self._rows, dtype=np.int64)


def repeats(hashes: UInt64) -> Int64:
    """Return the places, rising, of examples that an earlier one equals."""
    _, first = np.unique(hashes, return_index=True)
    repeated = np.ones(len(hashes), dtype=bool)
    repeated[first] = False
    return np.flatnonzero(repeated)


def shared(hashes: UInt64, others: UInt64) -> Int64:
    """Return the places, rising, of examples that are among others too."""
    return np.flatnonzero(np.isin(hashes, others))


def in_words(rows: Int64) -> str:
    """Return the first numbers of rows, and how many there are more."""
    shown = ", ".join(map(str, rows[:_SHOWN].tolist()))
    more = f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}, counted from 0"
