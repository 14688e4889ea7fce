"""Reads the statistics of an arm's method, shard by shard."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Role, Statistics
from tokensieve.data.example_store import ExampleStore
from tokensieve.measure.measurement import Measurement
from tokensieve.pipeline.plan import Reading

Measurements = Mapping[Role, Measurement]
"""The statistics of each model, by its role in the recipe."""


@dataclass(frozen=True, eq=False)
class Loader:
    """Reads the statistics of a method, shard by shard: plain data, so that any process can.

    Attributes:
        examples: the pool.
        reads: what the method reads.
        measurements: where the statistics are.
        keep_turn_end: whether the ends of turns are kept whatever their score.
    """

    examples: ExampleStore
    reads: Sequence[Reading]
    measurements: Measurements
    keep_turn_end: bool

    def identities(self) -> dict[str, str]:
        """Return the identity of each statistic that is read, by ``role.statistic``."""
        return {f"{one.role}.{one.spec.name}": self.measurements[one.source].folder.name for one in self.reads}

    def read(self, number: int) -> tuple[Statistics, NDArray[np.int64]]:
        """Return one shard's statistics and the source rows of its examples."""
        shard = self.examples.read(number)
        values = {(one.role, one.spec.name): self.measurements[one.source].read(one.spec, number) for one in self.reads}
        statistics = self.examples.statistics(shard, values, int(self.examples.starts[number]))
        if not self.keep_turn_end:
            statistics = dataclasses.replace(statistics, turn_end=None)
        return statistics, shard.rows
