from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tokensieve.ops.cutoff import Cutoff, Tally, bracket, count_lower, count_upper, cutoff_of, find_cutoff
from tokensieve.ops.ragged import order_keys

SCORES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, -1e-45]) | st.floats(
    width=32, allow_nan=False, allow_infinity=False
)


def by_counts(shards, count) -> Cutoff:
    """The cut-off of values in shards, from two counts of their keys."""
    keys = [order_keys(values) for values in shards]
    upper = sum((count_upper(one) for one in keys), np.zeros(2**16, dtype=np.int64))
    return find_cutoff(upper, lambda bucket: sum(count_lower(one, bucket) for one in keys), count)  # pyright: ignore[reportArgumentType]


def naive(scores, count):
    """The `count` largest by a sort; of equal ones the earliest."""
    order = sorted(range(len(scores)), key=lambda t: (-float(scores[t]), t))
    kept = np.zeros(len(scores), dtype=bool)
    kept[order[:count]] = True
    return kept


def everywhere(values):
    return np.ones(len(values), dtype=bool)


@given(hnp.arrays(np.float32, st.integers(0, 60), elements=SCORES), st.data())
def test_equals_a_sort_whatever_the_shards(scores, data):
    count = data.draw(st.integers(0, len(scores)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(scores)), max_size=5)))
    cutoff = by_counts(np.split(scores, cuts), count)
    assert cutoff == cutoff_of(scores, count)
    assert np.array_equal(cutoff.keep(scores, everywhere(scores)), naive(scores, count))


@given(hnp.arrays(np.float32, st.integers(1, 60), elements=SCORES), st.data())
def test_a_tally_finds_the_cutoff_where_it_lies_within_the_bracket(scores, data):
    count = data.draw(st.integers(1, len(scores)))
    low, high = sorted(data.draw(st.tuples(*(st.sampled_from(scores.tolist()) | SCORES for _ in range(2)))))
    among = data.draw(hnp.arrays(np.bool_, len(scores)))
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(scores)), max_size=5))), len(scores)]
    parts = [Tally.of(scores[a:b], among[a:b], low, high) for a, b in itertools.pairwise(cuts)]
    total, found = Tally.total(parts), np.sort(scores[among])[::-1]
    within = count <= len(found) and low <= found[count - 1] <= high
    cutoff = total.cutoff(count)
    assert (cutoff is not None) == within
    if cutoff is not None:
        assert np.array_equal(cutoff.keep(scores, among)[among], naive(scores[among], count))
        assert not cutoff.keep(scores, among)[~among].any()
        tied = [part.count(cutoff.value) for part in parts]
        assert tied == [int((scores[a:b][among[a:b]] == cutoff.value).sum()) for a, b in itertools.pairwise(cuts)]


@pytest.mark.parametrize("share", [1e-5, 0.01, 0.3, 0.6, 0.999, 1.0])
@pytest.mark.parametrize("distinct", [1, 3, 1000, 2**32])
def test_a_bracket_holds_the_cutoff_and_little_else(share, distinct):
    generator = np.random.default_rng(distinct)
    values = (generator.integers(0, distinct, 200_000) / distinct).astype(np.float32)
    count = max(1, int(share * len(values)))
    low, high = bracket(values[generator.integers(0, len(values), 4000)], count, len(values))
    tally = Tally.of(values, everywhere(values), low, high)
    assert tally.cutoff(count) == cutoff_of(values, count)
    assert low < high or distinct < 4
    assert len(tally.values) < 20_000  # nothing that grows with the data


def test_a_bracket_of_few_or_no_samples_has_no_ends():
    assert bracket(np.zeros(0, dtype=np.float32), 1, 5) == (-math.inf, math.inf)
    assert bracket(np.arange(4, dtype=np.float32), 2, 5) == (-math.inf, math.inf)


@pytest.mark.parametrize("count", [0, 1, 70_000, 150_000, 199_999, 200_000])
@pytest.mark.parametrize("distinct", [1, 3, 2**32])
def test_many_values(count, distinct):
    values = np.random.default_rng(count).integers(-distinct // 2, distinct, 200_000).astype(np.float32)
    cutoff = by_counts(np.array_split(values, 7), count)
    assert cutoff == cutoff_of(values, count)
    expected = np.zeros(len(values), dtype=bool)
    expected[np.argsort(-values, kind="stable")[:count]] = True
    assert np.array_equal(cutoff.keep(values, everywhere(values)), expected)


def test_the_largest_and_smallest_values():
    largest = np.finfo(np.float32).max
    values = np.array([-largest, largest, largest, -largest], dtype=np.float32)
    for count, expected in ((0, [0, 0, 0, 0]), (1, [0, 1, 0, 0]), (3, [1, 1, 1, 0]), (4, [1, 1, 1, 1])):
        for cutoff in (by_counts([values], count), cutoff_of(values, count)):
            assert cutoff.keep(values, everywhere(values)).tolist() == [bool(bit) for bit in expected]


def test_what_is_not_among_them_is_not_kept_and_nothing_is_changed():
    values = np.array([3, np.nan, 2, 2, 9, 2], dtype=np.float32)
    among = np.array([True, False, True, True, False, True])
    before = values.copy(), among.copy()
    assert Cutoff(2.0, 2).keep(values, among).tolist() == [True, False, True, True, False, False]
    assert np.array_equal(values, before[0], equal_nan=True)
    assert np.array_equal(among, before[1])
