from __future__ import annotations

import math

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method

Losses = list[float] | np.ndarray


def figures(reference: Losses, pool: Losses, labels: list[int], cu_seqlens: list[int]) -> Statistics:
    values = {("reference", "loss"): np.asarray(reference), ("pool", "loss"): np.asarray(pool)}
    return Statistics(np.array(cu_seqlens), np.array(labels), values)


def test_by_hand():
    """One token: the odds are those of its ratio alone. Two: the other one counts as far as no change is likely."""
    statistics = figures([3, 1, 2.25], [1, 1, 1], [7, -100, 7], [0, 1, 3])
    method = get_method("span-ratio", margin=0.25)
    score = method.score(statistics)
    assert score[[0, 2]].tolist() == pytest.approx([-1.75, -1.0])
    assert method.select(statistics).tolist() == [-100, -100, -100]
    assert get_method("span-ratio", margin=1.25).select(statistics).tolist() == [-100, -100, 7], "even odds are kept"

    two = figures([2, 1], [1, 1], [7, 7], [0, 2])
    first = math.e * (0.9 + 0.1) / (0.9 + 0.1)  # the second ratio is even
    second = (0.1 + 0.9 * math.e) / (0.9 + 0.1 * math.e)
    score = get_method("span-ratio", margin=0, switch=0.1).score(two)
    assert score.tolist() == pytest.approx([-math.log(first), -math.log(second)])


def test_equals_a_loop():
    generator = np.random.default_rng(0)
    reference, pool = (2 * generator.random((2, 400))).astype(np.float32)
    labels = np.where(np.arange(400) % 50 < 10, -100, 1)  # a prompt, then an answer
    cu_seqlens = list(range(0, 401, 50))
    expected = np.zeros(400)
    for start in range(0, 400, 50):
        places = range(start + 10, start + 50)
        ratio = {t: float(reference[t]) - float(pool[t]) - 0.1 for t in places}
        ahead, behind = {places[0]: 0.0}, {places[-1]: 0.0}
        for t in places[1:]:
            odds = math.exp(ratio[t - 1] + ahead[t - 1])
            ahead[t] = math.log((0.05 + 0.95 * odds) / (0.95 + 0.05 * odds))
        for t in reversed(places[:-1]):
            odds = math.exp(ratio[t + 1] + behind[t + 1])
            behind[t] = math.log((0.05 + 0.95 * odds) / (0.95 + 0.05 * odds))
        for t in places:
            expected[t] = -(ratio[t] + ahead[t] + behind[t])
    statistics = figures(reference, pool, labels.tolist(), cu_seqlens)
    found = get_method("span-ratio", margin=0.1, switch=0.05).score(statistics)
    trainable = labels != -100
    np.testing.assert_allclose(found[trainable], expected[trainable], rtol=1e-4, atol=1e-5)


def test_what_is_measured_and_when():
    method = get_method("span-ratio")
    assert method.needs == {("reference", "loss"), ("pool", "loss")}
    assert not method.online
    assert not method.weighted
    assert method.divide_by == "kept"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("switch", 0, "switch is 0, it must be a number from 1e-09 to 0.5"),
        ("switch", 0.6, "switch is 0.6, it must be a number from 1e-09 to 0.5"),
        ("margin", math.inf, "margin is inf, it must be a number"),
        ("margin", "1", "margin is '1', it must be a number"),
    ],
)
def test_out_of_range(name, value, message):
    with pytest.raises(TokensieveError, match=message):
        get_method("span-ratio", **{name: value})
