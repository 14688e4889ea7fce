"""The chain of two states against a sum over every sequence of states."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensieve.ops.spans import chain_odds


def by_enumeration(ratio: list[float], switch: float) -> list[float]:
    """Return the log odds of state 1 at each token: every sequence of states, weighed."""
    totals = np.zeros((len(ratio), 2))
    for states in itertools.product((0, 1), repeat=len(ratio)):
        weight = math.prod(math.exp(value) if state else 1.0 for value, state in zip(ratio, states, strict=True))
        for before, after in itertools.pairwise(states):
            weight *= switch if before != after else 1 - switch
        for at, state in enumerate(states):
            totals[at, state] += weight
    return (np.log(totals[:, 1]) - np.log(totals[:, 0])).tolist()


@given(
    st.lists(st.lists(st.tuples(st.floats(-4, 4, width=32), st.booleans()), max_size=9), min_size=1, max_size=5),
    st.sampled_from([0.01, 0.2, 0.5]),
)
@settings(deadline=None)
def test_equals_a_sum_over_all_sequences_of_each_run(examples, switch):
    expected: list[float] = []
    for tokens in examples:
        for trainable, run in itertools.groupby(tokens, key=lambda token: token[1]):
            values = [value for value, _ in run]
            expected += by_enumeration(values, switch) if trainable else [0.0] * len(values)
    flat = [token for tokens in examples for token in tokens]
    cu_seqlens = np.cumsum([0, *map(len, examples)])
    found = chain_odds(
        np.array([value for value, _ in flat], dtype=np.float32),
        np.array([trainable for _, trainable in flat], dtype=bool),
        cu_seqlens,
        switch,
    )
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_span_decides_together():
    ratio = np.array([-2, -2, 0.5, -2, -2, 2, 2, -0.5, 2, 2], dtype=np.float32)
    odds = chain_odds(ratio, np.ones(10, dtype=bool), np.array([0, 10]), 0.05)
    assert (odds > 0).tolist() == [False] * 5 + [True] * 5


def test_even_odds_of_change_leave_each_token_alone():
    ratio = np.array([-1, 3, 0.5], dtype=np.float32)
    np.testing.assert_allclose(chain_odds(ratio, np.ones(3, dtype=bool), np.array([0, 3]), 0.5), ratio, rtol=1e-6)


def test_extreme_ratios_and_long_answers_stay_finite():
    ratio = np.concatenate([np.full(5000, 1e30), np.full(5000, -1e30)]).astype(np.float32)
    odds = chain_odds(ratio, np.ones(10_000, dtype=bool), np.array([0, 10_000]), 1e-9)
    assert np.isfinite(odds).all()
    assert (odds[:5000] > 0).all()
    assert (odds[5000:] < 0).all()


@pytest.mark.parametrize("cu_seqlens", [[0], [0, 0], [0, 3, 3]])
def test_nothing_to_decide(cu_seqlens):
    tokens = cu_seqlens[-1]
    odds = chain_odds(np.ones(tokens, dtype=np.float32), np.zeros(tokens, dtype=bool), np.array(cu_seqlens), 0.01)
    assert odds.tolist() == [0.0] * tokens
