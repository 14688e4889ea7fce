from __future__ import annotations

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method

LABELS = [-100, 11, 12, 13, -100, 15, 16, 17, 18]
BASE = [0.0, 2.0, 1.0, 5.0, 0.0, 0.5, 1.0, 0.25, 0.75]
REFERENCE = [0.0, 1.5, 0.25, 1.0, 0.0, 0.5, 2.0, 0.0, 1.0]


def by_hand(role="base") -> Statistics:
    values = {(role, "loss"): np.array(BASE), ("reference", "loss"): np.array(REFERENCE)}
    return Statistics(np.array([0, 4, 9]), np.array(LABELS), values)


def test_by_hand():
    method = get_method("rho-1")
    assert method.score(by_hand()).tolist() == [0.0, 0.5, 0.75, 4.0, 0.0, 0.0, -1.0, 0.25, -0.25]
    # int(3 * 0.6) = 1 of the first example, int(4 * 0.6) = 2 of the second
    assert method.select(by_hand()).tolist() == [-100, -100, -100, 13, -100, 15, -100, 17, -100]


def test_the_whole_data_set_as_one_ranking_is_another_choice():
    # int(7 * 0.6) = 4: excess 4.0, 0.75, 0.5, 0.25
    kept = get_method("rho-1", scope="dataset").select(by_hand())
    assert kept.tolist() == [-100, 11, 12, 13, -100, -100, -100, 17, -100]


def test_the_model_in_training_can_stand_for_itself():
    method = get_method("rho-1", current="current", scope="batch")
    assert method.needs == {("current", "loss"), ("reference", "loss")}
    assert np.array_equal(method.score(by_hand("current")), get_method("rho-1").score(by_hand()))


def test_equals_a_loop_over_random_figures():
    generator = np.random.default_rng(0)
    labels = np.where(generator.random(300) < 0.6, 1, -100)
    current, reference = (
        np.float32(0.125) * generator.integers(0, 40, 300).astype(np.float32) for _ in range(2)
    )  # ties
    values = {("current", "loss"): current, ("reference", "loss"): reference}
    statistics = Statistics(np.array([0, 100, 300]), labels, values)
    excess = {t: float(current[t]) - float(reference[t]) for t in range(300) if labels[t] != -100}
    kept = sorted(excess, key=lambda t: (-excess[t], t))[: int(len(excess) * 0.7)]
    selected = get_method("rho-1", current="current", scope="batch", fraction=0.7).select(statistics)
    assert np.flatnonzero(selected != -100).tolist() == sorted(kept)


def test_selects_online_only_with_the_model_in_training():
    assert not get_method("rho-1").online
    assert get_method("rho-1", current="current").online
    assert not get_method("rho-1").weighted
    assert get_method("rho-1").divide_by == "kept"


def test_out_of_range():
    with pytest.raises(TokensieveError, match="current is 'reference', it must be one of base, current"):
        get_method("rho-1", current="reference")
