from __future__ import annotations

import math

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.ops.ragged import offsets

LENGTHS = [3, 2, 0, 4, 2]
LABELS = [-100, 11, 12, -100, 14, -100, 16, -100, 18, -100, 20]


def by_hand(norms, diversities, lengths=LENGTHS, labels=LABELS) -> Statistics:
    """Put the figures of each example at each of its tokens."""
    values = {
        ("current", "nuclear_norm"): np.repeat(np.float32(norms), lengths),
        ("current", "diversity"): np.repeat(np.float32(diversities), lengths),
    }
    return Statistics(offsets(lengths), np.array(labels), values)


def test_by_hand():
    statistics = by_hand([1, 5, 9, 3, 4], [0, 0, 0, 4, 1])
    method = get_method("uds", examples=2, alpha=0.5)
    scores = [1, 5, 9, 5, 4.5]
    assert method.score(statistics).tolist() == np.repeat(scores, LENGTHS).tolist()
    # the second and the fourth example have 5; the third has no token
    assert method.select(statistics).tolist() == [-100, -100, -100, -100, 14, -100, 16, -100, 18, -100, -100]
    one = get_method("uds", examples=1, alpha=0.5).select(statistics)  # a tie: the earlier example
    assert np.flatnonzero(one != -100).tolist() == [4]


@pytest.mark.parametrize("examples", [1, 3, 6])
def test_equals_a_loop(examples):
    generator = np.random.default_rng(examples)
    lengths = generator.integers(1, 6, 10).tolist()
    norms, diversities = generator.random(10).astype(np.float32), 100 * generator.random(10).astype(np.float32)
    labels = np.where(generator.random(sum(lengths)) < 0.7, 1, -100)
    statistics = by_hand(norms, diversities, lengths, labels)
    spans = [range(*pair) for pair in zip(statistics.cu_seqlens[:-1], statistics.cu_seqlens[1:], strict=True)]
    usable = [n for n in range(10) if any(labels[t] != -100 for t in spans[n])]
    best = sorted(usable, key=lambda n: -(float(norms[n]) + 2.5e-3 * float(diversities[n])))[:examples]
    expected = [labels[t] if n in best else -100 for n in range(10) for t in spans[n]]
    assert get_method("uds", examples=examples).select(statistics).tolist() == expected


def test_a_batch_that_has_no_more_is_kept():
    assert get_method("uds", examples=5).select(by_hand([1, 2, 3, 4, 5], [0] * 5)).tolist() == LABELS


def test_what_is_measured_and_when():
    method = get_method("uds", buffer=9, seed=3, mode="official")
    assert method.needs == {("current", "nuclear_norm"), ("current", "diversity")}
    assert method.options("diversity") == {"mode": "official", "buffer": 9, "seed": 3}
    assert method.options("nuclear_norm") == {"mode": "official"}
    assert method.online
    assert not method.weighted
    assert method.divide_by == "kept"


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("examples", value) for value in (0, -1, 1.5, True, math.inf)),
        *(("alpha", value) for value in (-0.1, math.nan, math.inf, True)),
        *(("buffer", value) for value in (0, 2.5, math.inf)),
        ("mode", "paper"),
    ],
)
def test_out_of_range(parameter, value):
    with pytest.raises(TokensieveError, match=parameter):
        get_method("uds", **{parameter: value})
