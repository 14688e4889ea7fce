"""Figures of frozen models over the rows of a training data set, measured before the training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tokensieve.measure.forward import Forward
from tokensieve.measure.measure import measure_shard
from tokensieve.measure.settings import MeasureSettings
from tokensieve.ops.ragged import offsets
from tokensieve.types import IGNORE_INDEX, Examples, Figure, Float32

_ROWS_AT_ONCE = 2000


def measure_rows(model: Any, dataset: Any, figures: Sequence[Figure]) -> dict[str, list[Float32]]:
    """Measure a data set of token ids: for each statistic, the figures of each row."""
    found: dict[str, list[Float32]] = {figure.name: [] for figure in figures}
    training = model.training
    model.eval()
    try:
        with Forward(model, figures) as forward:
            budget = MeasureSettings().batch_tokens(forward.device.type)
            for start in range(0, len(dataset), _ROWS_AT_ONCE):
                rows = dataset[start : start + _ROWS_AT_ONCE]
                cu_seqlens = offsets([len(ids) for ids in rows["input_ids"]])
                ids, labels = (np.concatenate(rows[name]).astype(np.int32) for name in ("input_ids", "labels"))
                labels[cu_seqlens[:-1]] = IGNORE_INDEX
                shard = Examples(ids, labels, cu_seqlens, np.arange(start, start + len(cu_seqlens) - 1))
                measured = measure_shard(forward, shard, budget, lambda _: None)
                for figure in figures:
                    found[figure.name] += np.split(measured[figure.key], cu_seqlens[1:-1])
    finally:
        model.train(training)
    return found
