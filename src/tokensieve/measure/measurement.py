"""Where the statistics of one model over one set of examples are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokensieve.containers import Examples, Float32, StatisticSpec
from tokensieve.data.prepare import ExampleStore
from tokensieve.store.shards import read_shard, shard_name, write_shard


@dataclass(frozen=True)
class Measurement:
    """The statistics of one model over one set of examples.

    Attributes:
        folder: where they are.
        examples: what they were measured over.
    """

    folder: Path
    examples: ExampleStore

    def path(self, spec: StatisticSpec, number: int) -> Path:
        """Return the file of one statistic and shard."""
        return self.folder / spec.key / shard_name(number)

    def missing(self, specs: Sequence[StatisticSpec], number: int) -> list[StatisticSpec]:
        """Return the statistics that a shard lacks."""
        return [spec for spec in specs if not self.path(spec, number).is_file()]

    def read(self, spec: StatisticSpec, number: int) -> Float32:
        """Return float32 ``[tokens]`` of one statistic and shard; 0 where a token is not trainable."""
        return read_shard(self.path(spec, number))[1][spec.name]

    def write(self, spec: StatisticSpec, number: int, shard: Examples, values: Float32) -> Path:
        """Write one statistic and shard, and return the file."""
        path = self.path(spec, number)
        write_shard(path, shard.cu_seqlens, {spec.name: values})
        return path

    def complete(self, specs: Sequence[StatisticSpec]) -> bool:
        """Whether every shard has all these statistics."""
        return not any(self.missing(specs, number) for number in range(self.examples.shards))
