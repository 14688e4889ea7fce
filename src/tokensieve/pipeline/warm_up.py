"""Warm-ups: which examples a model is made from, and whether it learned enough from them to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX, LOSS, Bool, Examples, Role
from tokensieve.data.example_store import ExampleStore
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.intervals import bootstrap_ratio
from tokensieve.measure.folds import part_of
from tokensieve.measure.forward import Forward, measure_shard
from tokensieve.models.pool import ModelPool
from tokensieve.models.settings import ModelSettings
from tokensieve.ops.ragged import gather_segments, offsets, segment_counts
from tokensieve.train.settings import WarmUp
from tokensieve.train.steps import FEW_STEPS

_SAMPLE = 200
_LEAST_GAIN = 1e-4  # nats; less is within the rounding of losses


@dataclass(frozen=True)
class WarmUpResult:
    """What a warm-up did to the base.

    Attributes:
        steps: optimizer steps of the training.
        gain: by how much the mean loss of response tokens fell on (a sample of) the rows that the model was trained on,
            in nats.
        low: lower end of the 95 % interval of ``gain`` (paired bootstrap over examples).
        high: upper end of it.
    """

    steps: int
    gain: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)

    def warnings(self, role: Role) -> Iterator[str]:
        """Yield what the user should know before scores are made with the model."""
        more = f"give it more steps with models.{role}.warm_up.train, such as {{gradient_accumulation_steps: 1}}"
        if self.low <= _LEAST_GAIN:
            yield (
                f"models.{role}: the warm-up did not make the base better on its own rows: the loss fell by "
                f"{self.gain:.3f} nats (95 % interval {self.low:.3f} to {self.high:.3f}) in {self.steps} optimizer "
                f"steps, so scores that compare the two are noise; {more}"
            )
        elif self.steps < FEW_STEPS:
            yield f"models.{role}: the warm-up takes {self.steps} optimizer steps only; {more}"


def warm_up_rows(examples: int, warm_up: WarmUp, role: Role) -> list[int]:
    """Return the number of examples of each training of a warm-up, one for each of its folds.

    Raises:
        TokensieveError: more rows, or more folds, than there are examples.
    """
    if warm_up.folds > examples:
        raise TokensieveError(
            f"{warm_up.folds:,} folds of {examples:,} examples",
            where=f"recipe: models.{role}.warm_up.folds",
            hint=f"models.{role}.warm_up.folds: {examples} at most",
        )
    if warm_up.folds > 1:
        parts = np.bincount(part_of(0, examples, warm_up.folds))
        return (examples - parts).tolist()
    rows = examples if warm_up.rows is None else warm_up.rows
    if rows > examples:
        raise TokensieveError(
            f"a warm-up of {rows:,} rows from {examples:,} examples",
            where=f"recipe: models.{role}.warm_up.rows",
            hint=f"models.{role}.warm_up.rows: {examples} at most",
        )
    return [rows]


def pick_examples(examples: ExampleStore, warm_up: WarmUp, role: Role, seed: int, fold: int) -> Bool:
    """Return bool ``[examples]``, the warm-up subset of the model of a role that measures part ``fold``.

    Raises:
        TokensieveError: more rows, or more folds, than there are examples.
    """
    count = examples.counts.examples
    rows = warm_up_rows(count, warm_up, role)[fold]
    if warm_up.folds > 1:
        return part_of(0, count, warm_up.folds) != fold
    picked = np.zeros(count, dtype=bool)
    if warm_up.pick == "first":
        picked[:rows] = True
    else:
        picked[np.random.default_rng(seed).choice(count, rows, replace=False)] = True
    return picked


def warm_up_result(
    pool: ModelPool, base: ModelSettings, made: ModelSettings, steps: int, sample: Examples, token_budget: int
) -> WarmUpResult:
    """Compare a model with the base that it was made from.

    Args:
        pool: where the models are loaded.
        base: the base.
        made: the model.
        steps: optimizer steps of its training.
        sample: some of the examples that it was trained on.
        token_budget: tokens of one batch at most.
    """
    before, after = (_losses(pool, model, sample, token_budget) for model in (base, made))
    counts = segment_counts(sample.labels != IGNORE_INDEX, sample.cu_seqlens)
    gain = before - after
    low, high = bootstrap_ratio(gain, counts)
    return WarmUpResult(steps, float(gain.sum() / counts.sum()), low, high)


def sample_of(examples: ExampleStore, picked: Bool) -> Examples:
    """Return the first examples of a subset, 200 at most."""
    parts, start, room = [], 0, _SAMPLE
    for shard in examples:
        chosen = np.flatnonzero(picked[start : start + len(shard)])[:room]
        start, room = start + len(shard), room - len(chosen)
        parts.append(_take(shard, chosen))
        if not room:
            break
    return Examples(
        np.concatenate([part.input_ids for part in parts]),
        np.concatenate([part.labels for part in parts]),
        offsets(np.concatenate([part.lengths for part in parts])),
        np.concatenate([part.rows for part in parts]),
    )


def _take(shard: Examples, numbers: NDArray[np.int64]) -> Examples:
    return Examples(
        gather_segments(shard.input_ids, shard.cu_seqlens, numbers),
        gather_segments(shard.labels, shard.cu_seqlens, numbers),
        offsets(shard.lengths[numbers]),
        shard.rows[numbers],
    )


def _losses(pool: ModelPool, model: ModelSettings, sample: Examples, token_budget: int) -> NDArray[np.float64]:
    """Return float64 ``[examples]``, the summed loss of each example's response tokens, in nats."""
    with pool.use(model) as loaded, Forward(loaded, [LOSS]) as forward:
        losses = measure_shard(forward, sample, token_budget, lambda _: None)[LOSS.key]
    return np.add.reduceat(losses.astype(np.float64), sample.cu_seqlens[:-1])
