from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from tokensieve.containers import Statistics, segments
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.ops.ragged import offsets

LABELS = [-100, 11, 12, 13, 14, -100, 16, 17]
LOSS = [9.0, 1.0, 2.0, 3.0, 4.0, 9.0, 1.0, 2.0]
ENTROPY = [9.0, 2.0, 4.0, 1.0, 3.0, 9.0, 5.0, 3.0]


def figures(loss, entropy, labels, cu_seqlens) -> Statistics:
    values = {("reference", "loss"): np.asarray(loss), ("reference", "entropy"): np.asarray(entropy)}
    return Statistics(np.asarray(cu_seqlens), np.asarray(labels), values)


def by_hand() -> Statistics:
    return figures(LOSS, ENTROPY, LABELS, [0, 5, 8])


def test_by_hand():
    # ranks by loss 1 2 3 4 and 1 2, by entropy 2 4 1 3 and 2 1: the worse one, as a share
    assert get_method("rho-1-self").score(by_hand()).tolist() == [0, -0.5, -1, -0.75, -1, 0, -1, -1]
    assert get_method("rho-1-self", fraction=0.5).select(by_hand()).tolist() == [
        -100, 11, -100, -100, -100, -100, -100, -100,
    ]  # fmt: skip
    assert get_method("rho-1-self", fraction=0.75).select(by_hand()).tolist() == [
        -100, 11, -100, 13, -100, -100, -100, -100,
    ]  # fmt: skip
    assert get_method("rho-1-self", fraction=1.0).select(by_hand()).tolist() == LABELS


@pytest.mark.parametrize("fraction", [0.1, 0.29, 0.3, 0.6, 0.7, 1.0])
def test_is_the_intersection_of_two_top_fractions(fraction):
    generator = np.random.default_rng(0)
    cu_seqlens = offsets([40, 0, 1, 130, 29])
    labels = np.where(generator.random(200) < 0.8, 1, -100)
    loss, entropy = (generator.integers(0, 30, 200).astype(np.float32) for _ in range(2))  # ties
    kept = []
    for span in segments(cu_seqlens):
        positions = [t for t in range(200)[span] if labels[t] != -100]
        count = math.floor(len(positions) * Fraction(str(fraction)))
        best = [set(sorted(positions, key=lambda t, by=by: (by[t], t))[:count]) for by in (loss, entropy)]
        kept += best[0] & best[1]
    selected = get_method("rho-1-self", fraction=fraction).select(figures(loss, entropy, labels, cu_seqlens))
    assert np.flatnonzero(selected != -100).tolist() == sorted(kept)


def test_what_is_measured_and_when():
    method = get_method("rho-1-self")
    assert method.needs == {("reference", "loss"), ("reference", "entropy")}
    assert not method.online
    assert method.divide_by == "kept"


@pytest.mark.parametrize("value", [0, -0.1, 1.1, math.nan, True, "0.5", None])
def test_out_of_range(value):
    with pytest.raises(TokensieveError, match="fraction"):
        get_method("rho-1-self", fraction=value)
