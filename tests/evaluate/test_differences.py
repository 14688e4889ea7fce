"""Paired differences against scipy, plain loops and simulations with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, t, ttest_1samp

from tokensieve.errors import TokensieveError
from tokensieve.evaluate.differences import Recovered, detectable_effect, holm, paired_difference, recovered_share


def data(seeds: int, examples: int, shift: float = 0.0, seed_effect: float = 0.0, start: int = 0):
    generator = np.random.default_rng(start)
    counts = generator.integers(5, 60, examples)
    others = generator.exponential(2.0, (seeds, examples)) * counts
    noise = generator.normal(0, 0.5, (seeds, examples)) + generator.normal(0, seed_effect, (seeds, 1))
    return others + (noise + shift) * counts, others, counts


def test_one_seed_is_as_the_percentile_bootstrap_of_scipy():
    sums, others, counts = data(1, 300)
    found = paired_difference(sums, others, counts)

    def ratio(deltas, counts, axis=-1):
        return deltas.sum(axis=axis) / counts.sum(axis=axis)

    wanted = bootstrap(
        ((sums - others)[0], counts),
        ratio,
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    assert found.value == pytest.approx((sums - others).sum() / counts.sum())
    low, high = wanted.confidence_interval
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05 * (high - low))
    assert found.detectable == pytest.approx(2.8016 * wanted.standard_error, rel=0.05)


def test_equals_a_loop_over_resampled_seeds_and_examples():
    sums, others, counts = data(4, 60, seed_effect=0.2)
    generator, draws = np.random.default_rng(2), []
    deltas = sums - others
    mean = deltas.mean(axis=0)
    for _ in range(4000):
        seeds, examples = generator.integers(0, 4, 4), generator.integers(0, 60, 60)
        total = sum(mean[e] + (deltas[s, e] - mean[e]) * (4 / 3) ** 0.5 for s in seeds for e in examples)
        draws.append(total / 4 / counts[examples].sum())
    found = paired_difference(sums, others, counts)
    value = deltas.sum() / 4 / counts.sum()
    by_seed = np.var([row.sum() / counts.sum() for row in deltas], ddof=1) / 4
    by_example = 60 / 59 * sum((m - value * c) ** 2 for m, c in zip(mean, counts, strict=True)) / counts.sum() ** 2
    freedom = (by_seed + by_example) ** 2 / (by_seed**2 / 3 + by_example**2 / 59)
    half = t.ppf(0.975, freedom) * np.std(draws)
    low, high = value - half, value + half
    assert 3 < freedom < 10
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.06 * (high - low))


def test_seeds_that_differ_widen_the_interval():
    sums, others, counts = data(5, 200, seed_effect=0.5)
    together = paired_difference(sums, others, counts)
    blind = paired_difference(sums.mean(axis=0, keepdims=True), others.mean(axis=0, keepdims=True), counts)
    assert together.value == pytest.approx(blind.value)
    assert together.high - together.low > 3 * (blind.high - blind.low)


def test_a_difference_of_nothing_is_called_real_in_five_percent_of_cases():
    wrong = sum(paired_difference(*data(1, 80, start=start)).p < 0.05 for start in range(300))
    assert wrong / 300 == pytest.approx(0.05, abs=0.04)


@pytest.mark.parametrize("seeds", [2, 3])
def test_few_seeds_that_differ_far_more_than_examples_cover_no_difference(seeds):
    found = [paired_difference(*data(seeds, 40, seed_effect=1.0, start=start)) for start in range(200)]
    covered = sum(one.low <= 0 <= one.high for one in found) / 200
    assert covered == sum(one.p >= 0.05 for one in found) / 200
    assert covered >= 0.85, "with the quantiles of the resamples, 0.74 of two seeds"


def test_an_effect_of_the_detectable_size_is_found_in_most_cases():
    detectable = np.mean([paired_difference(*data(1, 80, start=start)).detectable for start in range(20)])
    found = sum(paired_difference(*data(1, 80, float(detectable), start=start)).p < 0.05 for start in range(200))
    assert found / 200 == pytest.approx(0.8, abs=0.1)


def test_equal_results_are_no_difference():
    sums, _, counts = data(2, 30)
    found = paired_difference(sums, sums, counts)
    assert (found.value, found.low, found.high, found.p, found.detectable) == (0, 0, 0, 1, 0)


def test_one_example_of_several_seeds_is_a_t_test():
    deltas = np.array([[0.3], [0.5], [0.1], [0.6]])
    found = paired_difference(deltas, np.zeros_like(deltas), np.array([1]))
    wanted = ttest_1samp(deltas[:, 0], 0)
    interval = wanted.confidence_interval()
    assert found.p == pytest.approx(wanted.pvalue, rel=0.1)  # pyright: ignore[reportAttributeAccessIssue]
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.03)


@pytest.mark.parametrize(("right", "p"), [(2, 0.5), (5, 0.0625), (6, 0.03125)])
def test_few_answers_that_all_became_right_are_no_surer_than_a_sign_test(right, p):
    deltas = np.zeros((1, 6))
    deltas[0, :right] = 1.0
    found = paired_difference(deltas, np.zeros_like(deltas), np.ones(6, dtype=np.int64))
    assert found.p >= p * 0.999
    assert (found.low <= 0 <= found.high) == (found.p >= 0.05)
    assert found.low < found.value < found.high


def test_answers_that_became_right_with_every_seed_count_once():
    found = paired_difference(np.ones((3, 2)), np.zeros((3, 2)), np.ones(2, dtype=np.int64))
    assert found.p == pytest.approx(0.25)
    assert found.low < 0 < found.high


def test_what_more_examples_cannot_lower_is_the_share_of_the_seeds():
    assert paired_difference(*data(1, 80)).seed_variance == 0
    assert paired_difference(*data(3, 80, seed_effect=3.0)).seed_variance > 0.9
    assert paired_difference(*data(3, 80)).seed_variance < 0.5


def test_results_over_other_examples_are_refused():
    sums, others, counts = data(2, 30)
    with pytest.raises(TokensieveError, match="cannot be paired"):
        paired_difference(sums, others[:1], counts)
    with pytest.raises(TokensieveError, match="cannot be paired"):
        paired_difference(sums, others, counts[:-1])
    with pytest.raises(TokensieveError, match="cannot be paired"):
        paired_difference(sums[:1, :1], others[:1, :1], counts[:1])


def test_detectable_effect_of_a_standard_error():
    assert detectable_effect(0.01) == pytest.approx(0.0280, abs=1e-4)


def test_holm_equals_the_textbook_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_a_loop(values: list[float]):
    adjusted = holm(values)
    for number, value in enumerate(values):
        smaller = [one for place, one in enumerate(values) if (one, place) <= (value, number)]
        ranked = sorted(smaller)
        wanted = max(one * (len(values) - rank) for rank, one in enumerate(ranked))
        assert adjusted[number] == pytest.approx(min(1.0, wanted))


@given(st.integers(1, 4), st.integers(2, 9), st.integers(0, 100))
def test_the_recovered_share_is_that_of_the_mean_gains(seeds, examples, seed):
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, 9, examples)
    control = 4 * counts + generator.normal(size=(seeds, examples)) / 10
    best = control - 2 * counts
    model = control - counts * generator.uniform(-1, 2)
    found = recovered_share(model, control, best, counts)
    assert found is not None
    expected = (control.sum() - model.sum()) / (control.sum() - best.sum())
    assert found.value == pytest.approx(expected)
    assert found.low <= found.value + 1e-9
    assert found.high >= found.value - 1e-9
    assert recovered_share(best, control, best, counts) == Recovered(1.0, 1.0, 1.0)
    nothing = recovered_share(control, control, best, counts)
    assert nothing is not None
    assert nothing.value == 0


def test_the_interval_of_the_recovered_share_covers_it():
    """A model that has half of the gain of each example, and noise: nineteen intervals of twenty hold one half."""
    generator, covered = np.random.default_rng(0), 0
    for _ in range(200):
        control = 3 + generator.normal(size=(1, 100)) / 2
        best, model = control - generator.normal(1, 0.3, 100), control - generator.normal(0.5, 0.3, 100)
        found = recovered_share(model, control, best, np.ones(100, dtype=np.int64))
        assert found is not None
        covered += found.low <= 0.5 <= found.high
    assert 0.9 < covered / 200 < 0.99


@pytest.mark.parametrize("gain", [0.0, 0.03], ids=["none", "none in some resamples"])
def test_a_gain_that_is_unsure_is_not_shared_out(gain):
    control = np.random.default_rng(0).integers(0, 2, (1, 20)).astype(float)
    best = control.copy()
    if gain:
        best[0, :1] -= 1
    assert recovered_share(control, control, best, np.ones(20, dtype=np.int64)) is None
