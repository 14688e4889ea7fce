from __future__ import annotations

import math

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.ops.rules import DropFraction

LABELS = [-100, 11, 12, -100, 14, 15, 16]
UTILITY = [0.0, 2.0, 1.0, 0.0, 3.0, 0.5, 1.0]
UNSAFE = [0.0, 1.5, 1.25, 0.0, 0.5, 0.0, 2.0]  # risk: 0.5, -0.25 and 2.5, 0.5, -1


def figures(utility, unsafe, labels, cu_seqlens, **changes) -> Statistics:
    values = {("utility", "loss"): np.asarray(utility), ("unsafe", "loss"): np.asarray(unsafe)}
    return Statistics(np.asarray(cu_seqlens), np.asarray(labels), values, **changes)


def by_hand(**changes) -> Statistics:
    return figures(UTILITY, UNSAFE, LABELS, [0, 3, 7], **changes)


def test_by_hand():
    method = get_method("toss", discard=0.4)
    assert method.score(by_hand()).tolist() == [0.0, -0.5, 0.25, 0.0, -2.5, -0.5, 1.0]
    # int(5 * 0.4) = 2 dropped: risk 2.5, and the earlier one of the two with 0.5
    assert method.select(by_hand()).tolist() == [-100, -100, 12, -100, -100, 15, 16]
    assert get_method("toss").select(by_hand()).tolist() == LABELS  # int(5 * 0.1) = 0
    assert get_method("toss", rounding="ceil").select(by_hand()).tolist() == [-100, 11, 12, -100, -100, 15, 16]


def test_turn_ends_are_not_dropped():
    turn_end = np.array([False, False, False, False, True, False, False])
    assert get_method("toss", discard=0.4).select(by_hand(turn_end=turn_end)).tolist() == [
        -100, -100, 12, -100, 14, -100, 16,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["toss", "toss-pro"])
def test_equals_a_loop_over_random_figures(name):
    generator = np.random.default_rng(0)
    labels = np.where(generator.random(500) < 0.6, 1, -100)
    utility, unsafe = (np.float32(0.125) * generator.integers(0, 40, 500).astype(np.float32) for _ in range(2))  # ties
    statistics = figures(utility, unsafe, labels, [0, 200, 500])
    risk = {t: float(utility[t]) - float(unsafe[t]) for t in range(500) if labels[t] != -100}
    dropped = sorted(risk, key=lambda t: (-risk[t], t))[: int(len(risk) * 0.15)]
    expected = [1 if t in risk and t not in dropped else -100 for t in range(500)]
    assert get_method(name, discard=0.15).select(statistics).tolist() == expected


def test_defaults_are_those_of_the_paper():
    method = get_method("toss")
    assert method.rule == DropFraction(0.1, "dataset", "floor")
    assert method.needs == {("utility", "loss"), ("unsafe", "loss")}
    assert not method.online
    assert method.divide_by == "trainable"
    assert not method.weighted


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("discard", value) for value in (0, -0.1, 1.1, math.nan, True, "0.1")),
        ("scope", "sample"),
        ("rounding", "up"),
    ],
)
def test_out_of_range(parameter, value):
    with pytest.raises(TokensieveError, match=parameter):
        get_method("toss", **{parameter: value})
