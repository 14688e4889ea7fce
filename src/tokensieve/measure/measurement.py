"""Where the statistics of one model over one set of examples are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokensieve.containers import Examples, Float32, Int64, StatisticSpec
from tokensieve.data.example_store import ExampleStore
from tokensieve.store.checksum import FileRecord
from tokensieve.store.manifest import has_manifest, open_manifest
from tokensieve.store.mirror import is_there
from tokensieve.store.shards import number_of, record_of, shard_name, write_shard


@dataclass(frozen=True)
class Measurement:
    """The statistics of one model over one set of examples.

    Attributes:
        folder: where they are.
        examples: what they were measured over.
    """

    folder: Path
    examples: ExampleStore

    def missing(self, specs: Sequence[StatisticSpec], number: int) -> list[StatisticSpec]:
        """Return the statistics that a shard lacks."""
        if not has_manifest(self.folder):
            return list(specs)
        manifest = open_manifest(self.folder)
        return [spec for spec in specs if not manifest.has(file_name(spec, number))]

    def lacking(self, specs: Sequence[StatisticSpec], shards: range) -> Int64:
        """Return int64, the shards of a range that lack a statistic, by one listing for each of them."""
        numbers = np.arange(shards.start, shards.stop, shards.step)
        if not has_manifest(self.folder):
            return numbers
        manifest, whole = open_manifest(self.folder), np.ones(self.examples.shards, dtype=np.bool_)
        for spec in specs:
            found = np.zeros_like(whole)
            for path in manifest.present(spec.key):
                number = number_of(os.path.basename(path))
                if number is not None and number < len(found):
                    found[number] = True
            whole &= found
        return numbers[~whole[numbers]]

    def unrecorded(self, specs: Sequence[StatisticSpec], number: int) -> dict[str, FileRecord]:
        """Return what the driver is to record of statistics that another worker wrote, by path within the folder."""
        names = [file_name(spec, number) for spec in specs]
        return {name: record_of(self.folder / name) for name in names if is_there(self.folder / name)}

    def read(self, spec: StatisticSpec, number: int) -> Float32:
        """Return float32 ``[tokens]`` of one statistic and shard; 0 where a token is not trainable."""
        return open_manifest(self.folder).column(file_name(spec, number), spec.name)

    def write(self, spec: StatisticSpec, number: int, shard: Examples, values: Float32) -> dict[str, FileRecord]:
        """Write one statistic and shard; return what the driver is to record in the manifest."""
        name = file_name(spec, number)
        return {name: write_shard(self.folder / name, shard.cu_seqlens, {spec.name: values})}

    def complete(self, specs: Sequence[StatisticSpec]) -> bool:
        """Whether every shard has all these statistics."""
        return not len(self.lacking(specs, range(self.examples.shards)))


def file_name(spec: StatisticSpec, number: int) -> str:
    """Return the path of one statistic and shard within the folder of a measurement."""
    return f"{spec.key}/{shard_name(number)}"
