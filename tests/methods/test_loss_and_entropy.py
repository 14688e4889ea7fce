from __future__ import annotations

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.methods import get_method


@pytest.mark.parametrize("name", ["loss", "entropy"])
@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [1, 3]),  # int(4 * 0.6) = 2
        ({"keep": "bottom"}, [2, 4]),
        ({"keep": "bottom", "rounding": "ceil"}, [1, 2, 4]),
        ({"fraction": 0.3}, [3]),
        ({"fraction": 1.0}, [1, 2, 3, 4]),
    ],
)
def test_by_hand(name, options, kept):
    values = {("base", name): np.array([9.0, 2.0, 0.5, 3.0, 0.0], dtype=np.float32)}
    statistics = Statistics(np.array([0, 5]), np.array([-100, 1, 2, 3, 4]), values)
    method = get_method(name, **options)
    assert method.needs == {("base", name)}
    assert np.flatnonzero(method.select(statistics) != -100).tolist() == kept


@pytest.mark.parametrize("name", ["loss", "entropy"])
def test_of_equal_figures_the_earlier_ones_are_kept_at_both_ends(name):
    statistics = Statistics(np.array([0, 4]), np.arange(4), {("base", name): np.ones(4, dtype=np.float32)})
    for keep in ("top", "bottom"):
        assert get_method(name, fraction=0.5, keep=keep).select(statistics).tolist() == [0, 1, -100, -100]
