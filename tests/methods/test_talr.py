from __future__ import annotations

import math

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method

LABELS = [-100, 1, 2, -100, 4, 5]
LOSS = [99.0, 1.0, 2.0, 0.0, 3.0, 40.0]  # median of the trainable ones: 2.5


def figures(loss, labels) -> Statistics:
    return Statistics(np.array([0, len(labels)]), np.array(labels), {("current", "loss"): np.asarray(loss)})


def test_by_hand():
    method, statistics = get_method("talr"), figures(LOSS, LABELS)
    expected = [0, math.exp(-0.4), math.exp(-0.8), 0, math.exp(-1.2), 0.01]  # the floor
    assert method.weights(statistics, statistics.trainable, 0.5).tolist() == pytest.approx(expected)
    assert method.select(statistics).tolist() == LABELS


def test_a_given_tau_and_floor():
    statistics = figures(LOSS, LABELS)
    weights = get_method("talr", tau=1.0, floor=0.1).weights(statistics, statistics.trainable, 0.5)
    assert weights.tolist() == pytest.approx([0, math.exp(-1), math.exp(-2), 0, 0.1, 0.1])


def test_dropped_tokens_weigh_nothing():
    kept = np.array([False, True, False, False, False, False])
    weights = get_method("talr", tau=1.0).weights(figures(LOSS, LABELS), kept, 0.5)
    assert weights.tolist() == pytest.approx([0, math.exp(-1), 0, 0, 0, 0])


def test_equals_a_loop():
    generator = np.random.default_rng(0)
    loss = (10 * generator.random(101)).astype(np.float32)
    labels = np.where(generator.random(101) < 0.6, 1, -100)
    trained = sorted(float(loss[t]) for t in range(101) if labels[t] != -100)
    middle = len(trained) // 2
    tau = trained[middle] if len(trained) % 2 else (trained[middle - 1] + trained[middle]) / 2
    score = get_method("talr").score(figures(loss, labels))
    for t in range(101):
        assert score[t] == pytest.approx(max(math.exp(-float(loss[t])) ** (1 / tau), 0.01), rel=1e-4)


def test_fit_takes_the_median_of_all_shards():
    one, other = figures([0, 1, 8, 9], [-100, 1, 2, 3]), figures([7, 2, 3], [-100, 1, 2])
    method = get_method("talr").fit(lambda: [one, other])
    assert method == get_method("talr", tau=3.0)  # 1, 2, 3, 8, 9; the shards' own medians are 8 and 2.5
    together = figures([0, 1, 8, 9, 7, 2, 3], [-100, 1, 2, 3, -100, 1, 2])
    scores = np.concatenate([method.score(one), method.score(other)])
    assert np.array_equal(scores, get_method("talr").score(together))


def test_fit_leaves_a_given_tau_and_needs_data():
    given = get_method("talr", tau=0.5)
    assert given.fit(lambda: [figures(LOSS, LABELS)]) is given
    assert get_method("talr").fit(lambda: []) == get_method("talr")
    assert get_method("talr").fit(lambda: [figures([1.0], [-100])]) == get_method("talr", tau=1.0)


def test_a_median_of_nothing_weighs_hard_tokens_with_the_floor():
    assert get_method("talr").score(figures([0, 0, 0, 2], [1, 1, 1, 1])).tolist() == pytest.approx([1, 1, 1, 0.01])


def test_what_is_measured_and_when():
    method = get_method("talr")
    assert method.needs == {("current", "loss")}
    assert method.online
    assert method.weighted


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("floor", value) for value in (-0.1, 1.1, math.nan, True, "0.1", None)),
        *(("tau", value) for value in (0, -1, math.nan, math.inf, True, "1")),
    ],
)
def test_out_of_range(parameter, value):
    with pytest.raises(TokensieveError, match=parameter):
        get_method("talr", **{parameter: value})
