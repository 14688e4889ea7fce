"""The arithmetic of `benchmarks/quality/span_ratio.py`: the odds of noise, its means, and which half measures which."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

CU_SEQLENS = np.array([0, 0, 5, 6, 13])
TRAINABLE = np.array([0, 1, 1, 0, 1, 0, 1, 1, 0, 1, 1, 1, 0], dtype=bool)


@pytest.fixture(scope="module")
def span_ratio(load_benchmark) -> ModuleType:
    for name in ("pools", "real_runs", "recovered"):  # what it imports
        load_benchmark(name)
    return load_benchmark("span_ratio")


def odds_by_all_paths(ratio: list[float], switch: float) -> list[float]:
    """Return the log odds of noise at each token, from the probability of every sequence of states."""
    sums = np.zeros((len(ratio), 2))
    for path in itertools.product((0, 1), repeat=len(ratio)):
        changes = sum(one != other for one, other in itertools.pairwise(path))
        prior = switch**changes * (1 - switch) ** (len(path) - 1 - changes)
        likelihood = math.exp(sum(value for value, state in zip(ratio, path, strict=True) if state))
        for at, state in enumerate(path):
            sums[at, state] += prior * likelihood
    return np.log(sums[:, 1] / sums[:, 0]).tolist()


@pytest.mark.parametrize("switch", [0.01, 0.3, 0.5])
def test_odds_are_those_of_all_paths(span_ratio, switch):
    ratio = np.random.default_rng(0).normal(size=13) * 2
    expected = np.zeros(13)
    for start, stop in itertools.pairwise(CU_SEQLENS):
        places = [at for at in range(start, stop) if TRAINABLE[at]]
        expected[places] = odds_by_all_paths(ratio[places].tolist(), switch) if places else []
    np.testing.assert_allclose(span_ratio.noise_odds(ratio, TRAINABLE, CU_SEQLENS, switch), expected, atol=1e-10)


def test_a_chain_that_changes_as_often_as_not_says_what_each_token_says(span_ratio):
    ratio = np.where(TRAINABLE, np.linspace(-3, 3, 13), 0)
    np.testing.assert_allclose(span_ratio.noise_odds(ratio, TRAINABLE, CU_SEQLENS, 0.5), ratio, atol=1e-12)


def test_odds_join_a_span_over_one_token_that_disagrees(span_ratio):
    ratio = np.array([2.0, 2, 2, -1, 2, 2, 2, -2, -2, -2, 1, -2, -2, -2])
    odds = span_ratio.noise_odds(ratio, np.ones(14, dtype=bool), np.array([0, 14]), 0.01)
    assert (odds > 0).tolist() == [True] * 7 + [False] * 7


@pytest.mark.parametrize("extreme", [-2000.0, 2000.0])
def test_odds_of_extreme_ratios_are_finite(span_ratio, extreme):
    odds = span_ratio.noise_odds(np.full(50, extreme), np.ones(50, dtype=bool), np.array([0, 50]), 0.01)
    assert np.isfinite(odds).all()
    assert (np.sign(odds) == np.sign(extreme)).all()


@pytest.mark.parametrize("side", [0, 1, 2, 20])
def test_means_equal_a_loop(span_ratio, side):
    values = np.random.default_rng(0).normal(size=13)
    expected = np.zeros(13)
    for start, stop in itertools.pairwise(CU_SEQLENS):
        places = [at for at in range(start, stop) if TRAINABLE[at]]
        for number, at in enumerate(places):
            expected[at] = np.mean(values[places[max(0, number - side) : number + side + 1]])
    np.testing.assert_allclose(span_ratio.smoothed(values, TRAINABLE, CU_SEQLENS, side), expected, atol=1e-12)


def test_each_half_is_measured_by_a_model_of_the_other(span_ratio, tmp_path, monkeypatch):
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(f"{number}\n" for number in range(5)))
    trained_on = []

    def losses(data: Path, base: Path, rows: Path, output: Path) -> dict[str, np.ndarray]:
        del base, output
        trained_on.append(rows.read_text().split())
        return {"reference": np.array(data.read_text().split(), dtype=np.float64)}

    monkeypatch.setattr(span_ratio, "losses", losses)
    assert span_ratio.cross_fitted(pool, tmp_path, tmp_path / "run").tolist() == [0, 1, 2, 3, 4]
    assert trained_on == [["2", "3", "4"], ["0", "1"]]
