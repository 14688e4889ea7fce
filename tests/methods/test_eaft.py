from __future__ import annotations

import math

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method

LABELS = [-100, 1, 2, -100, 4]
SHARES = [1.0, 0.5, 0.0, 0.25, 1.0]


def by_hand() -> Statistics:
    entropy = np.array([math.log(20) * share for share in SHARES], dtype=np.float32)
    return Statistics(np.array([0, 3, 5]), np.array(LABELS), {("current", "entropy_top20"): entropy})


@pytest.mark.parametrize(
    ("alpha", "expected"), [(1.0, [0, 0.5, 0, 0, 1]), (2, [0, 0.25, 0, 0, 1]), (0, [0, 1, 1, 0, 1])]
)
def test_by_hand(alpha, expected):
    method, statistics = get_method("eaft", alpha=alpha), by_hand()
    assert method.weights(statistics, statistics.trainable, 0.5).tolist() == pytest.approx(expected)
    assert method.select(statistics).tolist() == LABELS


def test_dropped_tokens_weigh_nothing():
    kept = np.array([False, True, False, False, False])
    assert get_method("eaft").weights(by_hand(), kept, 0.5).tolist() == pytest.approx([0, 0.5, 0, 0, 0])


def test_equals_a_loop_and_lies_between_0_and_1():
    generator = np.random.default_rng(0)
    entropy = (3.1 * generator.random(100)).astype(np.float32)  # a little above ln 20 = 2.996, as rounding may be
    statistics = Statistics(np.array([0, 100]), np.ones(100, dtype=np.int64), {("current", "entropy_top20"): entropy})
    expected = [min(1.0, float(h) / math.log(20)) ** 1.5 for h in entropy]
    score = get_method("eaft", alpha=1.5).score(statistics)
    np.testing.assert_allclose(score, expected, rtol=1e-5)
    assert score.max() == 1
    assert score.dtype == np.float32


def test_what_is_measured_and_when():
    method = get_method("eaft")
    assert method.needs == {("current", "entropy_top20")}
    assert method.online
    assert method.weighted


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, True, "1", None])
def test_out_of_range(value):
    with pytest.raises(TokensieveError, match=r"alpha is .*, it must be a number of at least 0"):
        get_method("eaft", alpha=value)
