"""Successive halving: what is trained for how long within a budget, and which candidates go on.

After Jamieson and Talwalkar (Non-stochastic best arm identification, AISTATS 2016). Each rung trains every candidate
that is left, together with `full` and with `random` at every fraction in play, and keeps the better half. All trainings
of a rung take as many optimizer steps with the same learning-rate schedule. The steps double from rung to rung, and
each rung has one seed more. The last rung and the confirmation take the steps of the final training.

Nothing here reads or trains anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from tokensieve.errors import TokensieveError

FEWEST_STEPS = 20
"""Optimizer steps of the shortest training, where the final training has as many."""


@dataclass(frozen=True)
class Candidate:
    """A method with a fraction, or one that decides by itself how much it keeps.

    Attributes:
        method: its label.
        fraction: share of the trainable tokens that it keeps; None where the method decides.
    """

    method: str
    fraction: float | None

    @property
    def name(self) -> str:
        """One word for both."""
        return self.method if self.fraction is None else f"{self.method}-{self.fraction:g}"


@dataclass(frozen=True)
class Rung:
    """A round of trainings.

    Attributes:
        steps: optimizer steps of each training.
        seeds: training seeds of each candidate and control.
        candidates: candidates that are trained.
        fractions: numbers of kept tokens in play, at most: the fractions, and each method that decides by itself;
            `random` is trained at each.
        full: whether `full` is trained too; the ceiling has that of the confirmation.
    """

    steps: int
    seeds: int
    candidates: int
    fractions: int
    full: bool = True

    @property
    def trainings(self) -> int:
        """Models that are trained, with the controls, at most."""
        return self.seeds * (self.candidates + self.fractions + self.full)


@dataclass(frozen=True)
class Price:
    """What one training costs, in the unit of the budget: ``fixed + steps * step``.

    Attributes:
        fixed: independent of the steps, such as loading and evaluation.
        step: of each optimizer step.
    """

    fixed: float
    step: float

    def of(self, rungs: Sequence[Rung]) -> float:
        """Return the price of some rungs."""
        return sum(rung.trainings * (self.fixed + rung.steps * self.step) for rung in rungs)


ONE_A_PROBE = Price(1.0, 0.0)
"""The price where the budget is a number of trained models."""


@dataclass(frozen=True)
class SearchPlan:
    """What a search trains.

    Attributes:
        candidates: those of the first rung, in order of preference.
        rungs: the selection rounds; none where there is one candidate.
        confirmation: trains the winner, `full` and `random` with seeds of their own.
        true_mask: what the marks of the data leave, trained like the winner, to tell how much there is to gain; None
            without marks, or where the budget does not pay for it.
    """

    candidates: tuple[Candidate, ...]
    rungs: tuple[Rung, ...]
    confirmation: Rung
    true_mask: Candidate | None = None

    @property
    def ceiling(self) -> Rung | None:
        """The training of the true mask and as many random tokens, with the seeds of the confirmation."""
        if self.true_mask is None:
            return None
        return Rung(self.confirmation.steps, self.confirmation.seeds, 1, 1, full=False)

    @property
    def every_rung(self) -> tuple[Rung, ...]:
        """The rungs with the confirmation and the ceiling at the end."""
        ceiling = self.ceiling
        return (*self.rungs, self.confirmation, *([ceiling] if ceiling is not None else []))

    @property
    def trainings(self) -> int:
        """Models that are trained in all, at most."""
        return sum(rung.trainings for rung in self.every_rung)

    def selection_seeds(self, first: int) -> list[int]:
        """Return the seeds of the last rung; an earlier one takes the first of them."""
        return [_seed(first + place) for place in range(max((rung.seeds for rung in self.rungs), default=0))]

    def fresh_seeds(self, first: int) -> list[int]:
        """Return the seeds of the confirmation, none of which a rung has."""
        used = len(self.selection_seeds(first))
        return [_seed(first + used + place) for place in range(self.confirmation.seeds)]


def plan_search(
    candidates: Sequence[Candidate],
    rungs: int,
    seeds: int,
    steps: int,
    price: Price,
    budget: float,
    spelled: Callable[[float], str],
    true_mask: Candidate | None = None,
) -> SearchPlan:
    """Return what a search trains within a budget.

    A budget that does not pay for everything first shortens the trainings, down to `FEWEST_STEPS`, then leaves out
    candidates, the last ones first, and at last the true mask.

    Args:
        candidates: method and fraction, in order of preference; at least one.
        rungs: selection rounds at most.
        seeds: seeds of the confirmation.
        steps: optimizer steps of the final training.
        price: of a training, in the unit of the budget.
        budget: for all trainings.
        spelled: a price in words, for the message.
        true_mask: what the marks of the data leave; None without marks.

    Raises:
        TokensieveError: a budget that does not pay for two candidates (for one, where there is only one) and their
            confirmation.
    """
    fewest = min(steps, FEWEST_STEPS)

    def planned(count: int, longest: int, mask: Candidate | None) -> SearchPlan:
        kept = tuple(candidates[:count])
        return SearchPlan(kept, _rungs(kept, rungs, longest, fewest), Rung(longest, seeds, 1, 1), mask)

    least = min(2, len(candidates))
    masks = [None] if true_mask is None else [true_mask, None]
    for mask, count in product(masks, range(len(candidates), least - 1, -1)):
        if price.of(planned(count, fewest, mask).every_rung) <= budget:
            break
    else:
        needed = price.of(planned(least, fewest, None).every_rung)
        raise TokensieveError(
            f"a search of {least} candidate{'s' if least > 1 else ''} with their controls and a confirmation with "
            f"{seeds} seeds needs {spelled(needed)}, and the budget is {spelled(budget)}",
            where="recipe: search",
            hint=f"give at least {spelled(needed)}, or fewer search.seeds (2 at least)",
        )
    low, high = fewest, steps
    while low < high:  # the most steps that the budget pays for
        middle = (low + high + 1) // 2
        if price.of(planned(count, middle, mask).every_rung) <= budget:
            low = middle
        else:
            high = middle - 1
    return planned(count, low, mask)


def survivors(values: Mapping[Candidate, float], lower_is_better: bool) -> tuple[Candidate, ...]:
    """Return the better half of the candidates, rounded up, the best first; of equal ones the earlier is better."""
    order = sorted(values, key=lambda one: values[one] if lower_is_better else -values[one])
    return tuple(order[: math.ceil(len(order) / 2)])


def _rungs(candidates: Sequence[Candidate], most: int, steps: int, fewest: int) -> tuple[Rung, ...]:
    """Return the rungs: as many as leave one candidate, at most ``most``."""
    fields = list(_halved(len(candidates)))[:most]
    fractions = len({one.method if one.fraction is None else one.fraction for one in candidates})
    return tuple(
        Rung(max(fewest, steps >> (len(fields) - 1 - place)), place + 1, count, min(fractions, count))
        for place, count in enumerate(fields)
    )


def _halved(candidates: int) -> Iterator[int]:
    while candidates > 1:
        yield candidates
        candidates = math.ceil(candidates / 2)


def _seed(number: int) -> int:
    return number % 2**32
