from __future__ import annotations

import math

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method

LABELS = [-100, 1, 2, 3, -100, 5]


def figures(loss, labels) -> Statistics:
    return Statistics(np.array([0, len(labels)]), np.array(labels), {("base", "loss"): np.asarray(loss)})


def by_hand() -> Statistics:
    return figures([math.log(perplexity) for perplexity in (1, 1, 2.4, 2.6, 9, 2.5)], LABELS)


def test_by_hand():
    method = get_method("stm")
    assert method.score(by_hand()).tolist() == pytest.approx([-math.log(p) for p in (1, 1, 2.4, 2.6, 9, 2.5)])
    assert method.select(by_hand()).tolist() == [-100, 1, 2, -100, -100, 5]  # 2.5 itself is kept
    assert get_method("stm", perplexity=2).select(by_hand()).tolist() == [-100, 1, -100, -100, -100, -100]
    assert get_method("stm", perplexity=1).select(by_hand()).tolist() == [-100, 1, -100, -100, -100, -100]
    assert get_method("stm", perplexity=1e300).select(by_hand()).tolist() == LABELS


def test_equals_a_loop():
    generator = np.random.default_rng(0)
    loss = (2 * generator.random(300)).astype(np.float32)
    labels = np.where(generator.random(300) < 0.6, 1, -100)
    expected = [1 if labels[t] != -100 and math.exp(float(loss[t])) <= 3 else -100 for t in range(300)]
    assert get_method("stm", perplexity=3).select(figures(loss, labels)).tolist() == expected


def test_what_is_measured_and_when():
    method = get_method("stm")
    assert method.needs == {("base", "loss")}
    assert not method.online
    assert not method.weighted
    assert method.divide_by == "kept"


@pytest.mark.parametrize("value", [0.99, 0, -1, math.nan, math.inf, True, "2.5", None])
def test_out_of_range(value):
    with pytest.raises(TokensieveError, match=r"perplexity is .*, it must be a number of at least 1"):
        get_method("stm", perplexity=value)
