"""The rungs and the confirmation, over results that are made up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.search.halving import ONE_A_PROBE, Candidate, plan_search
from tokensieve.search.search import Probe, confirm, confirms, judge_ceiling, run_search

CANDIDATES = [Candidate(method, fraction) for fraction in (0.5, 0.7) for method in ("a", "b", "c")]
BEST = CANDIDATES[4]
PLAN = plan_search(CANDIDATES, 3, 4, 80, ONE_A_PROBE, math.inf, str)
ROWS = 60
CONFIRMING = confirms(np.random.default_rng(0).integers(0, 2**63, ROWS).astype(np.uint64))


class Made:
    """Results with a given gain over the controls, and the trainings that were asked for."""

    def __init__(self, gains=None, *, fresh=None, sign=-1, noise=0.02):
        self.gains, self.fresh, self.sign, self.noise = gains or {}, fresh, sign, noise
        self.asked = []

    def __call__(self, label, candidate, steps, seeds, /):
        self.asked.append((label, candidate, steps, tuple(seeds)))
        confirming = label in ("confirmation", "ceiling")
        gain = self.fresh if label == "confirmation" and self.fresh is not None else self.gains.get(candidate, -0.1)
        generator = np.random.default_rng([len(self.asked), *seeds])
        counts = np.arange(1, ROWS + 1)
        own, full, random = 3 + self.noise * generator.normal(size=(3, len(seeds), ROWS))
        own = own + self.sign * gain
        # Whatever looks at rows that it must not see gets no number.
        unseen = ~CONFIRMING if confirming else CONFIRMING
        for arm in (own, full, random):
            arm[:, unseen] = np.nan
        return Probe(own * counts, full * counts, random * counts, counts)


def search(made, lower_is_better=True, plan=PLAN):
    shown = []
    found = run_search(plan, 0, CONFIRMING, lower_is_better, made, shown.append)
    assert tuple(shown) == found.entries
    return found


@pytest.mark.parametrize("lower_is_better", [True, False])
def test_the_best_candidate_is_found_and_confirmed_on_rows_and_seeds_of_its_own(lower_is_better):
    made = Made({BEST: 0.2}, sign=-1 if lower_is_better else 1)
    found = search(made, lower_is_better)
    assert found.winner == found.recommended == BEST
    assert not any(math.isnan(value) for entry in found.entries for value in (entry.own, entry.full, entry.random))
    by_label = {}
    for label, candidate, steps, seeds in made.asked:
        by_label.setdefault((label, steps, seeds), []).append(candidate)
    assert [(label, steps, seeds, len(field)) for (label, steps, seeds), field in by_label.items()] == [
        ("rung 1", 20, (0,), 6),
        ("rung 2", 40, (0, 1), 3),
        ("rung 3", 80, (0, 1, 2), 2),
        ("confirmation", 80, (3, 4, 5, 6), 1),
    ]
    assert found.confirmation is not None
    assert found.confirmation.against_full.value == pytest.approx(-0.2 if lower_is_better else 0.2, abs=0.01)


def test_a_table_has_the_means_of_the_rows_that_it_sees():
    made = Made({BEST: 0.2})
    entry = search(made).entries[0]
    again = Made({BEST: 0.2})(*made.asked[0])
    naive = [again.own[0, row] for row in range(ROWS) if not CONFIRMING[row]]
    counts = [again.counts[row] for row in range(ROWS) if not CONFIRMING[row]]
    assert entry.own == pytest.approx(sum(naive) / sum(counts))


MASK = Candidate("marked", 0.8)
MARKED = plan_search(CANDIDATES, 3, 4, 80, ONE_A_PROBE, math.inf, str, MASK)


@pytest.mark.parametrize("lower_is_better", [True, False])
def test_a_winner_is_told_what_share_of_the_true_masks_gain_it_has(lower_is_better):
    made = Made({BEST: 0.1, MASK: 0.4}, fresh=None, sign=-1 if lower_is_better else 1)
    found = search(made, lower_is_better, MARKED)
    assert made.asked[-2:] == [("confirmation", BEST, 80, (3, 4, 5, 6)), ("ceiling", MASK, 80, (3, 4, 5, 6))]
    assert found.recommended == BEST
    ceiling = found.ceiling
    assert ceiling is not None
    assert ceiling.opened
    assert abs(ceiling.against_random.value) == pytest.approx(0.4, abs=0.01)
    assert abs(ceiling.against_full.value) == pytest.approx(0.4, abs=0.01)
    assert ceiling.recovered is not None
    assert ceiling.recovered.value == pytest.approx(0.25, abs=0.03)
    assert ceiling.recovered.low < 0.25 < ceiling.recovered.high


def test_the_share_is_of_the_way_from_the_winners_own_control_to_the_true_mask():
    ones = np.ones(ROWS, dtype=np.int64)

    def of(own, random):
        generator = np.random.default_rng(1)
        noise = 0.01 * generator.normal(size=(3, 4, ROWS))
        return Probe(own + noise[0], 3 + noise[1], random + noise[2], ones)

    found = judge_ceiling(of(2.6, 2.9), of(2.8, 3.2), True)
    assert found.recovered is not None
    assert found.recovered.value == pytest.approx((3.2 - 2.8) / (3.2 - 2.6), abs=0.02)
    assert judge_ceiling(of(2.6, 2.9), None, True).recovered is None


def test_a_true_mask_that_is_no_better_than_random_says_that_nothing_can_pay():
    ceiling = search(Made({BEST: 0.2, MASK: 0.0}), plan=MARKED).ceiling
    assert ceiling is not None
    assert not ceiling.opened
    assert ceiling.recovered is None


def test_the_ceiling_is_trained_where_nothing_is_confirmed_too():
    made = Made({MASK: 0.2})
    found = search(made, plan=MARKED)
    assert found.confirmation is None
    assert found.ceiling is not None
    assert found.ceiling.opened
    assert [label for label, *_ in made.asked if not label.startswith("rung")] == ["ceiling"]


def test_what_was_lucky_is_not_confirmed():
    found = search(Made({BEST: 0.2}, fresh=0.0))
    assert found.winner == BEST
    assert found.confirmation is not None
    assert found.recommended is None


def test_what_is_worse_on_fresh_rows_is_not_recommended_however_sure_that_is():
    found = search(Made({BEST: 0.2}, fresh=-0.5))
    assert found.confirmation is not None
    assert max(found.confirmation.p_values) < 0.01
    assert found.recommended is None


def test_where_nothing_beats_both_controls_nothing_is_confirmed():
    made = Made()
    found = search(made)
    assert found.confirmation is None
    assert found.recommended is None
    assert all(label != "confirmation" for label, *_ in made.asked)


@pytest.mark.parametrize(("gains", "pays"), [((0.2, 0.2), True), ((0.2, 0.0), False), ((0.0, 0.2), False)])
def test_both_controls_must_be_beaten(gains, pays):
    generator = np.random.default_rng(1)
    own, full, random = 3 + 0.02 * generator.normal(size=(3, 4, ROWS))
    probe = Probe(own, full + gains[0], random + gains[1], np.ones(ROWS, dtype=np.int64))
    found = confirm(probe, lower_is_better=True)
    assert found.pays is pays
    assert found.detectable == max(found.against_full.detectable, found.against_random.detectable)
    assert found.p_values[0] >= found.against_full.p, "adjusted for two comparisons"


@given(st.lists(st.integers(0, 30), min_size=2, max_size=60))
def test_rows_are_parted_by_content_and_about_in_halves(values):
    hashes = np.array(values, dtype=np.uint64)
    found = confirms(hashes)
    assert len({(value, side) for value, side in zip(values, found.tolist(), strict=True)}) == len(set(values))
    order = np.random.default_rng(0).permutation(len(hashes))
    assert np.array_equal(confirms(hashes[order]), found[order]), "the order of rows does not matter"
    sides = [len({value for value, side in zip(values, found, strict=True) if side == which}) for which in (0, 1)]
    assert sides[1] - sides[0] in (0, 1)
