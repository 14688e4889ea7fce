from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tokensieve.ops.cutoff import Cutoff, count_lower, count_upper, find_cutoff
from tokensieve.ops.ragged import order_keys

SCORES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, -1e-45]) | st.floats(width=32, allow_nan=False)


def cutoff_of(shards, count) -> Cutoff:
    upper = sum((count_upper(keys) for keys in shards), np.zeros(2**16, dtype=np.int64))
    return find_cutoff(upper, lambda bucket: sum(count_lower(keys, bucket) for keys in shards), count)  # pyright: ignore[reportArgumentType]


def naive(scores, count):
    """The `count` largest by a sort; of equal ones the earliest."""
    order = sorted(range(len(scores)), key=lambda t: (-float(scores[t]), t))
    kept = np.zeros(len(scores), dtype=bool)
    kept[order[:count]] = True
    return kept


@given(hnp.arrays(np.float32, st.integers(0, 60), elements=SCORES), st.data())
def test_equals_a_sort_whatever_the_shards(scores, data):
    count = data.draw(st.integers(0, len(scores)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(scores)), max_size=5)))
    shards = np.split(order_keys(scores), cuts)
    cutoff = cutoff_of(shards, count)
    kept = np.concatenate([cutoff.keep(shard) for shard in shards])
    assert kept.sum() == count
    assert np.array_equal(kept, naive(scores, count))


@pytest.mark.parametrize("count", [0, 1, 70_000, 150_000, 199_999, 200_000])
@pytest.mark.parametrize("distinct", [1, 3, 2**32])
def test_many_keys(count, distinct):
    keys = np.random.default_rng(count).integers(0, distinct, 200_000, dtype=np.uint64).astype(np.uint32)
    shards = np.array_split(keys, 7)
    cutoff = cutoff_of(shards, count)
    kept = np.concatenate([cutoff.keep(shard) for shard in shards])
    expected = np.zeros(len(keys), dtype=bool)
    expected[np.lexsort((np.arange(len(keys)), -keys.astype(np.int64)))[:count]] = True
    assert np.array_equal(kept, expected)


def test_the_largest_and_smallest_keys():
    keys = np.array([0, 2**32 - 1, 2**32 - 1, 0], dtype=np.uint32)
    for count, expected in ((0, [0, 0, 0, 0]), (1, [0, 1, 0, 0]), (3, [1, 1, 1, 0]), (4, [1, 1, 1, 1])):
        assert cutoff_of([keys], count).keep(keys).tolist() == [bool(bit) for bit in expected]


def test_keys_are_not_changed():
    keys = np.arange(10, dtype=np.uint32)
    before = keys.copy()
    cutoff_of([keys], 3).keep(keys)
    assert np.array_equal(keys, before)
