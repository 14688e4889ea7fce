"""Statistics of one model over one set of examples: measured shard by shard, resumed, reused.

On disk: ``store/statistics/<id>/<statistic>/shard-00000.arrow``, where the id is the fingerprint of the examples and
the model, and the name of a statistic is followed by a digest of its options where it has any. What is there is never
measured again.

This is the driver: it hashes weights and keeps the manifest. The shards are measured by workers (`measure.worker`),
which an engine (`engines`) runs. A driver that measures everything holds the lock of the folder; those that
measure a share each (`measure.share`) write side by side, and take the lock of the manifest alone.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tokensieve.containers import StatisticSpec
from tokensieve.data.example_store import ExampleStore
from tokensieve.engines import Engine, OnTokens
from tokensieve.errors import TokensieveError
from tokensieve.measure.measurement import Measurement
from tokensieve.measure.settings import MeasureSettings
from tokensieve.measure.share import ALL, Share
from tokensieve.measure.statistics import check_measurable
from tokensieve.measure.worker import Job, Worker
from tokensieve.models.identity import model_identity
from tokensieve.models.pool import ModelPool
from tokensieve.models.settings import ModelSettings
from tokensieve.store import fingerprint
from tokensieve.store.atomic import locked
from tokensieve.store.manifest import Recorder, adopt, ensure_manifest, open_manifest
from tokensieve.store.mirror import sync
from tokensieve.store.processes import sweep


def locate(examples: ExampleStore, model: ModelSettings, store: Path) -> Measurement:
    """Return where the statistics of a model over examples are, or will be."""
    found = _locate(examples, model_identity(model), store)
    sync(found.folder)
    return found


def measure(
    examples: ExampleStore,
    model: ModelSettings,
    specs: Sequence[StatisticSpec],
    settings: MeasureSettings,
    store: Path,
    pool: ModelPool,
    engine: Engine,
    on_tokens: OnTokens,
    share: Share = ALL,
) -> Measurement:
    """Measure the statistics that are missing.

    Args:
        examples: what to measure over.
        model: what to measure with.
        specs: which statistics, of `measure.statistics.MEASURABLE`.
        settings: batches and device.
        store: folder shared by runs.
        pool: where models are loaded.
        engine: maps workers over the shards.
        on_tokens: told the number of tokens after each batch, also of shards that were there already.
        share: which of the shards; others may measure the rest at the same time.

    Raises:
        TokensieveError: a value that is NaN or infinite (with its rows), statistics begun with other
            library versions, or a model that cannot be loaded or measured.
    """
    for spec in specs:
        check_measurable(spec.name, "measure")
    identity = model_identity(model)
    measurement = _locate(examples, identity, store)
    if not share.is_all:
        sync(measurement.folder)
    with locked(measurement.folder) if share.is_all else nullcontext():
        ensure_manifest(measurement.folder, _about(measurement, model, identity))
        adopt(measurement.folder, "shard-*.arrow")
        lacking = tuple(spec for spec in specs if not measurement.complete([spec]))
        versions = _check_versions(measurement, bool(lacking))
        todo = measurement.lacking(lacking, share.shards(examples.shards))
        on_tokens(tokens_of(examples, share) - int(np.diff(examples.starts)[todo].sum()))
        if len(todo):
            for spec in lacking:
                sweep(measurement.folder / spec.key)
            job = Job(measurement, model, lacking, settings, versions)
            left = np.zeros(examples.shards, dtype=np.bool_)
            left[todo] = True
            numbers = array("q", todo.tobytes())  # a list of them would take five times the memory
            with Recorder(measurement.folder) as recorder:
                for one in engine.map(partial(Worker, job, pool), numbers, on_tokens):
                    recorder.add(one.files)
                    left[one.shard] = False
            if left.any():
                raise TokensieveError(
                    f"the engine left out {left.sum()} of {len(todo)} shards: {np.flatnonzero(left)[:10].tolist()}",
                    where=str(measurement.folder),
                    hint="run the same command again: what is measured is kept",
                )
    if not share.is_all:
        sync(measurement.folder)  # what others measured meanwhile
    return measurement


def tokens_of(examples: ExampleStore, share: Share) -> int:
    """Return how many tokens a share of the shards has."""
    return int(np.diff(examples.starts)[share.number :: share.of].sum())


def _locate(examples: ExampleStore, identity: dict[str, Any], store: Path) -> Measurement:
    whole = {"examples": examples.fingerprint, "cut": examples.cut, "model": identity}
    return Measurement(store / "statistics" / fingerprint.of_value(whole)[:16], examples)


def _about(measurement: Measurement, model: ModelSettings, identity: dict[str, Any]) -> dict[str, Any]:
    return {
        "examples": measurement.examples.fingerprint,
        "model": {"path": model.path, "revision": model.revision, **identity},
        "versions": fingerprint.versions(),
    }


def _check_versions(measurement: Measurement, lacking: bool) -> dict[str, str]:
    """Return the versions of the libraries here; refuse to go on with a measurement that other versions began."""
    versions = fingerprint.versions()
    if lacking:
        fingerprint.check_same(
            open_manifest(measurement.folder).about["versions"],
            versions,
            where=str(measurement.folder),
            hint="delete the folder to measure again with these versions",
        )
    return versions
