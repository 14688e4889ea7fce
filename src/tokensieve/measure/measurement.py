"""Where the statistics of one model over one set of examples are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokensieve.containers import Examples, Float32, StatisticSpec
from tokensieve.data.example_store import ExampleStore
from tokensieve.store.checksum import FileRecord
from tokensieve.store.manifest import has_manifest, open_manifest
from tokensieve.store.mirror import is_there
from tokensieve.store.shards import record_of, shard_name, write_shard


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

    def lacking(self, specs: Sequence[StatisticSpec], numbers: Iterable[int]) -> list[int]:
        """Return the shards, of those with these numbers, that lack a statistic, by one listing for each of them."""
        if not has_manifest(self.folder):
            return list(numbers)
        manifest = open_manifest(self.folder)
        there = [(spec, manifest.present(spec.key)) for spec in specs]
        return [number for number in numbers if any(file_name(spec, number) not in found for spec, found in there)]

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
        return not self.lacking(specs, range(self.examples.shards))


def file_name(spec: StatisticSpec, number: int) -> str:
    """Return the path of one statistic and shard within the folder of a measurement."""
    return f"{spec.key}/{shard_name(number)}"
