"""The complete procedure over recorded trainings: `benchmarks/quality/false_recommendations.py`, its quick version."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="module")
def benchmark(load_benchmark):
    return load_benchmark("false_recommendations")


def test_no_arm_of_the_world_has_an_effect_but_rows_and_seeds_differ(benchmark):
    world = benchmark.load_world()
    for differences in world.differences.values():
        assert differences.mean(axis=0).sum() / world.tokens.sum() == pytest.approx(0, abs=1e-6)
        by_seed = differences.sum(axis=1) / world.tokens.sum()
        assert by_seed.std(ddof=1) > 0.003
        assert (differences.mean(axis=0) / world.tokens).std() > 0.01


def test_a_selection_that_does_not_pay_is_recommended_in_fewer_than_5_percent_of_200_searches(benchmark):
    world = benchmark.load_world()
    found = [benchmark.search(benchmark.Trial(world, seed, 200)) for seed in range(200)]
    assert sum(one.recommended is not None for one in found) < 0.05 * 200
    assert sum(one.confirmation is not None for one in found) > 50, "the confirmation is what keeps it there"


def test_twice_the_detectable_effect_is_found(benchmark):
    world = benchmark.load_world()
    planted = benchmark.Candidate("entropy", 0.7)
    gain = {planted: 2 * benchmark.detectable(world, 200, trials=5)}
    found = [benchmark.search(benchmark.Trial(world, seed, 200, gain)).recommended for seed in range(20)]
    assert np.mean([one == planted for one in found]) >= 0.8
