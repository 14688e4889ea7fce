"""The statistics of several models over one set of examples as one: each example has those of its own model.

Example ``i`` belongs to part ``i`` modulo the number of parts. Its statistics are those of a model that was made
without its part, so that what a model remembers of an example does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tokensieve.containers import Examples, Float32, Int64, StatisticSpec
from tokensieve.measure.measurement import Measurement
from tokensieve.store import fingerprint
from tokensieve.store.atomic import locked
from tokensieve.store.manifest import Recorder, adopt, ensure_manifest


def part_of(first: int, count: int, parts: int) -> Int64:
    """Return int64 ``[count]``, the part of each of so many examples from example ``first`` on."""
    return np.arange(first, first + count) % parts


def join_parts(parts: Sequence[Measurement], specs: Sequence[StatisticSpec], store: Path) -> Measurement:
    """Write the statistics of every example by the model of its part, as far as they are missing.

    Args:
        parts: the statistics of the model of each part, all over the same examples.
        specs: which statistics; every part has them.
        store: folder shared by runs.

    Returns:
        Where they are.
    """
    examples = parts[0].examples
    identity = {"examples": examples.fingerprint, "cut": examples.cut, "parts": [part.folder.name for part in parts]}
    joined = Measurement(store / "statistics" / fingerprint.of_value(identity)[:16], examples)
    with locked(joined.folder):
        ensure_manifest(joined.folder, {**identity, "versions": fingerprint.versions()})
        adopt(joined.folder, "*/shard-*.arrow")
        with Recorder(joined.folder) as recorder:
            for number in range(examples.shards):
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
