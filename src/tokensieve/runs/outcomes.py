"""What models are judged by, and the results of every example and seed behind each judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Int64
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.differences import PairedDifference, Recovered, paired_difference, recovered_share
from tokensieve.runs.arm_folder import ArmFolder
from tokensieve.store import fingerprint


@dataclass(frozen=True)
class Measure:
    """Something that models are judged by, and where an evaluation has it.

    Attributes:
        title: its name in tables.
        unit: ``nats``, or ``share`` for a mean of zeros and ones.
        lower_is_better: whether a smaller value is better.
        value: the field of its section in ``evaluation.json`` with the mean; the section has the measure's name, and
            its fields ``low`` and ``high`` are the interval.
        details: name of the JSON-lines file with one line an example, without the suffix.
        sums: the column of it with the result of each example.
        counts: the column with what each result is a sum over, such as tokens; None where each counts as one.
        identity: the columns that identify an example.
        data: the key of the data's fingerprint in ``evaluation.json``; None where the columns suffice.
    """

    title: str
    unit: Literal["nats", "share"]
    lower_is_better: bool
    value: str
    details: str
    sums: str
    counts: str | None = None
    identity: tuple[str, ...] = ("rows",)
    data: str | None = None

    def section(self, name: str) -> str:
        """Return the key of `evaluate` that sets it up, for the name of the measure."""
        return self.data or name


MEASURES: Mapping[str, Measure] = {
    "held_out": Measure(
        "held-out loss", "nats", True, "loss", "held_out", "losses", "tokens", ("rows", "tokens"), "held_out"
    ),
    "exact_match": Measure(
        "exact match", "share", False, "score", "predictions", "correct", None, ("row", "prompt", "answer")
    ),
    "unwanted": Measure(
        "loss of unwanted texts", "nats", False, "loss", "unwanted", "losses", "tokens", ("rows", "tokens"), "unwanted"
    ),
    "stop": Measure("log odds of stopping", "nats", False, "log_odds", "stop", "log_odds", None, ("rows",), "unwanted"),
    "unwanted_answers": Measure(
        "unwanted answers", "share", True, "share", "unwanted_answers", "found", None, ("row", "prompt"), "unwanted"
    ),
    "corrected": Measure(
        "loss of corrected answers",
        "nats",
        True,
        "loss",
        "corrected",
        "losses",
        "tokens",
        ("rows", "tokens"),
        "corrected",
    ),
    "preference": Measure(
        "corrected preferred", "share", False, "share", "preference", "preferred", None, ("rows",), "corrected"
    ),
    "margin": Measure(
        "margin of corrected", "nats", False, "mean", "preference", "margin", None, ("rows",), "corrected"
    ),
}
"""The measures by name, in the order of tables."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The results of one measure, for every example and seed of an arm.

    Attributes:
        sums: float64 ``[seeds, examples]``, in the unit of the measure times what is counted.
        counts: int64 ``[examples]``, what each sum is over, such as tokens; above 0.
        seeds: the seeds of the first axis.
        identity: fingerprint of the examples; outcomes of another identity are on other examples.
    """

    sums: NDArray[np.float64]
    counts: Int64
    seeds: tuple[int, ...]
    identity: str

    @property
    def means(self) -> NDArray[np.float64]:
        """float64 ``[seeds]``, the mean of each seed."""
        return self.sums.sum(axis=1) / self.counts.sum()


def read_outcomes(arm: ArmFolder, measure: str, seed: int) -> Outcomes | None:
    """Read the results of an arm, or of a model beside the arms.

    Seeds that were evaluated on other examples than the first, or whose results by example are not there, are left out.

    Args:
        arm: its folder.
        measure: one of `MEASURES`.
        seed: the first seed of the run.

    Returns:
        None where the first seed was not measured, or by a version that wrote the means alone.

    Raises:
        TokensieveError: a line of the results that cannot be read.
    """
    found = {each: _read(folder, MEASURES[measure]) for each, folder in evaluated_seeds(arm, seed).items()}
    first = found.get(seed)
    if first is None:
        return None
    same = {each: one for each, one in found.items() if one is not None and one.identity == first.identity}
    sums = np.stack([one.sums for one in same.values()])
    return Outcomes(sums, first.counts, tuple(same), first.identity)


def evaluated_seeds(arm: ArmFolder, seed: int) -> dict[int, ArmFolder]:
    """Return the folders of an arm's evaluations by seed, the first seed first.

    Of the later seeds those with the data and settings of the first; empty where the first has no evaluation.
    """
    folders = {seed: arm, **arm.replicates()}
    made_from = {each: _made_from(folder) for each, folder in folders.items()}
    wanted = made_from[seed]
    return {each: folder for each, folder in folders.items() if wanted is not None and made_from[each] == wanted}


def paired_outcomes(outcomes: Outcomes | None, others: Outcomes | None) -> PairedDifference | None:
    """Return the difference of two arms in a measure, over the seeds that they share and all examples.

    Where they share no seed, the first is paired with the first, the second with the second, and so on.

    Returns:
        None where one was not measured, on other examples, or on a single example with a single seed.
    """
    if outcomes is None or others is None or outcomes.identity != others.identity:
        return None
    sums, subtracted = _paired(outcomes, others)
    return paired_difference(sums, subtracted, outcomes.counts) if sums.size > 1 else None


def recovered_gain(outcomes: Outcomes, control: Outcomes, best: Outcomes) -> Recovered | None:
    """Return what share of the gain of the best over the control an arm has, over the seeds that all three share.

    Returns:
        None on other examples, without a common seed, or where the best has no gain that is sure enough to share out.
    """
    together = (outcomes, control, best)
    common = [seed for seed in outcomes.seeds if all(seed in one.seeds for one in together)]
    if len({one.identity for one in together}) > 1 or not common:
        return None
    own, chance, all_there_is = (one.sums[[one.seeds.index(seed) for seed in common]] for one in together)
    return recovered_share(own, chance, all_there_is, outcomes.counts)


def _paired(outcomes: Outcomes, others: Outcomes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    common = [seed for seed in outcomes.seeds if seed in others.seeds]
    if common:
        places = [[one.seeds.index(seed) for seed in common] for one in (outcomes, others)]
    else:
        places = [list(range(min(len(outcomes.seeds), len(others.seeds))))] * 2
    return outcomes.sums[places[0]], others.sums[places[1]]


def _made_from(folder: ArmFolder) -> dict[str, Any] | None:
    found = folder.evaluation()
    return {key: found.get(key) for key in ("settings", "data")} if found else None


@dataclass(frozen=True, eq=False)
class _OneSeed:
    sums: NDArray[np.float64]
    counts: Int64
    identity: str


def _read(arm: ArmFolder, measure: Measure) -> _OneSeed | None:
    rows = arm.evaluation_details(measure.details)
    if not rows:
        return None
    data = (arm.evaluation().get("data") or {}).get(measure.data) if measure.data else None
    try:
        return _OneSeed(
            np.array([row[measure.sums] for row in rows], dtype=np.float64),
            np.array([row[measure.counts] if measure.counts else 1 for row in rows], dtype=np.int64),
            fingerprint.of_value([data, *([row[name] for name in measure.identity] for row in rows)]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise TokensieveError(
            f"the evaluation of '{arm.name}' cannot be read: {type(error).__name__}: {error}",
            where=str(arm.path),
            hint=arm.evaluate_again,
        ) from error
