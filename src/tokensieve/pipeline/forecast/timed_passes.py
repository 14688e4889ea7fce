"""The rate at which this machine measures, trains and generates with a model: short runs with random weights.

A model of the same configuration goes through the same code, on some of the same batches, for a few seconds. So what
small matrices, padding and everything that is no matrix product cost is in the rate.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokensieve.containers import IGNORE_INDEX, Examples, StatisticSpec
from tokensieve.data.example_store import ExampleStore
from tokensieve.data.tokenize import Encoder
from tokensieve.evaluate.generate import greedy_answers
from tokensieve.measure.batching import plan_batches, run_batches
from tokensieve.measure.forward import Forward, measure_examples
from tokensieve.measure.statistics import source_of
from tokensieve.models.size import ModelSize
from tokensieve.pipeline.forecast.flops import (
    Lengths,
    Passed,
    attention_statistic_flops,
    forward_flops,
    padded,
    training_flops,
)
from tokensieve.select.cleaned import data_files, write_subset
from tokensieve.train.timing import time_steps
from tokensieve.train.trainer import TrainingSetup

_SECONDS = 3.0
"""What the timed part of one short run takes, about."""
_TOKENS = (2, 18)
"""Lengths of answers whose difference is timed."""


@dataclass(frozen=True)
class TrainingRate:
    """How fast a training goes.

    Attributes:
        flops: operations a second of forward and backward passes.
        start: seconds before its first batch.
        optimizer: seconds of an optimizer step.
    """

    flops: float
    start: float = 0.0
    optimizer: float = 0.0


def measuring_rate(
    model: Any,
    size: ModelSize,
    adapter: int,
    examples: ExampleStore,
    specs: Sequence[StatisticSpec],
    token_budget: int,
) -> float:
    """Return the operations a second of measuring.

    Args:
        model: as `random_model` gives it.
        size: of the model.
        adapter: parameters of an adapter that it has; 0 for none.
        examples: what is measured.
        specs: which statistics, of a pass.
        token_budget: padded tokens of a batch at most.
    """
    shard = examples.read(0)
    device = next(model.parameters()).device
    whole = any(source_of(spec.name) == "pass" for spec in specs)
    with Forward(model, specs) as forward:
        values = {spec.key: np.zeros(len(shard.input_ids), dtype=np.float32) for spec in specs}
        needed = forward.needed_lengths(shard)
        batches = plan_batches(needed, token_budget)
        # Every so many batches, so that long and short ones take part, and as many for each core.
        at_once = torch.get_num_threads() if device.type == "cpu" else 1
        spread = np.random.default_rng(0).permutation(len(batches))
        done, spent = Passed(0, 0, 0), 0.0

        def work(numbers: np.ndarray) -> None:
            measure_examples(forward, shard, numbers, values)

        run_batches(work, [batches[0]], device, lambda _: None)
        for first in range(0, len(spread), 2 * at_once):
            chosen = [batches[number] for number in sorted(spread[first : first + 2 * at_once])]
            start = _now(device)
            run_batches(work, chosen, device, lambda _: None)
            spent += _now(device) - start
            predicted = sum(int(_trainable(shard, numbers)) for numbers in chosen)
            done += padded((needed[numbers] for numbers in chosen), predicted)
            if spent > _SECONDS:
                break
    flops = forward_flops(size, done, adapter) + (attention_statistic_flops(size, done) if whole else 0)
    return flops / spent


def training_rate(
    model: Any,
    size: ModelSize,
    setup: TrainingSetup,
    examples: ExampleStore,
    adapter: int | None,
    checkpointing: bool,
    packed: int | None,
    every_position: bool,
) -> TrainingRate:
    """Return how fast a training goes.

    Args:
        model: as `random_model` gives it; trained in place.
        size: of the model.
        setup: settings of the training.
        examples: some of them are trained on.
        adapter: as for `training_flops`.
        checkpointing: as for `training_flops`.
        packed: as for `trained_tokens`.
        every_position: as for `trained_tokens`.
    """
    count = examples.counts.examples
    rows = min(count, 32 * setup.settings.arguments["per_device_train_batch_size"])
    picked = np.zeros(count, dtype=bool)
    picked[np.random.default_rng(0).choice(count, rows, replace=False)] = True
    with tempfile.TemporaryDirectory() as folder:
        write_subset(examples, picked, Path(folder))
        times = time_steps(model, setup, data_files(Path(folder)), _SECONDS)
    lengths = Lengths.of(itertools.islice(examples, 1))
    share = 1.0 if every_position else lengths.trainable.sum() / lengths.tokens.sum()
    tokens = sum(rows * longest for rows, longest in times.shapes)
    squares = sum(rows * longest * (packed or longest) for rows, longest in times.shapes)
    flops = training_flops(size, Passed(tokens, squares, share * tokens), adapter, checkpointing)
    return TrainingRate(flops / sum(times.batches), times.start, times.optimizer)


def seconds_a_token(model: Any, encoder: Encoder, prompts: Sequence[list[int]], batch_size: int) -> float:
    """Return what one more token of each of ``batch_size`` answers takes."""
    asked = list(prompts[:batch_size])
    device = next(model.parameters()).device
    greedy_answers(model, encoder, asked[:1], 1, batch_size, lambda _: None)
    taken = []
    for tokens in _TOKENS:
        start = _now(device)
        greedy_answers(model, encoder, asked, tokens, batch_size, lambda _: None)
        taken.append(_now(device) - start)
    return max(0.0, taken[1] - taken[0]) / (_TOKENS[1] - _TOKENS[0])


def _trainable(shard: Examples, numbers: np.ndarray) -> int:
    spans = ((int(shard.cu_seqlens[n]), int(shard.cu_seqlens[n + 1])) for n in numbers)
    return sum(int((shard.labels[first:stop] != IGNORE_INDEX).sum()) for first, stop in spans)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
