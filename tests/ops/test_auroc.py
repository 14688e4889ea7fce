from __future__ import annotations

import numpy as np
import pytest

from tokensieve.ops.auroc import auroc


def test_ties_count_half():
    assert auroc([1, 2], [2, 3]) == (2 + 1.5) / 4
    assert auroc([5, 5], [5]) == 0.5


def test_many_scores_in_float32_are_counted_exactly():
    generator = np.random.default_rng(0)
    low, high = generator.normal(0, 1, 3000).astype("f4"), generator.normal(1, 1, 40_000).astype("f4")
    pairs = sum(int((high > value).sum()) + int((high == value).sum()) / 2 for value in low)
    assert auroc(low, high) == pytest.approx(pairs / (3000 * 40_000), abs=1e-12)
