from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from tokensieve.evaluate.intervals import bootstrap_ratio, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # (8 + z^2/2 -+ z sqrt(8 * 2 / 10 + z^2/4)) / (10 + z^2) with z^2 = 3.841459
        (8, 10, 0.490162, 0.943318),
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_by_hand(successes, trials, low, high):
    found = wilson(successes, trials)
    assert found == pytest.approx((low, high), abs=1e-6)
    assert 0.0 <= found[0] <= found[1] <= 1.0
    assert successes > 0 or found[0] == 0.0


def test_bootstrap_contains_the_ratio_and_shrinks_with_examples():
    generator = np.random.default_rng(0)
    counts = generator.integers(1, 50, 4000)
    sums = counts * 2.0 + generator.normal(0, 3, 4000) * np.sqrt(counts)
    widths = []
    for examples in (40, 4000):
        low, high = bootstrap_ratio(sums[:examples], counts[:examples])
        assert low < sums[:examples].sum() / counts[:examples].sum() < high
        widths.append(high - low)
    # Ten times narrower for a hundred times the examples, within the noise of forty examples.
    assert widths[0] / widths[1] == pytest.approx(10, rel=0.4)


def test_bootstrap_weighs_examples_by_their_tokens():
    # One token of loss 10 among 999 of loss 1: the mean of examples' means would be 5.5.
    low, high = bootstrap_ratio(np.array([10.0, 999.0]), np.array([1, 999]))
    assert low == 1.0
    assert high == 10.0


def test_bootstrap_of_one_example_is_its_ratio():
    assert bootstrap_ratio(np.array([6.0]), np.array([4])) == (1.5, 1.5)


def test_bootstrap_is_seeded():
    sums, counts = np.array([1.0, 5.0, 2.0]), np.array([2, 3, 4])
    assert bootstrap_ratio(sums, counts) == bootstrap_ratio(sums, counts)


def test_bootstrap_is_the_plain_loop():
    generator = np.random.default_rng(3)
    sums, counts = generator.gamma(2, 10, 50), generator.integers(1, 200, 50)
    drawn = np.random.default_rng(7)
    ratios = []
    for _ in range(1000):
        picked = drawn.integers(0, 50, 50)
        ratios.append(sums[picked].sum() / counts[picked].sum())
    assert bootstrap_ratio(sums, counts, seed=7) == pytest.approx(np.quantile(ratios, [0.025, 0.975]), rel=1e-9)


def test_bootstrap_holds_few_resamples_at_once():
    sums, counts = np.ones(300_000), np.ones(300_000, dtype=np.int64)
    tracemalloc.start()
    bootstrap_ratio(sums, counts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
