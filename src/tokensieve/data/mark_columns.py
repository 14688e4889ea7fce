"""Marks as columns: one number a token, with the types of a chunk, and then of the whole data set, numbered."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import UInt8
from tokensieve.data.sources import Row
from tokensieve.data.tokenize import Encoded
from tokensieve.errors import TokensieveError

_MOST_TYPES = 255  # since a token's mark is one byte


class ChunkMarks:
    """Numbers the types of marks of a chunk as they come.

    Attributes:
        types: place of the first row that has it, by type, in the order of their numbers from 1.
    """

    def __init__(self) -> None:
        self.types: dict[str, str] = {}
        self._numbers: dict[str, int] = {}

    def column(self, row: Row, encoded: Encoded) -> NDArray[np.int32] | None:
        """Return int32 ``[tokens]``, the number of each token's type in this chunk, 0 where there is no mark.

        It is None for a row without marks.
        """
        if encoded.marks is None:
            return None
        for number in np.unique(encoded.marks[encoded.marks > 0]).tolist():
            name = encoded.mark_types[number - 1]
            self.types.setdefault(name, row.where)
            self._numbers.setdefault(name, len(self.types))
        numbers = [0, *(self._numbers.get(name, 0) for name in encoded.mark_types)]
        return np.array(numbers, dtype=np.int32)[encoded.marks]


def marks_as_bytes(encoded: Encoded) -> bytes:
    """Return what tells the marks of an example from others, whatever was encoded with it; nothing without marks."""
    if encoded.marks is None or not len(used := np.unique(encoded.marks[encoded.marks > 0])):
        return b""
    names = sorted({encoded.mark_types[number - 1] for number in used.tolist()})
    ranks = {name: rank for rank, name in enumerate(names, 1)}
    numbers = np.array([0, *(ranks.get(name, 0) for name in encoded.mark_types)], dtype=np.int32)
    return json.dumps(names).encode() + numbers[encoded.marks].tobytes()


class MarkTypes:
    """Numbers the types of marks of a data set, chunk after chunk.

    Attributes:
        names: number from 1 by type.
    """

    def __init__(self) -> None:
        self.names: dict[str, int] = {}

    def add(self, types: Mapping[str, str]) -> UInt8:
        """Number the types of a chunk.

        Args:
            types: place of the first row that has it, by type, as `ChunkMarks.types`.

        Returns:
            uint8 ``[types + 1]``, 0 and the number of each type of the chunk.

        Raises:
            TokensieveError: more types than one byte has numbers for.
        """
        for name, where in types.items():
            if self.names.setdefault(name, len(self.names) + 1) > _MOST_TYPES:
                raise TokensieveError(
                    f"the marks have more than {_MOST_TYPES} types",
                    where=where,
                    hint="a type says of which kind a fault is: give faults of one kind the same type",
                )
        return np.array([0, *(self.names[name] for name in types)], dtype=np.uint8)
