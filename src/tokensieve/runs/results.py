"""What a run found: one line for each arm and point of reference, read from the run folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, TypeVar

import numpy as np

from tokensieve.evaluate.intervals import mean_interval, perplexity
from tokensieve.runs.folder import RunFolder
from tokensieve.runs.outcomes import MEASURES, evaluated_seeds
from tokensieve.select.selection import Selection

POINTS_OF_REFERENCE = {"base": "before fine-tuning", "reference": "the scoring model"}
"""Models that are evaluated beside the arms, and what they are."""
CONTROLS = ("full", "random")
"""Methods that are there to compare with."""
_Z = NormalDist().inv_cdf(0.975)

Key = TypeVar("Key")


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
    """What a model was measured to.

    Attributes:
        results: the results by name of the measure (`runs.outcomes.MEASURES`), in their order; those that there are.
        tasks: results of lm-evaluation-harness by task and metric.
    """

    results: Mapping[str, Estimate] = field(default_factory=dict)
    tasks: Mapping[tuple[str, str], Estimate] = field(default_factory=dict)

    @property
    def loss(self) -> Estimate | None:
        """Mean loss of held-out response tokens, in nats."""
        return self.results.get("held_out")

    @property
    def perplexity(self) -> Estimate | None:
        """Exp of the loss."""
        return Estimate(perplexity(self.loss.value)) if self.loss else None


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
        seeds = {each: _evaluation(one.evaluation()) for each, one in evaluated_seeds(arm, seed).items()}
        rows.append(Row(name, selection, mean_evaluation(list(seeds.values())), seeds))
    for name in POINTS_OF_REFERENCE:
        results = folder.arm(name).evaluation()
        if results and name not in arms:
            rows.append(Row(name, None, _evaluation(results)))
    return tuple(rows)


def mean_evaluation(found: Sequence[Evaluation]) -> Evaluation:
    """Return the means of one model's figures over seeds, with intervals over these; of one seed its own figures.

    A t interval of shares may reach beyond 0 and 1, which no share does; it ends there.
    """
    if len(found) < 2:
        return next(iter(found), Evaluation())
    means = _means([one.results for one in found])
    results = {name: _within(one) if MEASURES[name].unit == "share" else one for name, one in means.items()}
    return Evaluation(results, _means([one.tasks for one in found]))


def _within(share: Estimate) -> Estimate:
    low, high = (None if end is None else min(1.0, max(0.0, end)) for end in (share.low, share.high))
    return Estimate(share.value, low, high)


def _means(found: Sequence[Mapping[Key, Estimate]]) -> dict[Key, Estimate]:
    """Return the means over two or more seeds with 95 % t intervals, of what every seed has."""
    by_key = {key: [one[key] for one in found] for key in found[0] if all(key in one for one in found)}
    return {key: _mean(of_key) for key, of_key in by_key.items()}


def _mean(found: Sequence[Estimate]) -> Estimate:
    values = [one.value for one in found]
    if not np.ptp(values):  # seeds that agree to the last digit tell nothing of the spread; their examples do
        return found[0]
    return Estimate(float(np.mean(values)), *mean_interval(values))


def _evaluation(found: Mapping[str, Any]) -> Evaluation:
    sections = {name: found[name] for name in MEASURES if found.get(name)}
    return Evaluation(
        {
            name: Estimate(section[MEASURES[name].value], section["low"], section["high"])
            for name, section in sections.items()
        },
        {
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
