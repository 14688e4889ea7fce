from __future__ import annotations

import numpy as np

from tokensieve.containers import Statistics
from tokensieve.methods import get_method
from tokensieve.ops.rules import TopFraction

LABELS = [-100, 11, 12, -100, 14, 15, 16]
BASE = [0.0, 2.0, 1.0, 0.0, 3.0, 0.5, 1.0]
REFERENCE = [0.0, 1.5, 1.25, 0.0, 0.5, 0.5, 2.0]


def by_hand(**changes) -> Statistics:
    values = {("base", "loss"): np.array(BASE), ("reference", "loss"): np.array(REFERENCE)}
    return Statistics(np.array([0, 3, 7]), np.array(LABELS), values, **changes)


def test_by_hand():
    method = get_method("token-cleaning")
    assert method.score(by_hand()).tolist() == [0.0, 0.5, -0.25, 0.0, 2.5, 0.0, -1.0]
    # 5 trainable tokens, int(5 * 0.6) = 3 kept: excess 2.5, 0.5 and 0.0
    assert method.select(by_hand()).tolist() == [-100, 11, -100, -100, 14, 15, -100]


def test_turn_ends_are_kept_within_the_fraction():
    turn_end = np.array([False, False, True, False, False, False, True])
    assert get_method("token-cleaning").select(by_hand(turn_end=turn_end)).tolist() == [
        -100, -100, 12, -100, 14, -100, 16,
    ]  # fmt: skip


def test_equals_a_loop_over_random_figures():
    generator = np.random.default_rng(0)
    labels = np.where(generator.random(500) < 0.6, 1, -100)
    base, reference = (np.float32(0.125) * generator.integers(0, 40, 500).astype(np.float32) for _ in range(2))  # ties
    statistics = Statistics(np.array([0, 200, 500]), labels, {("base", "loss"): base, ("reference", "loss"): reference})
    excess = {t: float(base[t]) - float(reference[t]) for t in range(500) if labels[t] != -100}
    kept = sorted(excess, key=lambda t: (-excess[t], t))[: int(len(excess) * 0.3)]
    expected = [1 if t in kept else -100 for t in range(500)]
    assert get_method("token-cleaning", fraction=0.3).select(statistics).tolist() == expected


def test_defaults_are_those_of_the_paper():
    method = get_method("token-cleaning")
    assert method.rule == TopFraction(0.6, "dataset", "floor")
    assert method.needs == {("base", "loss"), ("reference", "loss")}
