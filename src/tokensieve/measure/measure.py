"""Statistics of one model over one set of examples: measured shard by shard, resumed, reused.

On disk: ``store/statistics/<id>/<figure>/shard-00000.parquet``, where the id is the fingerprint of the examples and of
the model, and the figure is a statistic with a digest of its options where it has some. What is there is never measured
again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tokensieve.data.prepare import ExampleStore
from tokensieve.measure.batching import plan_batches
from tokensieve.measure.engines.local import run_batches
from tokensieve.measure.forward import Forward, measure_examples
from tokensieve.measure.models import ModelPool, model_identity
from tokensieve.measure.relevance import RELEVANCE, relevance_table, task_ids
from tokensieve.measure.settings import MeasureSettings, ModelSettings
from tokensieve.store import fingerprint
from tokensieve.store.atomic import locked, read_json, write_json
from tokensieve.store.shards import read_shard, shard_name, write_shard
from tokensieve.types import IGNORE_INDEX, Examples, Figure, Float32, check_finite


@dataclass(frozen=True)
class Measurement:
    """The statistics of one model over one set of examples.

    Attributes:
        folder: where they are.
        examples: what they were measured over.
    """

    folder: Path
    examples: ExampleStore

    def path(self, figure: Figure, number: int) -> Path:
        """Return the file of one figure and shard."""
        return self.folder / figure.key / shard_name(number)

    def missing(self, figures: Sequence[Figure], number: int) -> list[Figure]:
        """Return the figures that a shard lacks."""
        return [figure for figure in figures if not self.path(figure, number).is_file()]

    def read(self, figure: Figure, number: int) -> Float32:
        """Return float32 ``[tokens]`` of one figure and shard; 0 where a token is not trainable."""
        return read_shard(self.path(figure, number))[1][figure.name]

    def complete(self, figures: Sequence[Figure]) -> bool:
        """Whether every shard has all these figures."""
        return not any(self.missing(figures, number) for number in range(self.examples.shards))


def locate(examples: ExampleStore, model: ModelSettings, store: Path) -> Measurement:
    """Return where the statistics of a model over examples are, or will be."""
    identity = {"examples": examples.fingerprint, "model": model_identity(model)}
    return Measurement(store / "statistics" / fingerprint.of_value(identity)[:16], examples)


def measure(
    examples: ExampleStore,
    model: ModelSettings,
    figures: Sequence[Figure],
    settings: MeasureSettings,
    store: Path,
    pool: ModelPool,
    on_tokens: Callable[[int], None],
) -> Measurement:
    """Measure the statistics that are missing.

    Args:
        examples: what to measure over.
        model: what to measure with.
        figures: which statistics, of `ops.token_loss` and `ops.attention`, or the ``relevance`` of `relevance`.
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
        _check_manifest(measurement, model, figures)
        lacking = [figure for figure in figures if not measurement.complete([figure])]
        if not lacking:
            on_tokens(examples.counts.tokens)
            return measurement
        with pool.use(model, merge=True) as loaded:
            _measure_tables(measurement, loaded, lacking)
            passes = [figure for figure in lacking if figure.name != RELEVANCE]
            if passes:
                budget = settings.batch_tokens(pool.device.type)
                _measure_passes(measurement, model.path, loaded, passes, budget, on_tokens)
    return measurement


def measure_shard(
    forward: Forward, shard: Examples, token_budget: int, on_tokens: Callable[[int], None]
) -> dict[str, Float32]:
    """Measure all examples of a shard in batches of similar length.

    Returns:
        float32 ``[tokens]`` by the key of each figure of ``forward``; 0 where a token is not trainable.
    """
    figures = {figure.key: np.zeros(len(shard.input_ids), dtype=np.float32) for figure in forward.figures}
    run_batches(
        lambda numbers: measure_examples(forward, shard, numbers, figures),
        plan_batches(forward.needed_lengths(shard), token_budget),
        forward.device,
        lambda numbers: on_tokens(int(shard.lengths[numbers].sum())),
    )
    return figures


def _measure_passes(
    measurement: Measurement,
    name: str,
    loaded: Any,
    figures: Sequence[Figure],
    budget: int,
    on_tokens: Callable[[int], None],
) -> None:
    """Measure what takes a pass of the model over every shard, as far as it is missing."""
    with Forward(loaded, figures) as forward:
        for number in range(measurement.examples.shards):
            shard = measurement.examples.read(number)
            missing = measurement.missing(figures, number)
            if not missing:
                on_tokens(len(shard.input_ids))
                continue
            found = measure_shard(forward, shard, budget, on_tokens)
            for figure in missing:
                described = f"{figure.name} of {name}"
                check_finite(found[figure.key], shard.labels != IGNORE_INDEX, shard.cu_seqlens, described)
            for figure in missing:
                write_shard(measurement.path(figure, number), shard.cu_seqlens, {figure.name: found[figure.key]})


def _measure_tables(measurement: Measurement, loaded: Any, figures: Sequence[Figure]) -> None:
    """Measure what depends on a token's id alone: once per vocabulary id, then looked up."""
    for figure in figures:
        if figure.name != RELEVANCE:
            continue
        examples = measurement.examples
        ids, words = task_ids(examples, figure)
        table = relevance_table(loaded, ids, figure.option("vector", "hidden"), examples.counts.largest_id + 1)
        write_json(measurement.folder / figure.key / "domain_words.json", words)
        for number, shard in enumerate(examples):
            values = np.where(shard.labels != IGNORE_INDEX, table[shard.input_ids], np.float32(0))
            write_shard(measurement.path(figure, number), shard.cu_seqlens, {figure.name: values})


def _check_manifest(measurement: Measurement, model: ModelSettings, figures: Sequence[Figure]) -> None:
    """Write the manifest of a new measurement; refuse to go on with another version's half-done one."""
    path = measurement.folder / "manifest.json"
    if not path.is_file():
        manifest = {
            "examples": measurement.examples.fingerprint,
            "model": {"path": model.path, "revision": model.revision, **model_identity(model)},
            "versions": fingerprint.versions(),
        }
        write_json(path, manifest)
    elif not measurement.complete(figures):
        fingerprint.check_same(
            read_json(path)["versions"],
            fingerprint.versions(),
            where=str(measurement.folder),
            mend="delete the folder to measure anew with these versions",
        )
