from __future__ import annotations

import math

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.ops.rules import TopFraction


def test_scores_and_keeps_a_subset_as_token_cleaning_does():
    values = {
        ("base", "loss"): np.array([0, 3, 1, 1, 2, 5], dtype=np.float32),
        ("reference", "loss"): np.array([0, 1, 1, 4, 1.5, 1], dtype=np.float32),
    }
    statistics = Statistics(np.array([0, 4, 6]), np.array([-100, 1, 2, 3, 4, 5]), values)
    method = get_method("self-evolving")
    assert method.score(statistics).tolist() == [0, 2, 0, -3, 0.5, 4]
    # int(5 * 0.6) = 3: excess 4, 2 and 0.5
    assert method.select(statistics).tolist() == [-100, 1, -100, -100, 4, 5]


def test_defaults_are_those_of_the_paper():
    method = get_method("self-evolving")
    assert method.rule == TopFraction(0.6, "dataset", "floor")
    assert method.needs == {("base", "loss"), ("reference", "loss")}
    assert vars(method)["subsets"] == 5
    assert method.divide_by == "kept"


@pytest.mark.parametrize("value", [1, 0, -2, 2.0, True, "5", math.inf])
def test_out_of_range(value):
    with pytest.raises(TokensieveError, match=r"subsets is .*, it must be a whole number of at least 2"):
        get_method("self-evolving", subsets=value)


def test_what_token_cleaning_refuses_is_refused():
    with pytest.raises(TokensieveError, match="fraction"):
        get_method("self-evolving", fraction=0)
