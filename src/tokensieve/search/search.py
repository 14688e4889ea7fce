"""The search itself: rungs, then the confirmation, over whatever trains and evaluates the candidates.

The held-out examples are parted by a hash of their content (`confirms`). The rungs see one half. The winner is judged
on the other half, with seeds that no rung has, against `full` and against `random` at the same fraction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Bool, Int64
from tokensieve.data.repeats import UInt64
from tokensieve.evaluate.differences import (
    LEVEL,
    PairedDifference,
    Recovered,
    holm,
    paired_difference,
    recovered_share,
)
from tokensieve.search.halving import Candidate, Rung, SearchPlan, survivors

FEWEST_ROWS = 40
"""Different held-out rows that a search needs: half of them to choose by, half to confirm."""


@dataclass(frozen=True, eq=False)
class Probe:
    """The results of a candidate and its controls, in the unit of the measure times what is counted.

    Attributes:
        own: float64 ``[seeds, examples]``, of the candidate.
        full: of training on everything, likewise.
        random: of as many random tokens, likewise.
        counts: int64 ``[examples]``, what each result is over, such as tokens; above 0.
    """

    own: NDArray[np.float64]
    full: NDArray[np.float64]
    random: NDArray[np.float64]
    counts: Int64

    def on(self, examples: Bool) -> Probe:
        """Return the results on some of the examples."""
        own, full, random = (one[:, examples] for one in (self.own, self.full, self.random))
        return Probe(own, full, random, self.counts[examples])


class Prober(Protocol):
    """Trains a candidate with its controls, and evaluates them on all held-out examples."""

    def __call__(self, label: str, candidate: Candidate, steps: int, seeds: Sequence[int], /) -> Probe:
        """Return the results; ``label`` names the rung."""
        ...


@dataclass(frozen=True)
class Entry:
    """A line of the table: the means of a candidate and its controls over seeds and examples.

    Attributes:
        stage: ``rung 1``, ``rung 2``, ..., ``confirmation`` or ``ceiling``.
        candidate: method and fraction.
        steps: optimizer steps of each training.
        seeds: of the trainings.
        own: the mean of the candidate.
        full: of training on everything.
        random: of as many random tokens.
    """

    stage: str
    candidate: Candidate
    steps: int
    seeds: tuple[int, ...]
    own: float
    full: float
    random: float


@dataclass(frozen=True)
class Confirmation:
    """How the winner compares on held-out examples and with seeds that no rung saw.

    Attributes:
        against_full: the winner minus `full`.
        against_random: the winner minus as many random tokens.
        p_values: of both differences, adjusted for two comparisons (Holm).
        pays: whether both differences have the right sign and an adjusted p-value below 5 %.
    """

    against_full: PairedDifference
    against_random: PairedDifference
    p_values: tuple[float, float]
    pays: bool

    @property
    def detectable(self) -> float:
        """The smallest true difference from either control that the confirmation finds in 80 % of repetitions."""
        return max(self.against_full.detectable, self.against_random.detectable)


@dataclass(frozen=True)
class Ceiling:
    """How much there is to gain: the true mask on the rows and with the seeds of the confirmation.

    Attributes:
        against_full: the true mask minus `full`.
        against_random: the true mask minus as many random tokens.
        opened: whether the true mask is better than as many random tokens, with the whole 95 % interval.
        recovered: the share of what the true mask gains over the winner's random control that the winner has; None
            where the ceiling is not open, or no winner was confirmed.
    """

    against_full: PairedDifference
    against_random: PairedDifference
    opened: bool
    recovered: Recovered | None


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        entries: the table, in the order of the trainings.
        winner: the best candidate of the last rung.
        confirmation: of the winner; None where it was not better than both controls in the last rung, so that nothing
            was left to confirm.
        ceiling: of the data; None without marks.
    """

    entries: tuple[Entry, ...]
    winner: Candidate
    confirmation: Confirmation | None
    ceiling: Ceiling | None = None

    @property
    def recommended(self) -> Candidate | None:
        """What to train on; None for everything."""
        return self.winner if self.confirmation is not None and self.confirmation.pays else None


def confirms(hashes: UInt64) -> Bool:
    """Return bool ``[examples]``, which examples confirm the winner; the rungs see the others.

    Args:
        hashes: uint64 ``[examples]``, of the content of each; equal examples are on the same side.
    """
    different = np.unique(hashes)
    return hashes >= different[len(different) // 2]


def run_search(
    plan: SearchPlan,
    first_seed: int,
    confirming: Bool,
    lower_is_better: bool,
    probe: Prober,
    on_entry: Callable[[Entry], None],
) -> SearchResult:
    """Train and evaluate what a plan says, and decide.

    Args:
        plan: what is trained.
        first_seed: the seeds count from it.
        confirming: bool ``[examples]``, of `confirms`.
        lower_is_better: of the measure.
        probe: trains and evaluates.
        on_entry: told each line of the table.
    """
    entries: list[Entry] = []

    def tried(label: str, candidate: Candidate, rung: Rung, seeds: Sequence[int], examples: Bool) -> Probe:
        seen = probe(label, candidate, rung.steps, seeds).on(examples)
        means = (float(arm.sum(axis=1).mean() / seen.counts.sum()) for arm in (seen.own, seen.full, seen.random))
        entries.append(Entry(label, candidate, rung.steps, tuple(seeds), *means))
        on_entry(entries[-1])
        return seen

    field, seeds = plan.candidates, plan.selection_seeds(first_seed)
    here: dict[Candidate, Entry] = {}
    for number, rung in enumerate(plan.rungs, 1):
        label = f"rung {number}"
        for candidate in field:
            tried(label, candidate, rung, seeds[: rung.seeds], ~confirming)
        here = {one.candidate: one for one in entries if one.stage == label}
        field = survivors({candidate: here[candidate].own for candidate in field}, lower_is_better)
    winner, fresh = field[0], plan.fresh_seeds(first_seed)
    seen = None
    if not plan.rungs or _promising(here[winner], lower_is_better):
        seen = tried("confirmation", winner, plan.confirmation, fresh, confirming)
    ceiling = None
    if plan.true_mask is not None and plan.ceiling is not None:
        mask = tried("ceiling", plan.true_mask, plan.ceiling, fresh, confirming)
        ceiling = judge_ceiling(mask, seen, lower_is_better)
    confirmation = confirm(seen, lower_is_better) if seen is not None else None
    return SearchResult(tuple(entries), winner, confirmation, ceiling)


def confirm(probe: Probe, lower_is_better: bool) -> Confirmation:
    """Judge a winner by results that nothing was chosen by; two seeds and two examples at least."""
    differences = [paired_difference(probe.own, control, probe.counts) for control in (probe.full, probe.random)]
    first, second = holm([one.p for one in differences])
    better = all(one.value < 0 if lower_is_better else one.value > 0 for one in differences)
    return Confirmation(differences[0], differences[1], (first, second), better and max(first, second) < LEVEL)


def judge_ceiling(mask: Probe, winner: Probe | None, lower_is_better: bool) -> Ceiling:
    """Judge the true mask, and what of its gain a winner has.

    The ceiling is open where the true mask beats random tokens of its own number, since fewer tokens alone can cost.
    The winner's share is of the way from its own random control to the true mask, so that 1 is as good as that.

    Args:
        mask: the true mask and its controls; two seeds and two examples at least.
        winner: what was confirmed, on the same examples and with the same seeds; None where nothing was.
        lower_is_better: of the measure.
    """
    against_full, against_random = (paired_difference(mask.own, one, mask.counts) for one in (mask.full, mask.random))
    opened = against_random.high < 0 if lower_is_better else against_random.low > 0
    recovered = recovered_share(winner.own, winner.random, mask.own, mask.counts) if winner and opened else None
    return Ceiling(against_full, against_random, opened, recovered)


def _promising(entry: Entry, lower_is_better: bool) -> bool:
    """Whether a candidate was better than both of its controls."""
    best = min(entry.full, entry.random) if lower_is_better else max(entry.full, entry.random)
    return entry.own < best if lower_is_better else entry.own > best
