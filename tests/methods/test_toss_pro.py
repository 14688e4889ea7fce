from __future__ import annotations

import math

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.ops.rules import DropFraction


def test_scores_and_drops_as_toss_does():
    values = {
        ("utility", "loss"): np.array([0, 3, 1, 1], dtype=np.float32),
        ("unsafe", "loss"): np.array([0, 1, 1, 4], dtype=np.float32),
    }
    statistics = Statistics(np.array([0, 4]), np.array([-100, 1, 2, 3]), values)
    method = get_method("toss-pro", discard=0.5)
    assert method.score(statistics).tolist() == [0, -2, 0, 3]
    assert method.select(statistics).tolist() == [-100, -100, 2, 3]
    assert get_method("toss-pro").rule == DropFraction(0.1, "dataset", "floor")
    assert method.divide_by == "trainable"
    assert not method.online


@pytest.mark.parametrize("parameter", ["rounds", "added"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3", math.inf])
def test_out_of_range(parameter, value):
    with pytest.raises(TokensieveError, match=f"{parameter} is .*, it must be a whole number of at least 1"):
        get_method("toss-pro", **{parameter: value})


def test_what_toss_refuses_is_refused():
    with pytest.raises(TokensieveError, match="discard"):
        get_method("toss-pro", discard=0)
