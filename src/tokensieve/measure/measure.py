"""Statistics of one model over one set of examples: measured shard by shard, resumed, reused.

On disk: ``store/statistics/<id>/<statistic>/shard-00000.arrow``, where the id is the fingerprint of the examples and
the model, and the name of a statistic is followed by a digest of its options where it has any. What is there is never
measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tokensieve.containers import IGNORE_INDEX, Examples, Float32, Int64, StatisticSpec, check_finite
from tokensieve.data.prepare import ExampleStore
from tokensieve.measure.batching import plan_batches
from tokensieve.measure.engines.local import run_batches
from tokensieve.measure.forward import Forward, measure_examples
from tokensieve.measure.relevance import RELEVANCE, relevance_table, task_ids
from tokensieve.measure.settings import MeasureSettings
from tokensieve.models.loading import ModelPool, model_identity
from tokensieve.models.settings import ModelSettings
from tokensieve.store import fingerprint
from tokensieve.store.atomic import locked, write_json
from tokensieve.store.checksum import FileRecord
from tokensieve.store.manifest import adopt, has_manifest, open_manifest, record, write_manifest
from tokensieve.store.shards import shard_name, write_shard


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

    def read(self, spec: StatisticSpec, number: int) -> Float32:
        """Return float32 ``[tokens]`` of one statistic and shard; 0 where a token is not trainable."""
        return open_manifest(self.folder).column(file_name(spec, number), spec.name)

    def write(self, spec: StatisticSpec, number: int, cu_seqlens: Int64, values: Float32) -> dict[str, FileRecord]:
        """Write one statistic and shard; return what is to be recorded in the manifest."""
        name = file_name(spec, number)
        return {name: write_shard(self.folder / name, cu_seqlens, {spec.name: values})}

    def complete(self, specs: Sequence[StatisticSpec]) -> bool:
        """Whether every shard has all these statistics."""
        return not any(self.missing(specs, number) for number in range(self.examples.shards))


def file_name(spec: StatisticSpec, number: int) -> str:
    """Return the path of one statistic and shard within the folder of a measurement."""
    return f"{spec.key}/{shard_name(number)}"


def locate(examples: ExampleStore, model: ModelSettings, store: Path) -> Measurement:
    """Return where the statistics of a model over examples are, or will be."""
    identity = {"examples": examples.fingerprint, "cut": examples.cut, "model": model_identity(model)}
    return Measurement(store / "statistics" / fingerprint.of_value(identity)[:16], examples)


def measure(
    examples: ExampleStore,
    model: ModelSettings,
    specs: Sequence[StatisticSpec],
    settings: MeasureSettings,
    store: Path,
    pool: ModelPool,
    on_tokens: Callable[[int], None],
) -> Measurement:
    """Measure the statistics that are missing.

    Args:
        examples: what to measure over.
        model: what to measure with.
        specs: which statistics, of `ops.token_loss` and `ops.attention`, or the ``relevance`` of `relevance`.
        settings: batches and device.
        store: folder shared by runs.
        pool: where models are loaded.
        on_tokens: told the number of tokens after each batch, also of shards that were there already.

    Raises:
        TokensieveError: a loss that is NaN or infinite (with its rows), statistics begun with other
            library versions, or a model that cannot be loaded or measured.
    """
    measurement = locate(examples, model, store)
    with locked(measurement.folder):
        _check_manifest(measurement, model, specs)
        lacking = [spec for spec in specs if not measurement.complete([spec])]
        if not lacking:
            on_tokens(examples.counts.tokens)
            return measurement
        with pool.use(model, merge=True) as loaded:
            _measure_tables(measurement, loaded, lacking)
            passes = [spec for spec in lacking if spec.name != RELEVANCE]
            if passes:
                budget = settings.batch_tokens(pool.device.type)
                _measure_passes(measurement, model.path, loaded, passes, budget, on_tokens)
    return measurement


def measure_shard(
    forward: Forward, shard: Examples, token_budget: int, on_tokens: Callable[[int], None]
) -> dict[str, Float32]:
    """Measure all examples of a shard in batches of similar length.

    Returns:
        float32 ``[tokens]`` by the key of each statistic of ``forward``; 0 where a token is not trainable.
    """
    values = {spec.key: np.zeros(len(shard.input_ids), dtype=np.float32) for spec in forward.specs}
    run_batches(
        lambda numbers: measure_examples(forward, shard, numbers, values),
        plan_batches(forward.needed_lengths(shard), token_budget),
        forward.device,
        lambda numbers: on_tokens(int(shard.lengths[numbers].sum())),
    )
    return values


def _measure_passes(
    measurement: Measurement,
    name: str,
    loaded: Any,
    specs: Sequence[StatisticSpec],
    budget: int,
    on_tokens: Callable[[int], None],
) -> None:
    """Measure what takes a pass of the model over every shard, as far as it is missing."""
    with Forward(loaded, specs) as forward:
        for number in range(measurement.examples.shards):
            shard = measurement.examples.read(number)
            missing = measurement.missing(specs, number)
            if not missing:
                on_tokens(len(shard.input_ids))
                continue
            found = measure_shard(forward, shard, budget, on_tokens)
            for spec in missing:
                described = f"{spec.name} of {name}"
                check_finite(found[spec.key], shard.labels != IGNORE_INDEX, shard.cu_seqlens, described)
            written: dict[str, FileRecord] = {}
            for spec in missing:
                written |= measurement.write(spec, number, shard.cu_seqlens, found[spec.key])
            record(measurement.folder, written)


def _measure_tables(measurement: Measurement, loaded: Any, specs: Sequence[StatisticSpec]) -> None:
    """Measure what depends on a token's id alone: once per vocabulary id, then looked up."""
    for spec in specs:
        if spec.name != RELEVANCE:
            continue
        examples = measurement.examples
        ids, words = task_ids(examples, spec)
        table = relevance_table(loaded, ids, spec.option("vector", "hidden"), examples.counts.largest_id + 1)
        write_json(measurement.folder / spec.key / "domain_words.json", words)
        for number, shard in enumerate(examples):
            values = np.where(shard.labels != IGNORE_INDEX, table[shard.input_ids], np.float32(0))
            record(measurement.folder, measurement.write(spec, number, shard.cu_seqlens, values))


def _check_manifest(measurement: Measurement, model: ModelSettings, specs: Sequence[StatisticSpec]) -> None:
    """Write the manifest of a new measurement; refuse to go on with another version's half-done one."""
    if not has_manifest(measurement.folder):
        about = {
            "examples": measurement.examples.fingerprint,
            "model": {"path": model.path, "revision": model.revision, **model_identity(model)},
            "versions": fingerprint.versions(),
        }
        write_manifest(measurement.folder, {}, about)
        return
    adopt(measurement.folder, "*/shard-*.arrow")
    if not measurement.complete(specs):
        fingerprint.check_same(
            open_manifest(measurement.folder).about["versions"],
            fingerprint.versions(),
            where=str(measurement.folder),
            hint="delete the folder to measure again with these versions",
        )
