from __future__ import annotations

import math

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.methods import get_method

PROBABILITY = [1.0, 0.5, 0.125, 1.0, 0.25]
LABELS = [-100, 1, 2, -100, 4]


def by_hand() -> Statistics:
    loss = np.array([0 if p == 1 else -math.log(p) for p in PROBABILITY], dtype=np.float32)
    return Statistics(np.array([0, 3, 5]), np.array(LABELS), {("current", "loss"): loss})


def test_by_hand():
    method, statistics = get_method("dft"), by_hand()
    assert method.score(statistics).tolist() == pytest.approx(PROBABILITY)
    assert method.select(statistics).tolist() == LABELS
    weights = method.weights(statistics, statistics.trainable, 0.5)
    assert weights.tolist() == pytest.approx([0, 0.5, 0.125, 0, 0.25])
    assert weights.sum() == pytest.approx(0.875)


def test_dropped_tokens_weigh_nothing():
    kept = np.array([False, False, True, False, True])
    assert get_method("dft").weights(by_hand(), kept, 0.5).tolist() == pytest.approx([0, 0, 0.125, 0, 0.25])


def test_equals_a_loop_and_does_not_change_with_progress():
    generator = np.random.default_rng(0)
    loss = (10 * generator.random(100)).astype(np.float32)
    labels = np.where(generator.random(100) < 0.6, 1, -100)
    statistics = Statistics(np.array([0, 100]), labels, {("current", "loss"): loss})
    expected = [math.exp(-float(loss[t])) if labels[t] != -100 else 0 for t in range(100)]
    first, last = (get_method("dft").weights(statistics, statistics.trainable, p) for p in (0.0, 1.0))
    np.testing.assert_allclose(first, expected, rtol=1e-5)
    assert np.array_equal(first, last)


def test_what_is_measured_and_when():
    method = get_method("dft")
    assert method.needs == {("current", "loss")}
    assert method.online
    assert method.weighted
    assert method.divide_by == "kept"
