"""What measures shards: a job that is plain data, and the worker that does it shard by shard.

An engine (`engines`) maps the worker over the numbers of shards, in this process or in others. The driver
(`measure.measure`) does what is done once: it hashes the weights and keeps the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from tokensieve.containers import IGNORE_INDEX, Examples, Float32, StatisticSpec, check_finite
from tokensieve.engines import Done, OnTokens
from tokensieve.measure.forward import Forward, measure_shard
from tokensieve.measure.measurement import Measurement, file_name
from tokensieve.measure.settings import MeasureSettings
from tokensieve.measure.statistics import of_a_pass, vocabulary_table
from tokensieve.models.pool import ModelPool
from tokensieve.models.settings import ModelSettings
from tokensieve.store import fingerprint
from tokensieve.store.atomic import write_json
from tokensieve.store.checksum import FileRecord


@dataclass(frozen=True)
class Job:
    """What a worker is to measure: plain data, so that a worker can be made from it in any process.

    Attributes:
        measurement: where the statistics go, and what they are measured over.
        model: what to measure with.
        specs: which statistics, none of them there for every shard.
        settings: batches and device.
        versions: of the libraries, as they stand in the manifest.
    """

    measurement: Measurement
    model: ModelSettings
    specs: tuple[StatisticSpec, ...]
    settings: MeasureSettings
    versions: Mapping[str, str]


class Worker:
    """Measures shards with a model, which it holds while the block lasts.

    Args:
        job: what to measure.
        pool: where the model is loaded. In another process, it is an empty one.

    Raises:
        TokensieveError: libraries of other versions than the job's, or a model that cannot be loaded or measured.
    """

    def __init__(self, job: Job, pool: ModelPool) -> None:
        self._job, self._pool = job, pool

    def __enter__(self) -> Self:
        fingerprint.check_same(
            dict(self._job.versions),
            fingerprint.versions(),
            where=str(self._job.measurement.folder),
            hint="install the same versions wherever statistics are measured",
        )
        specs = [spec for spec in self._job.specs if of_a_pass(spec.name)]
        with ExitStack() as stack:
            self._model = stack.enter_context(self._pool.use(self._job.model, merge=True))
            self._forward = stack.enter_context(Forward(self._model, specs)) if specs else None
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def do(self, shard: int, on_tokens: OnTokens) -> Done:
        """Measure what a shard lacks, check all of it, and write it.

        Raises:
            TokensieveError: a value that is NaN or infinite, with its rows; nothing of the shard is then written.
        """
        measurement = self._job.measurement
        examples, lacking = measurement.examples.read(shard), measurement.missing(self._job.specs, shard)
        files: dict[str, FileRecord] = measurement.unrecorded(lacking, shard)
        missing = [spec for spec in lacking if file_name(spec, shard) not in files]
        found = self._values(examples, missing, on_tokens)
        for spec in missing:
            described = f"{spec.name} of {self._job.model.path}"
            check_finite(found[spec.key], examples.labels != IGNORE_INDEX, examples.cu_seqlens, described)
        for spec in missing:
            files |= measurement.write(spec, shard, examples, found[spec.key])
        return Done(shard, len(examples.input_ids), files)

    def _values(self, examples: Examples, specs: Sequence[StatisticSpec], on_tokens: OnTokens) -> dict[str, Float32]:
        found: dict[str, Float32] = {}
        for spec in specs:
            if not of_a_pass(spec.name):
                values = self._tables[spec.key][examples.input_ids]
                found[spec.key] = np.where(examples.labels != IGNORE_INDEX, values, np.float32(0))
        if self._forward is not None and any(of_a_pass(spec.name) for spec in specs):
            budget = self._job.settings.batch_tokens(self._pool.device.type)
            found |= measure_shard(self._forward, examples, budget, on_tokens)
        else:
            on_tokens(len(examples.input_ids))
        return found

    @cached_property
    def _tables(self) -> dict[str, Float32]:
        """Statistics of every id of the vocabulary; what they were measured from is written beside their shards."""
        measurement, tables = self._job.measurement, {}
        for spec in self._job.specs:
            if of_a_pass(spec.name):
                continue
            table = vocabulary_table(self._model, measurement.examples, spec)
            for name, value in table.records.items():
                write_json(measurement.folder / spec.key / name, value)
            tables[spec.key] = table.values
        return tables
