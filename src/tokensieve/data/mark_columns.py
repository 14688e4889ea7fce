"""Marks as columns of shards: one byte a token, with the types of the whole data set numbered."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from tokensieve.containers import UInt8
from tokensieve.data.sources import Row
from tokensieve.data.tokenize import Encoded
from tokensieve.errors import TokensieveError

_MOST_TYPES = 255  # since a token's mark is one byte


class MarkColumns:
    """Numbers the types of marks as they come, and digests which tokens of a data set have which.

    Attributes:
        types: number from 1 by type.
    """

    def __init__(self) -> None:
        self.types: dict[str, int] = {}
        self._places, self._numbers = hashlib.sha256(), hashlib.sha256()
        self._tokens = 0

    def add(self, row: Row, encoded: Encoded) -> None:
        """Number the types of a row's marks.

        Raises:
            TokensieveError: more types than one byte has numbers for.
        """
        if encoded.marks is None:
            return
        for number in np.unique(encoded.marks[encoded.marks > 0]).tolist():
            self.types.setdefault(encoded.mark_types[number - 1], len(self.types) + 1)
        if len(self.types) > _MOST_TYPES:
            raise TokensieveError(
                f"the marks have more than {_MOST_TYPES} types",
                where=row.where,
                hint="a type says of which kind a fault is: give faults of one kind the same type",
            )

    def of_shard(self, encoded: Sequence[Encoded]) -> UInt8 | None:
        """Return uint8 ``[tokens]`` of the examples of the next shard; None where no token is marked."""
        sizes = [len(one.input_ids) for one in encoded]
        first, self._tokens = self._tokens, self._tokens + sum(sizes)
        if all(one.marks is None for one in encoded):
            return None
        column = np.concatenate([self._of_example(one) for one in encoded])
        places = np.flatnonzero(column)
        self._places.update((places + first).tobytes())
        self._numbers.update(column[places].tobytes())
        return column if len(places) else None

    def digests(self) -> list[str]:
        """Return what tells these marks from others, whatever the shards; nothing where no token is marked."""
        return [*self.types, self._places.hexdigest(), self._numbers.hexdigest()] if self.types else []

    def _of_example(self, encoded: Encoded) -> UInt8:
        if encoded.marks is None:
            return np.zeros(len(encoded.input_ids), dtype=np.uint8)
        numbers = [0, *(self.types.get(name, 0) for name in encoded.mark_types)]
        return np.array(numbers, dtype=np.uint8)[encoded.marks]
