from __future__ import annotations

import math

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method

LABELS = [-100, 1, 2, 3, -100, 5]


def figures(loss, labels) -> Statistics:
    return Statistics(np.array([0, len(labels)]), np.array(labels), {("current", "loss"): np.asarray(loss)})


def by_hand() -> Statistics:
    return figures([-math.log(p) for p in (1, 0.5, 0.09, 0.11, 0.01, 0.01)], LABELS)


def test_by_hand():
    method = get_method("profit")
    assert method.score(by_hand()).tolist() == pytest.approx([1, 0.5, 0.09, 0.11, 0.01, 0.01])
    assert method.select(by_hand()).tolist() == [-100, 1, -100, 3, -100, -100]
    assert get_method("profit", probability=0.2).select(by_hand()).tolist() == [-100, 1, -100, -100, -100, -100]
    assert get_method("profit", probability=0).select(by_hand()).tolist() == LABELS


def test_equals_a_loop():
    generator = np.random.default_rng(0)
    loss = (5 * generator.random(300)).astype(np.float32)
    labels = np.where(generator.random(300) < 0.6, 1, -100)
    expected = [1 if labels[t] != -100 and math.exp(-float(loss[t])) >= 0.3 else -100 for t in range(300)]
    assert get_method("profit", probability=0.3).select(figures(loss, labels)).tolist() == expected


def test_the_loss_is_averaged_over_what_is_kept():
    method = get_method("profit")
    assert method.divide_by == "kept"
    assert not method.weighted
    kept = np.array([False, True, False, True, False, False])
    assert method.weights(by_hand(), kept, 0.5).tolist() == [0, 1, 0, 1, 0, 0]


def test_what_is_measured_and_when():
    assert get_method("profit").needs == {("current", "loss")}
    assert get_method("profit").online


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, True, "0.1", None])
def test_out_of_range(value):
    with pytest.raises(TokensieveError, match=r"probability is .*, it must be a number from 0 to 1"):
        get_method("profit", probability=value)
