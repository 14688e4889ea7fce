from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tokensieve.ops.ragged import (
    gather_segments,
    keep_segments,
    offsets,
    order_keys,
    rank_in_segments,
    segment_any,
    segment_counts,
    segment_extremes,
    segment_ids,
    segment_means,
)

LENGTHS = st.lists(st.integers(0, 5), max_size=8)
FLOATS = st.floats(width=32, allow_nan=False)


@given(LENGTHS)
def test_offsets_and_segment_ids_are_those_of_a_loop(lengths):
    cu_seqlens = offsets(lengths)
    assert cu_seqlens.dtype == np.int64
    assert cu_seqlens.tolist() == [sum(lengths[:n]) for n in range(len(lengths) + 1)]
    assert segment_ids(cu_seqlens).tolist() == [n for n, length in enumerate(lengths) for _ in range(length)]


@given(LENGTHS, st.data())
def test_segment_counts_are_those_of_a_loop(lengths, data):
    cu_seqlens = offsets(lengths)
    mask = data.draw(hnp.arrays(np.bool_, int(cu_seqlens[-1])))
    first = data.draw(st.integers(0, len(lengths)))
    last = data.draw(st.integers(first, len(lengths)))
    some = cu_seqlens[first : last + 1]  # offsets need not begin at 0 or end at the end
    expected = [int(mask[a:b].sum()) for a, b in pairwise(some)]
    assert segment_counts(mask, some).tolist() == expected
    assert segment_counts(mask, some).dtype == np.int64
    assert segment_any(mask, some).tolist() == [count > 0 for count in expected]


@given(LENGTHS, st.data())
def test_gathered_segments_are_those_of_a_loop(lengths, data):
    cu_seqlens = offsets(lengths)
    values = np.arange(int(cu_seqlens[-1])) * 10
    order = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=8) if lengths else st.just([]))
    expected = [v for n in order for v in values[cu_seqlens[n] : cu_seqlens[n + 1]].tolist()]
    assert gather_segments(values, cu_seqlens, np.array(order, dtype=np.int64)).tolist() == expected


@given(FLOATS, FLOATS)
def test_keys_have_the_order_of_floats(a, b):
    key_a, key_b = order_keys(np.array([a, b], dtype=np.float32))
    assert (key_a < key_b) == (a < b)
    assert (key_a == key_b) == (a == b)


def test_keys_of_extreme_values():
    tiny = np.float32(1e-45)
    values = np.array([-np.inf, np.finfo(np.float32).min, -1, -tiny, 0, tiny, 1, np.inf], dtype=np.float32)
    keys = order_keys(values)
    assert keys.dtype == np.uint32
    assert (np.diff(keys.astype(np.int64)) > 0).all()
    zeros = order_keys(np.array([-0.0, 0.0], dtype=np.float32))
    assert zeros[0] == zeros[1]


def test_keys_leave_their_input_alone_and_take_strided_arrays():
    values = np.array([-0.0, 9, 3, 9, -2, 9], dtype=np.float32)
    keys = order_keys(values[::2])
    assert np.signbit(values[0])
    assert keys.argsort().tolist() == [2, 0, 1]


@given(LENGTHS, st.data())
def test_ranks_are_those_of_a_stable_sort(lengths, data):
    segment = segment_ids(offsets(lengths))
    keys = data.draw(hnp.arrays(np.uint32, len(segment), elements=st.sampled_from([0, 1, 2, 2**31, 2**32 - 1])))
    expected = np.empty(len(keys), dtype=np.int64)
    for number in range(len(lengths)):
        members = np.flatnonzero(segment == number).tolist()
        for rank, position in enumerate(sorted(members, key=lambda p: (-int(keys[p]), p))):
            expected[position] = rank
    assert rank_in_segments(keys, segment).tolist() == expected.tolist()


@given(LENGTHS, st.data())
def test_extremes_are_those_of_a_loop(lengths, data):
    cu_seqlens = offsets(lengths)
    size = int(cu_seqlens[-1])
    values = data.draw(hnp.arrays(np.float32, size, elements=st.floats(-9, 9, width=32)))
    mask = data.draw(hnp.arrays(np.bool_, size))
    low, high = [], []
    for a, b in pairwise(cu_seqlens.tolist()):
        masked = [float(values[t]) for t in range(a, b) if mask[t]] or [0.0]
        low += [min(masked)] * (b - a)
        high += [max(masked)] * (b - a)
    found = segment_extremes(values, mask, cu_seqlens)
    assert [one.dtype for one in found] == [np.float32, np.float32]
    assert (found[0].tolist(), found[1].tolist()) == (low, high)


def test_extremes_by_hand():
    values = np.array([5, -1, 2, 7, np.nan, -3, -2], dtype=np.float32)
    mask = np.array([False, True, True, False, False, True, True])
    low, high = segment_extremes(values, mask, offsets([0, 3, 0, 0, 2, 2, 0]))
    assert low.tolist() == [-1, -1, -1, 0, 0, -3, -3]  # nothing is masked in the second of the filled ones
    assert high.tolist() == [2, 2, 2, 0, 0, -2, -2]
    for lengths in ([], [0, 0]):
        none = np.zeros(0, dtype=np.float32)
        assert [one.shape for one in segment_extremes(none, none.astype(bool), offsets(lengths))] == [(0,), (0,)]


@given(LENGTHS, st.data())
def test_kept_segments_are_those_of_a_loop(lengths, data):
    values, cu_seqlens = np.arange(sum(lengths)), offsets(lengths)
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths))), dtype=bool)
    expected = [v for a, b, yes in zip(cu_seqlens, cu_seqlens[1:], chosen, strict=False) if yes for v in range(a, b)]
    assert keep_segments(values, cu_seqlens, chosen).tolist() == expected


@given(LENGTHS, st.data())
def test_means_are_those_of_a_loop(lengths, data):
    cu_seqlens = offsets(lengths)
    size = int(cu_seqlens[-1])
    values = data.draw(hnp.arrays(np.float32, size, elements=st.floats(-9, 9, width=32)))
    mask = data.draw(hnp.arrays(np.bool_, size))
    expected = []
    for a, b in pairwise(cu_seqlens.tolist()):
        masked = [float(values[t]) for t in range(a, b) if mask[t]]
        expected += [sum(masked) / len(masked) if masked else 0.0] * (b - a)
    found = segment_means(values, mask, cu_seqlens)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
