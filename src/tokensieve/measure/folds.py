"""The statistics of several models over one set of examples as one: each example has those of its own model.

Example ``i`` belongs to part ``i`` modulo the number of parts. Its statistics are those of a model that was made
without its part, so that what a model remembers of an example does not count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokensieve.containers import IGNORE_INDEX, Examples, Float32, Int64, StatisticSpec
from tokensieve.data.example_store import ExampleStore
from tokensieve.measure.measurement import Measurement
from tokensieve.store import fingerprint
from tokensieve.store.atomic import locked
from tokensieve.store.manifest import Recorder, adopt, ensure_manifest


def part_of(first: int, count: int, parts: int) -> Int64:
    """Return int64 ``[count]``, the part of each of so many examples from example ``first`` on."""
    return np.arange(first, first + count) % parts


@dataclass(frozen=True)
class PartOfExamples(ExampleStore):
    """Examples of which one part alone has labels, so that no other example passes through a model.

    Attributes:
        part: its number, from 0.
        parts: how many there are.
    """

    part: int = 0
    parts: int = 1

    def read(self, number: int) -> Examples:
        """Read one shard."""
        shard = super().read(number)
        own = part_of(int(self.first_examples[number]), len(shard), self.parts) == self.part
        labels = np.where(np.repeat(own, shard.lengths), shard.labels, IGNORE_INDEX)
        return dataclasses.replace(shard, labels=labels)


def cut_parts(examples: ExampleStore, parts: int) -> list[PartOfExamples]:
    """Return the same examples once for each part."""
    fields = {field.name: getattr(examples, field.name) for field in dataclasses.fields(examples)}
    return [
        PartOfExamples(
            **{**fields, "fingerprint": fingerprint.of_value([examples.fingerprint, part, parts])},
            part=part,
            parts=parts,
        )
        for part in range(parts)
    ]


def join_parts(
    examples: ExampleStore, parts: Sequence[Measurement], specs: Sequence[StatisticSpec], store: Path
) -> Measurement:
    """Write the statistics of every example by the model of its part, as far as they are missing.

    Args:
        examples: all of them.
        parts: the statistics of the model of each part, over its part or over all examples.
        specs: which statistics; every part has them.
        store: folder shared by runs.

    Returns:
        Where they are.
    """
    identity = {"examples": examples.fingerprint, "cut": examples.cut, "parts": [part.folder.name for part in parts]}
    joined = Measurement(store / "statistics" / fingerprint.of_value(identity)[:16], examples)
    with locked(joined.folder):
        ensure_manifest(joined.folder, {**identity, "versions": fingerprint.versions()})
        adopt(joined.folder, "shard-*.arrow")
        with Recorder(joined.folder) as recorder:
            for number in joined.lacking(specs, range(examples.shards)).tolist():
                for spec in joined.missing(specs, number):
                    shard = examples.read(number)
                    values = _of_own_part(parts, spec, number, shard, int(examples.first_examples[number]))
                    recorder.add(joined.write(spec, number, shard, values))
    return joined


def _of_own_part(
    parts: Sequence[Measurement], spec: StatisticSpec, number: int, shard: Examples, first: int
) -> Float32:
    """Return float32 ``[tokens]`` of a shard, those of each example by the model of its part."""
    part = np.repeat(part_of(first, len(shard), len(parts)), shard.lengths)
    return np.choose(part, [one.read(spec, number) for one in parts]).astype(np.float32, copy=False)
