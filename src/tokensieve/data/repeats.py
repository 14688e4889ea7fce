"""Examples that are there twice, or in two data sets, by 8 bytes of each: the hash of its token ids."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Int64
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import places_of
from tokensieve.store import checksum

UInt64 = NDArray[np.uint64]
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class HashedExamples:
    """The examples of a data set, as far as it takes to find them again.

    Attributes:
        settings: how its rows are read.
        hashes: uint64 ``[examples]``, of the token ids.
        rows: int64 ``[examples]``, numbers of the source rows.
    """

    settings: DataSettings
    hashes: UInt64
    rows: Int64

    def places(self, which: Int64) -> str:
        """Return the first of some examples by file and line, and how many there are more.

        Args:
            which: int64 ``[n]``, numbers of the examples, at least one.
        """
        return first_places(iter(places_of(self.settings, self.rows[which[:_SHOWN]].tolist())), len(which))


def first_places(places: Iterator[str], count: int) -> str:
    """Return the first of so many places, and how many there are more."""
    more = f" and {count - _SHOWN:,} more" if count > _SHOWN else ""
    return ", ".join(islice(places, _SHOWN)) + more


class Hashes:
    """Collects the hash and the source row of each example, 16 bytes in all."""

    def __init__(self) -> None:
        self._hashes, self._rows = array("Q"), array("q")

    def add(self, input_ids: NDArray[np.int32], row: int) -> None:
        """Add an example."""
        self._hashes.append(checksum.short(input_ids.tobytes()))
        self._rows.append(row)

    def of(self, settings: DataSettings) -> HashedExamples:
        """Return what was collected, with how its rows were read."""
        hashes, rows = np.array(self._hashes, dtype=np.uint64), np.array(self._rows, dtype=np.int64)
        return HashedExamples(settings, hashes, rows)


def repeats(hashes: UInt64) -> Int64:
    """Return the places, rising, of examples that an earlier one equals."""
    order = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    return np.sort(order[1:][ranked[1:] == ranked[:-1]])


def shared(hashes: UInt64, others: UInt64) -> Int64:
    """Return the places, rising, of examples that are among others too."""
    # numpy 2.0 overflows in its tables for hashes above 2**63
    return np.flatnonzero(np.isin(hashes, others, kind="sort"))
