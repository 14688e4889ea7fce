"""What a search trains within a budget, and which candidates go on."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.errors import TokensieveError
from tokensieve.search.halving import FEWEST_STEPS, ONE_A_PROBE, Candidate, Price, plan_search, survivors

CANDIDATES = [Candidate(method, fraction) for fraction in (0.5, 0.7, 0.3) for method in ("a", "b", "c", "d")]


def plan(count: int = 12, *, rungs: int = 3, steps: int = 100, price: Price = ONE_A_PROBE, budget: float = math.inf):
    return plan_search(CANDIDATES[:count], rungs, 3, steps, price, budget, lambda value: f"{value:g} units")


def test_steps_double_the_field_halves_and_seeds_are_added():
    found = plan()
    assert [(one.steps, one.candidates, one.seeds, one.fractions) for one in found.every_rung] == [
        (25, 12, 1, 3),
        (50, 6, 2, 3),
        (100, 3, 3, 3),
        (100, 1, 3, 1),
    ]
    assert found.trainings == 16 + 2 * 10 + 3 * 7 + 3 * 3


def test_the_true_mask_counts_and_is_the_last_to_be_left_out():
    mask = Candidate("marked", 0.8)

    def within(budget):
        return plan_search(CANDIDATES[:4], 3, 3, 100, ONE_A_PROBE, budget, str, mask)

    most = within(math.inf)
    assert most.ceiling is not None
    assert (most.ceiling.steps, most.ceiling.seeds, most.ceiling.trainings) == (100, 3, 6)
    assert most.trainings == plan(4).trainings + 6
    least = plan(2).trainings
    assert [len(within(budget).candidates) for budget in (most.trainings, most.trainings - 1, least + 6)] == [4, 3, 2]
    assert within(least + 6).true_mask == mask
    assert within(least + 5).true_mask is None
    assert within(least).trainings == least
    with pytest.raises(TokensieveError, match=f"needs {least}"):
        within(least - 1)


def test_one_candidate_is_confirmed_at_once_and_two_need_one_rung():
    assert plan(1).rungs == ()
    assert [one.candidates for one in plan(2).rungs] == [2]
    assert [one.candidates for one in plan(5, rungs=9).rungs] == [5, 3, 2]


def test_the_confirmation_has_seeds_of_its_own():
    found = plan()
    assert found.selection_seeds(7) == [7, 8, 9]
    assert found.fresh_seeds(7) == [10, 11, 12]
    assert found.fresh_seeds(2**32 - 1) == [2, 3, 4], "seeds have 32 bits"


@given(
    count=st.integers(1, 12),
    rungs=st.integers(1, 5),
    steps=st.integers(1, 400),
    fixed=st.floats(0.1, 9),
    step=st.floats(0, 2),
    budget=st.floats(1, 1e5),
)
def test_a_plan_is_the_largest_that_the_budget_pays_for(count, rungs, steps, fixed, step, budget):
    price = Price(fixed, step)
    try:
        found = plan(count, rungs=rungs, steps=steps, price=price, budget=budget)
    except TokensieveError:
        least = plan(min(count, 2), rungs=rungs, steps=min(steps, FEWEST_STEPS), price=price)
        assert price.of(least.every_rung) > budget
        return
    kept, longest = len(found.candidates), found.confirmation.steps
    assert price.of(found.every_rung) <= budget
    assert found.candidates == tuple(CANDIDATES[:kept])
    assert min(steps, FEWEST_STEPS) <= min(one.steps for one in found.every_rung)
    assert all(two.steps <= 2 * one.steps + 1 for one, two in zip(found.rungs, found.every_rung[1:], strict=True))
    if longest < steps:
        longer = plan_search(CANDIDATES[:kept], rungs, 3, longest + 1, price, math.inf, str)
        assert price.of(longer.every_rung) > budget
    if kept < count:
        more = plan(kept + 1, rungs=rungs, steps=min(steps, FEWEST_STEPS), price=price)
        assert price.of(more.every_rung) > budget, "trainings are shortened before candidates are left out"


def test_a_budget_that_does_not_pay_says_what_would():
    with pytest.raises(TokensieveError, match=r"2 candidates .* needs 13 units, and the budget is 12 units") as error:
        plan(budget=12)
    assert "at least 13 units" in str(error.value)
    assert len(plan(budget=13).candidates) == 2


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_the_better_half_goes_on(values):
    field = dict(zip(CANDIDATES, map(float, values), strict=False))
    kept = survivors(field, lower_is_better=True)
    assert len(kept) == math.ceil(len(field) / 2)
    dropped = [field[one] for one in field if one not in kept]
    assert all(field[one] <= value for one in kept for value in dropped)
    assert [field[one] for one in kept] == sorted(field[one] for one in kept)
    assert survivors({one: -value for one, value in field.items()}, lower_is_better=False) == kept
