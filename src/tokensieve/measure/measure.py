"""Statistics of one model over one set of examples: measured shard by shard, resumed, reused.

On disk: ``store/statistics/<id>/<statistic>/shard-00000.parquet``, where the id is the fingerprint of the
examples and of the model. A statistic that is there is never measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.data.prepare import ExampleStore
from tokensieve.measure.batching import plan_batches
from tokensieve.measure.engines.local import run_batches
from tokensieve.measure.forward import Forward, measure_examples
from tokensieve.measure.models import ModelPool, model_identity
from tokensieve.measure.settings import MeasureSettings, ModelSettings
from tokensieve.store import fingerprint
from tokensieve.store.atomic import locked, read_json, write_json
from tokensieve.store.shards import read_shard, shard_name, write_shard
from tokensieve.types import IGNORE_INDEX, Examples, Float32, Int64, check_finite


@dataclass(frozen=True)
class Measurement:
    """The statistics of one model over one set of examples.

    Attributes:
        folder: where they are.
        examples: what they were measured over.
    """

    folder: Path
    examples: ExampleStore

    def path(self, name: str, number: int) -> Path:
        """Return the file of one statistic and shard."""
        return self.folder / name / shard_name(number)

    def missing(self, names: Sequence[str], number: int) -> list[str]:
        """Return the statistics that a shard lacks."""
        return [name for name in names if not self.path(name, number).is_file()]

    def read(self, name: str, number: int) -> Float32:
        """Return float32 ``[tokens]`` of one statistic and shard; 0 where a token is not trainable."""
        return read_shard(self.path(name, number))[1][name]

    def complete(self, names: Sequence[str]) -> bool:
        """Whether every shard has all these statistics."""
        return not any(self.missing(names, number) for number in range(self.examples.shards))


def locate(examples: ExampleStore, model: ModelSettings, store: Path) -> Measurement:
    """Return where the statistics of a model over examples are, or will be."""
    identity = {"examples": examples.fingerprint, "model": model_identity(model)}
    return Measurement(store / "statistics" / fingerprint.of_value(identity)[:16], examples)


def measure(
    examples: ExampleStore,
    model: ModelSettings,
    names: Sequence[str],
    settings: MeasureSettings,
    store: Path,
    pool: ModelPool,
    on_tokens: Callable[[int], None],
) -> Measurement:
    """Measure the statistics that are missing.

    Args:
        examples: what to measure over.
        model: what to measure with.
        names: statistics of `ops.token_loss`.
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
        _check_manifest(measurement, model, names)
        if measurement.complete(names):
            on_tokens(examples.counts.tokens)
            return measurement
        with pool.use(model) as loaded, Forward(loaded) as forward:
            budget = settings.batch_tokens(pool.device.type)
            for number in range(examples.shards):
                missing = measurement.missing(names, number)
                shard = examples.read(number)
                if not missing:
                    on_tokens(len(shard.input_ids))
                    continue
                figures = measure_shard(forward, shard, missing, budget, on_tokens)
                for name, values in figures.items():
                    check_finite(values, shard.labels != IGNORE_INDEX, shard.cu_seqlens, f"{name} of {model.path}")
                for name, values in figures.items():
                    write_shard(measurement.path(name, number), shard.cu_seqlens, {name: values})
    return measurement


def measure_shard(
    forward: Forward, shard: Examples, names: Sequence[str], token_budget: int, on_tokens: Callable[[int], None]
) -> dict[str, Float32]:
    """Measure all examples of a shard in batches of similar length.

    Returns:
        float32 ``[tokens]`` per name; 0 where a token is not trainable.
    """
    figures = {name: np.zeros(len(shard.input_ids), dtype=np.float32) for name in names}
    run_batches(
        lambda numbers: measure_examples(forward, shard, numbers, names, figures),
        plan_batches(_needed_lengths(shard), token_budget),
        forward.device,
        lambda numbers: on_tokens(int(shard.lengths[numbers].sum())),
    )
    return figures


def _needed_lengths(shard: Examples) -> Int64:
    """Return int64 ``[examples]``, tokens up to the last trainable one, which itself need not be read."""
    positions = np.where(shard.labels != IGNORE_INDEX, np.arange(len(shard.labels)), -1)
    last: NDArray[Any] = np.maximum.reduceat(positions, shard.cu_seqlens[:-1])
    return np.maximum(last - shard.cu_seqlens[:-1], 0)


def _check_manifest(measurement: Measurement, model: ModelSettings, names: Sequence[str]) -> None:
    """Write the manifest of a new measurement; refuse to go on with another version's half-done one."""
    path = measurement.folder / "manifest.json"
    if not path.is_file():
        manifest = {
            "examples": measurement.examples.fingerprint,
            "model": {"path": model.path, "revision": model.revision, **model_identity(model)},
            "versions": fingerprint.versions(),
        }
        write_json(path, manifest)
    elif not measurement.complete(names):
        fingerprint.check_same(
            read_json(path)["versions"],
            fingerprint.versions(),
            where=str(measurement.folder),
            mend="delete the folder to measure anew with these versions",
        )
