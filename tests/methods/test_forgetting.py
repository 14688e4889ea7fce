from __future__ import annotations

import math

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.ops.rules import TopFraction

LABELS = [-100, 11, 12, -100, 14, 15, 16]
BASE = [0.0, 2.0, 1.0, 0.0, 3.0, 0.5, 1.0]
REFERENCE = [0.0, 1.5, 1.25, 0.0, 0.5, 0.5, 2.0]


def by_hand() -> Statistics:
    values = {("base", "loss"): np.array(BASE), ("reference", "loss"): np.array(REFERENCE)}
    return Statistics(np.array([0, 3, 7]), np.array(LABELS), values)


@pytest.mark.parametrize(
    ("strength", "progress", "dropped"),
    [(0.25, 0.0, 0.0), (0.25, 0.5, -0.125), (0.25, 1.0, -0.25), (1, 1.0, -1.0), (0, 1.0, 0.0)],
)
def test_what_is_dropped_weighs_less_than_nothing(strength, progress, dropped):
    method, statistics = get_method("forgetting", strength=strength), by_hand()
    labels = method.select(statistics)
    # int(5 * 0.7) = 3 kept: excess 2.5, 0.5 and 0.0
    assert labels.tolist() == [-100, 11, -100, -100, 14, 15, -100]
    weights = method.weights(statistics, labels != -100, progress)
    assert weights.dtype == np.float32
    assert weights.tolist() == [0, 1, dropped, 0, 1, 1, dropped]
    assert weights.sum() == 3 + 2 * dropped


def test_the_weight_falls_linearly():
    method, statistics = get_method("forgetting"), by_hand()
    kept = method.select(statistics) != -100
    weights = [float(method.weights(statistics, kept, progress)[2]) for progress in np.linspace(0, 1, 9).tolist()]
    np.testing.assert_allclose(np.diff(weights), -0.25 / 8, rtol=1e-6)


def test_scores_are_those_of_token_cleaning():
    assert np.array_equal(get_method("forgetting").score(by_hand()), get_method("token-cleaning").score(by_hand()))


def test_defaults_are_those_of_the_paper():
    method = get_method("forgetting")
    assert method.rule == TopFraction(0.7, "dataset", "floor")
    assert vars(method)["strength"] == 0.25
    assert method.weighted
    assert not method.online
    assert method.divide_by == "kept"


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, True, "0.25", None])
def test_out_of_range(value):
    with pytest.raises(TokensieveError, match=r"strength is .*, it must be a number of at least 0"):
        get_method("forgetting", strength=value)
