"""What a run found: one line for each arm and point of reference, read from the run folder."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np

from tokensieve.evaluate.intervals import mean_interval
from tokensieve.runs.folder import ArmFolder, RunFolder
from tokensieve.select.selection import Selection

POINTS_OF_REFERENCE = {"base": "before fine-tuning", "reference": "the scoring model"}
"""Models that are evaluated beside the arms, and what they are."""
CONTROLS = ("full", "random")
"""Methods that are there to compare with."""
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Estimate:
    """One result with its 95 % interval, where there is one.

    Attributes:
        value: the result.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """What a model was measured on; None for what was not measured.

    Attributes:
        loss: mean loss of held-out response tokens, in nats.
        perplexity: exp of the loss.
        exact_match: share of exact answers.
        tasks: figures of lm-evaluation-harness by task and metric.
    """

    loss: Estimate | None = None
    perplexity: Estimate | None = None
    exact_match: Estimate | None = None
    tasks: Mapping[tuple[str, str], Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One line of the results.

    Attributes:
        name: of the arm, or ``base`` or ``reference``.
        selection: what it chose; None for the points of reference.
        evaluation: its figures; of several seeds the means, with intervals over these.
        seeds: the figures by seed, the first seed first, where they are on the same data; empty for the points of
            reference.
    """

    name: str
    selection: Selection | None
    evaluation: Evaluation
    seeds: Mapping[int, Evaluation] = field(default_factory=dict)


def read_rows(folder: RunFolder, arms: Sequence[str], seed: int) -> tuple[Row, ...]:
    """Read the results of a run: the arms in order, then the points of reference; ``seed`` is the first of the run.

    The counts of an arm that selects while its model trains are those of the whole training, once that has ended.

    Raises:
        TokensieveError: an arm whose tokens are not selected yet, or a file that cannot be read.
    """
    rows = []
    for name in arms:
        arm = folder.arm(name)
        selection = arm.selection()
        trained = arm.training_record().get("selection")
        if selection.online and trained:
            selection = dataclasses.replace(selection, trainable=trained["trainable"], kept=trained["kept"])
        seeds = _by_seed(arm, seed)
        rows.append(Row(name, selection, mean_evaluation(list(seeds.values())), seeds))
    for name in POINTS_OF_REFERENCE:
        results = folder.arm(name).evaluation()
        if results and name not in arms:
            rows.append(Row(name, None, _evaluation(results)))
    return tuple(rows)


def mean_evaluation(found: Sequence[Evaluation]) -> Evaluation:
    """Return the means of one model's figures over seeds, with intervals over these; of one seed its own figures."""
    if len(found) < 2:
        return next(iter(found), Evaluation())
    loss = mean_estimate([one.loss for one in found])
    return Evaluation(
        loss,
        Estimate(math.exp(loss.value)) if loss else None,
        mean_estimate([one.exact_match for one in found]),
        {key: mean for key in found[0].tasks if (mean := mean_estimate([one.tasks.get(key) for one in found]))},
    )


def mean_estimate(found: Sequence[Estimate | None]) -> Estimate | None:
    """Return the mean of a figure over two or more seeds with its 95 % t interval; None where a seed lacks it."""
    values = [one.value for one in found if one is not None]
    return Estimate(float(np.mean(values)), *mean_interval(values)) if len(values) == len(found) else None


def _by_seed(arm: ArmFolder, seed: int) -> dict[int, Evaluation]:
    """Return the evaluations of an arm by seed; of the later seeds those with the data and settings of the first."""
    found = {seed: arm.evaluation(), **{later: one.evaluation() for later, one in arm.replicates().items()}}
    made_from = [{key: one.get(key) for key in ("settings", "data")} for one in found.values()]
    return {
        each: _evaluation(one)
        for (each, one), made in zip(found.items(), made_from, strict=True)
        if one and made == made_from[0]
    }


def _evaluation(found: Mapping[str, Any]) -> Evaluation:
    held_out, exact = found.get("held_out"), found.get("exact_match")
    return Evaluation(
        loss=Estimate(held_out["loss"], held_out["low"], held_out["high"]) if held_out else None,
        perplexity=Estimate(held_out["perplexity"]) if held_out else None,
        exact_match=Estimate(exact["score"], exact["low"], exact["high"]) if exact else None,
        tasks={
            (task, metric): _task_figure(metrics, metric)
            for task, metrics in (found.get("tasks") or {}).items()
            for metric in metrics
            if not metric.partition(",")[0].endswith("_stderr")
        },
    )


def _task_figure(metrics: Mapping[str, float], metric: str) -> Estimate:
    name, comma, filtered = metric.partition(",")
    value, error = metrics[metric], metrics.get(f"{name}_stderr{comma}{filtered}")
    return Estimate(value) if error is None else Estimate(value, value - _Z * error, value + _Z * error)
