from __future__ import annotations

import math

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import all_methods, get_method


def test_its_weights_are_those_of_dft():
    loss = np.array([0, 0.5, 3, 1], dtype=np.float32)
    statistics = Statistics(np.array([0, 4]), np.array([-100, 1, 2, -100]), {("current", "loss"): loss})
    weights = get_method("asft").weights(statistics, statistics.trainable, 0.5)
    assert weights.tolist() == pytest.approx([0, math.exp(-0.5), math.exp(-3), 0])
    assert np.array_equal(weights, get_method("dft").weights(statistics, statistics.trainable, 0.5))


def test_what_it_adds_to_the_loss():
    assert get_method("asft").anchor == 0.05
    assert get_method("asft", strength=0.5).anchor == 0.5
    assert [name for name, cls in all_methods().items() if cls().anchor] == ["asft"]


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan, True, None])
def test_out_of_range(value):
    with pytest.raises(TokensieveError, match="strength"):
        get_method("asft", strength=value)
