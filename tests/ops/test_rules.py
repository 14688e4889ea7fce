from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tokensieve.errors import TokensieveError
from tokensieve.ops.ragged import offsets
from tokensieve.ops.rules import Threshold, TopFraction, apply_rule
from tokensieve.types import Statistics, segments

FRACTIONS = st.sampled_from([0.1, 0.29, 0.5, 0.6, 1.0]) | st.floats(0.001, 1.0)
SCOPES = st.sampled_from(["dataset", "batch", "example"])
ROUNDINGS = st.sampled_from(["floor", "ceil"])


@st.composite
def scored(draw, turn_ends: bool = True):
    """Scores with ties, and statistics with empty, untrainable and ordinary examples."""
    lengths = draw(st.lists(st.integers(0, 9), max_size=8))
    size = sum(lengths)
    elements = st.sampled_from([0.0, -0.0, 1.0, -1.0]) | st.floats(-10, 10, width=32)
    scores = draw(hnp.arrays(np.float32, size, elements=elements))
    labels = draw(hnp.arrays(np.int64, size, elements=st.sampled_from([-100, 5, 6, 7])))
    turn_end = draw(st.none() | hnp.arrays(np.bool_, size)) if turn_ends else None
    return scores, Statistics(offsets(lengths), labels, {}, turn_end)


def naive(rule: TopFraction, scores, statistics):
    """The rule as a loop: sort the trainable tokens of each range, forced ones first."""
    size = len(scores)
    ranges = segments(statistics.cu_seqlens) if rule.scope == "example" else [slice(0, size)]
    forced = np.zeros(size, dtype=bool) if statistics.turn_end is None else statistics.turn_end
    kept = np.zeros(size, dtype=bool)
    for span in ranges:
        trainable = [t for t in range(size)[span] if statistics.labels[t] != -100]
        exact = len(trainable) * rule.fraction
        count = max(
            int(exact) if rule.rounding == "floor" else math.ceil(exact), sum(bool(forced[t]) for t in trainable)
        )
        kept[sorted(trainable, key=lambda t: (not forced[t], -float(scores[t]), t))[:count]] = True
    return kept


@given(scored(), FRACTIONS, SCOPES, ROUNDINGS)
def test_top_fraction_equals_a_loop(case, fraction, scope, rounding):
    scores, statistics = case
    rule = TopFraction(fraction, scope, rounding)
    assert np.array_equal(rule.keep(scores, statistics), naive(rule, scores, statistics))


@given(scored(), FRACTIONS, SCOPES, ROUNDINGS)
def test_what_is_not_trainable_never_becomes_so_and_labels_stay_as_they_are(case, fraction, scope, rounding):
    scores, statistics = case
    for rule in (TopFraction(fraction, scope, rounding), Threshold(0.5)):
        before = statistics.labels.copy()
        labels = apply_rule(rule, scores, statistics)
        assert np.array_equal(statistics.labels, before)
        assert labels.dtype == np.int64
        assert ((labels == -100) | (labels == before)).all()
        assert np.array_equal(labels != -100, rule.keep(scores, statistics))


@given(scored(turn_ends=False), FRACTIONS, ROUNDINGS)
def test_counts_are_exact(case, fraction, rounding):
    scores, statistics = case
    round_ = math.floor if rounding == "floor" else math.ceil
    trainable = int(statistics.trainable.sum())
    kept = TopFraction(fraction, "dataset", rounding).keep(scores, statistics)
    assert kept.sum() == round_(trainable * fraction)
    kept = TopFraction(fraction, "example", rounding).keep(scores, statistics)
    for span in segments(statistics.cu_seqlens):
        assert kept[span].sum() == round_(int(statistics.trainable[span].sum()) * fraction)


@given(scored(), FRACTIONS, FRACTIONS, SCOPES, ROUNDINGS)
def test_a_larger_fraction_keeps_all_that_a_smaller_one_keeps(case, one, other, scope, rounding):
    scores, statistics = case
    less, more = (TopFraction(f, scope, rounding).keep(scores, statistics) for f in sorted((one, other)))
    assert not (less & ~more).any()


@given(scored(), st.floats(-10, 10), st.floats(-10, 10))
def test_a_lower_threshold_keeps_all_that_a_higher_one_keeps(case, one, other):
    scores, statistics = case
    low, high = (Threshold(value).keep(scores, statistics) for value in sorted((one, other)))
    assert not (high & ~low).any()


@given(scored(), FRACTIONS, SCOPES)
def test_turn_ends_are_kept_and_count_within_the_fraction(case, fraction, scope):
    scores, statistics = case
    kept = TopFraction(fraction, scope).keep(scores, statistics)
    forced = statistics.trainable & (statistics.turn_end if statistics.turn_end is not None else False)
    assert kept[forced].all()
    if scope != "example":
        assert kept.sum() == max(int(statistics.trainable.sum() * fraction), forced.sum())
    assert Threshold(100.0).keep(scores, statistics).tolist() == forced.tolist()


def flat(labels, turn_end=None):
    return Statistics(np.array([0, len(labels)]), np.array(labels), {}, turn_end)


def kept_positions(rule, scores, statistics):
    return np.flatnonzero(rule.keep(np.array(scores, dtype=np.float32), statistics)).tolist()


def test_by_hand():
    labels = [-100, 1, 1, 1, 1, 1]
    scores = [99, 3, 1, 3, 2, 3]
    assert kept_positions(TopFraction(0.6), scores, flat(labels)) == [1, 3, 5]
    assert kept_positions(TopFraction(0.5), scores, flat(labels)) == [1, 3]  # a tie: the earlier ones
    assert kept_positions(TopFraction(0.5, rounding="ceil"), scores, flat(labels)) == [1, 3, 5]
    assert kept_positions(TopFraction(0.1), scores, flat(labels)) == []
    assert kept_positions(TopFraction(1.0), scores, flat(labels)) == [1, 2, 3, 4, 5]
    assert kept_positions(Threshold(2.0), scores, flat(labels)) == [1, 3, 4, 5]


def test_a_turn_end_takes_the_place_of_another_token():
    turn_end = np.array([False, False, True, False, False])
    statistics = flat([-100, 1, 1, 1, 1], turn_end)
    assert kept_positions(TopFraction(0.5), [0, 9, -9, 8, 7], statistics) == [1, 2]
    assert kept_positions(TopFraction(0.25), [0, 9, -9, 8, 7], statistics) == [2]
    assert kept_positions(TopFraction(0.1), [0, 9, -9, 8, 7], statistics) == [2]
    untrainable = flat([-100, 1, -100, 1, 1], turn_end)
    assert kept_positions(TopFraction(0.4), [0, 9, -9, 8, 7], untrainable) == [1]


def test_both_zeros_tie():
    assert kept_positions(TopFraction(0.5), [-0.0, 0.0, -0.0, 0.0], flat([1, 1, 1, 1])) == [0, 1]
    assert kept_positions(TopFraction(0.5, "example"), [-0.0, 0.0, -0.0, 0.0], flat([1, 1, 1, 1])) == [0, 1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rule", [TopFraction(0.5), TopFraction(1.0, "example"), Threshold(0.0)])
def test_scores_that_are_no_numbers_are_refused_with_their_examples(bad, rule):
    statistics = Statistics(np.array([0, 2, 4]), np.array([-100, 1, -100, 1]))
    scores = np.array([bad, 1, 0, bad], dtype=np.float32)
    with pytest.raises(TokensieveError, match="'score' is NaN or infinite on 1 tokens of 1 examples: 1"):
        rule.keep(scores, statistics)
    scores[3] = 1  # where no token is trainable, nothing matters
    assert rule.keep(scores, statistics).sum() >= 1


BAD: list[tuple[Any, dict[str, Any], str]] = [
    *((TopFraction, {"fraction": f}, "fraction") for f in (0, -0.1, 1.1, math.nan, math.inf, True, "0.5", None)),
    (TopFraction, {"fraction": 0.5, "scope": "sample"}, "scope"),
    (TopFraction, {"fraction": 0.5, "rounding": "round"}, "rounding"),
    *((Threshold, {"value": value}, "threshold") for value in (math.nan, math.inf)),
]


@pytest.mark.parametrize(("rule", "settings", "name"), BAD)
def test_settings_out_of_range(rule, settings, name):
    with pytest.raises(TokensieveError, match=name):
        rule(**settings)


def test_no_tokens_and_no_trainable_tokens():
    for statistics in (Statistics(np.array([0]), np.array([])), flat([-100, -100])):
        size = len(statistics.labels)
        for rule in (TopFraction(0.5), TopFraction(0.5, "example"), TopFraction(1, rounding="ceil"), Threshold(0)):
            kept = rule.keep(np.zeros(size, dtype=np.float32), statistics)
            assert kept.shape == (size,)
            assert not kept.any()
