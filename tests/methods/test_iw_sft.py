from __future__ import annotations

import math

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method

LABELS = [-100, 1, 2, 3, -100, 4]
RATIO = [9.0, 1.0, 1.5, 0.5, 9.0, 4.0]  # p now, over p under the base


def figures(gain, labels, lengths=(4, 2)) -> Statistics:
    base = np.full(len(labels), 3.0, dtype=np.float32)
    values = {("base", "loss"): base, ("current", "loss"): (base - np.asarray(gain)).astype(np.float32)}
    return Statistics(np.concatenate([[0], np.cumsum(lengths)]), np.array(labels), values)


def by_hand() -> Statistics:
    return figures(np.log(RATIO), LABELS)


def weights(statistics, **parameters):
    method = get_method("iw-sft", **parameters)
    assert method.select(statistics).tolist() == statistics.labels.tolist()
    return method.weights(statistics, statistics.trainable, 0.5)


def test_by_hand():
    assert weights(by_hand()).tolist() == pytest.approx([0, 1, 1.5, 0.5, 0, 1.8])
    assert weights(by_hand(), low=0.6, high=1.2).tolist() == pytest.approx([0, 1, 1.2, 0.6, 0, 1.2])


def test_one_weight_for_each_example():
    found = weights(by_hand(), per="example", low=0, high=16)
    mean = (1.0 * 1.5 * 0.5) ** (1 / 3)
    assert found.tolist() == pytest.approx([0, mean, mean, mean, 0, 4])


def test_before_the_first_step_it_is_plain_fine_tuning():
    statistics = figures(np.zeros(6), LABELS)
    for per in ("token", "example"):
        assert weights(statistics, per=per).tolist() == [0, 1, 1, 1, 0, 1]


@pytest.mark.parametrize("per", ["token", "example"])
def test_equals_a_loop(per):
    generator = np.random.default_rng(0)
    gain, labels = 2 * generator.standard_normal(90), np.where(generator.random(90) < 0.6, 1, -100)
    gain[5] = 500  # of which the ratio is beyond float32
    statistics = figures(gain, labels, (40, 0, 49, 1))
    found = get_method("iw-sft", per=per).score(statistics)
    assert found.dtype == np.float32
    for a, b in ((0, 40), (40, 89), (89, 90)):
        trained = [t for t in range(a, b) if labels[t] != -100]
        for t in trained:
            of = [t] if per == "token" else trained
            change = sum(
                float(statistics.values["base", "loss"][i]) - float(statistics.values["current", "loss"][i]) for i in of
            )
            assert found[t] == pytest.approx(min(max(math.exp(change / len(of)), 0.2), 1.8), rel=1e-4)


def test_what_is_measured_and_when():
    method = get_method("iw-sft")
    assert method.needs == {("base", "loss"), ("current", "loss")}
    assert method.online
    assert method.weighted


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("low", value) for value in (-0.1, 1.1, math.nan, True, None)),
        *(("high", value) for value in (0.9, math.inf, math.nan, True, "2")),
        ("per", "row"),
    ],
)
def test_out_of_range(parameter, value):
    with pytest.raises(TokensieveError, match=parameter):
        get_method("iw-sft", **{parameter: value})
