from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tokensieve.containers import Statistics, segments
from tokensieve.errors import TokensieveError
from tokensieve.ops.ragged import offsets
from tokensieve.ops.rules import (
    DropFraction,
    Threshold,
    TopCount,
    TopExamples,
    TopFraction,
    apply_rule,
    check_range,
    in_words,
)

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
    for rule in (TopFraction(fraction, scope, rounding), DropFraction(fraction, scope, rounding), Threshold(0.5)):
        before = statistics.labels.copy()
        labels = apply_rule(rule, scores, statistics)
        assert np.array_equal(statistics.labels, before)
        assert labels.dtype == np.int64
        assert ((labels == -100) | (labels == before)).all()
        assert np.array_equal(labels != -100, rule.keep(scores, statistics))


@given(scored(), st.integers(0, 80))
def test_top_count_keeps_that_many_of_the_highest(case, tokens):
    scores, statistics = case
    kept = TopCount(tokens).keep(scores, statistics)
    trainable = np.flatnonzero(statistics.trainable).tolist()
    forced = np.zeros(len(scores), dtype=bool) if statistics.turn_end is None else statistics.turn_end
    count = max(tokens, int(forced[trainable].sum()))
    expected = sorted(trainable, key=lambda t: (not forced[t], -float(scores[t]), t))[:count]
    assert np.flatnonzero(kept).tolist() == sorted(expected)


def test_a_count_in_words():
    assert in_words(TopCount(12_345)) == "top 12,345 tokens of the data set"


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


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.int16])
def test_labels_of_any_integers_become_int64_when_decided(dtype):
    labels = np.array([-100, 1, 2], dtype=dtype)
    statistics = Statistics(np.array([0, 3]), labels)  # pyright: ignore[reportArgumentType]
    assert np.shares_memory(statistics.labels, labels)  # a cast takes as long as a rule
    decided = apply_rule(TopFraction(0.5), np.array([0, 1, 2], dtype=np.float32), statistics)
    assert decided.dtype == np.int64
    assert decided.tolist() == [-100, -100, 2]


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
@pytest.mark.parametrize("rule", [TopFraction(0.5), TopFraction(1.0, "example"), DropFraction(0.5), Threshold(0.0)])
def test_scores_that_are_no_numbers_are_refused_with_their_examples(bad, rule):
    statistics = Statistics(np.array([0, 2, 4]), np.array([-100, 1, -100, 1]))
    scores = np.array([bad, 1, 0, bad], dtype=np.float32)
    with pytest.raises(TokensieveError, match="'score' is NaN or infinite on 1 tokens of 1 examples: 1"):
        rule.keep(scores, statistics)
    scores[3] = 1  # where no token is trainable, nothing matters
    assert rule.keep(scores, statistics).sum() >= 1


BAD: list[tuple[Any, dict[str, Any], str]] = [
    *((TopFraction, {"fraction": f}, "fraction") for f in (0, -0.1, 1.1, math.nan, math.inf, True, "0.5", None)),
    *((TopCount, {"tokens": n}, "tokens") for n in (-1, 0.5, math.inf, math.nan, True, "5", None)),
    (TopFraction, {"fraction": 0.5, "scope": "sample"}, "scope"),
    (TopFraction, {"fraction": 0.5, "rounding": "round"}, "rounding"),
    *((Threshold, {"value": value}, "threshold") for value in (math.nan, math.inf)),
    *((DropFraction, {"fraction": f}, "fraction") for f in (0, 1.1, math.nan, True)),
    *((TopExamples, {"examples": n}, "examples") for n in (0, -1, 1.0, True, math.inf, None)),
]


@pytest.mark.parametrize(("rule", "settings", "name"), BAD)
def test_settings_out_of_range(rule, settings, name):
    with pytest.raises(TokensieveError, match=name):
        rule(**settings)


def test_no_tokens_and_no_trainable_tokens():
    for statistics in (Statistics(np.array([0]), np.array([])), flat([-100, -100])):
        size = len(statistics.labels)
        for rule in (
            TopFraction(0.5),
            TopFraction(0.5, "example"),
            TopFraction(1, rounding="ceil"),
            DropFraction(0.5),
            DropFraction(0.1, "example", "ceil"),
            Threshold(0),
        ):
            kept = rule.keep(np.zeros(size, dtype=np.float32), statistics)
            assert kept.shape == (size,)
            assert not kept.any()


@given(scored(), FRACTIONS, SCOPES, ROUNDINGS)
def test_drop_fraction_equals_a_loop(case, fraction, scope, rounding):
    scores, statistics = case
    size = len(scores)
    expected = statistics.trainable.tolist()
    for span in segments(statistics.cu_seqlens) if scope == "example" else [slice(0, size)]:
        trainable = [t for t in range(size)[span] if statistics.labels[t] != -100]
        count = math.floor(len(trainable) * fraction) if rounding == "floor" else math.ceil(len(trainable) * fraction)
        free = [t for t in trainable if statistics.turn_end is None or not statistics.turn_end[t]]
        for t in sorted(free, key=lambda t: (float(scores[t]), t))[:count]:
            expected[t] = False
    assert DropFraction(fraction, scope, rounding).keep(scores, statistics).tolist() == expected


@given(scored(turn_ends=False), FRACTIONS, SCOPES, ROUNDINGS)
def test_drop_fraction_drops_what_a_ranking_of_the_opposite_keeps(case, fraction, scope, rounding):
    scores, statistics = case
    kept = DropFraction(fraction, scope, rounding).keep(scores, statistics)
    opposite = TopFraction(fraction, scope, rounding).keep(-scores, statistics)
    assert np.array_equal(kept, statistics.trainable & ~opposite)


def test_drop_fraction_by_hand():
    labels = [-100, 1, 1, 1, 1, 1]
    scores = [-99, 3, 1, 1, 2, 1]
    assert kept_positions(DropFraction(0.4), scores, flat(labels)) == [1, 4, 5]  # a tie: the earlier ones go
    assert kept_positions(DropFraction(0.5), scores, flat(labels)) == [1, 4, 5]
    assert kept_positions(DropFraction(0.5, rounding="ceil"), scores, flat(labels)) == [1, 4]
    assert kept_positions(DropFraction(0.1), scores, flat(labels)) == [1, 2, 3, 4, 5]
    assert kept_positions(DropFraction(1.0), scores, flat(labels)) == []
    assert DropFraction(0.4).count(5) == 3


def test_drop_fraction_spares_turn_ends():
    statistics = flat([-100, 1, 1, 1, 1], np.array([False, False, True, False, True]))
    assert kept_positions(DropFraction(0.25), [0, 9, -9, 8, 7], statistics) == [1, 2, 4]
    assert kept_positions(DropFraction(0.5), [0, 9, -9, 8, 7], statistics) == [2, 4]
    assert kept_positions(DropFraction(1.0), [0, 9, -9, 8, 7], statistics) == [2, 4]
    largest = float(np.finfo(np.float32).max)  # whose key is the lowest of all when it is dropped
    assert kept_positions(DropFraction(0.5), [0, largest, largest, largest, 7], statistics) == [2, 4]


def batch(scores, lengths, labels=None):
    cu_seqlens = offsets(lengths)
    size = int(cu_seqlens[-1])
    statistics = Statistics(cu_seqlens, np.ones(size, dtype=np.int64) if labels is None else np.array(labels))
    return np.repeat(np.float32(scores), lengths), statistics


def test_top_examples_by_hand():
    case = batch([1, 3, 9, 3, 2], [2, 1, 0, 2, 1])
    assert kept_positions(TopExamples(1), *case) == [2]  # a tie: the earlier example
    assert kept_positions(TopExamples(2), *case) == [2, 3, 4]
    assert kept_positions(TopExamples(3), *case) == [2, 3, 4, 5]
    assert kept_positions(TopExamples(4), *case) == [0, 1, 2, 3, 4, 5]


def test_top_examples_have_trainable_tokens():
    case = batch([9, 1, 2], [2, 2, 2], [-100, -100, -100, 5, 6, -100])
    assert kept_positions(TopExamples(1), *case) == [4]
    assert kept_positions(TopExamples(2), *case) == [3, 4]
    assert kept_positions(TopExamples(3), *case) == [3, 4]  # it has no more


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 4)), min_size=1, max_size=8), st.integers(1, 8))
def test_top_examples_equal_a_loop(examples, count):
    scores, lengths = zip(*examples, strict=True)
    case = batch(scores, lengths)
    best = sorted(range(len(examples)), key=lambda n: (-scores[n], n))[:count]
    expected = [n in best for n, length in enumerate(lengths) for _ in range(length)]
    assert TopExamples(count).keep(*case).tolist() == expected


def test_top_examples_of_nothing_and_of_no_numbers():
    assert TopExamples(3).keep(np.zeros(0, dtype=np.float32), Statistics(np.array([0]), np.array([]))).shape == (0,)
    scores, statistics = batch([1, math.nan], [1, 1])
    with pytest.raises(TokensieveError, match="'score' is NaN or infinite on 1 tokens of 1 examples: 1"):
        TopExamples(1).keep(scores, statistics)


@pytest.mark.parametrize(
    ("value", "low", "high", "whole"),
    [
        (-0.01, 0, 1, False),
        (1.01, 0, 1, False),
        (math.nan, 0, 1, False),
        (math.inf, 0, math.inf, False),
        (-math.inf, -math.inf, math.inf, False),
        (True, 0, 1, False),
        ("0.5", 0, 1, False),
        (None, 0, 1, False),
        (1.0, 0, 2, True),
        (False, 0, 2, True),
        (3, 0, 2, True),
    ],
)
def test_check_range_refuses(value, low, high, whole):
    with pytest.raises(TokensieveError, match="the_name is "):
        check_range("the_name", value, low, high, whole=whole)


@pytest.mark.parametrize(
    ("value", "low", "high", "whole"),
    [(0, 0, 1, False), (1, 0, 1, False), (0.5, 0, 1, False), (10**400, 1, math.inf, True), (-3, -math.inf, 0, True)],
)
def test_check_range_takes_its_bounds_and_what_lies_between(value, low, high, whole):
    check_range("the_name", value, low, high, whole=whole)
    with pytest.raises(TokensieveError):  # the same bounds do refuse something
        check_range("the_name", str(value), low, high, whole=whole)


@pytest.mark.parametrize(
    ("low", "high", "whole", "told"),
    [
        (0, 1, False, "x is '1', it must be a number from 0 to 1"),
        (0.5, math.inf, False, "x is '1', it must be a number of at least 0.5"),
        (-math.inf, math.inf, True, "x is '1', it must be a whole number"),
    ],
)
def test_check_range_says_what_is_allowed(low, high, whole, told):
    with pytest.raises(TokensieveError, match=f"^{told}"):
        check_range("x", "1", low, high, whole=whole)
