from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.measure.batching import plan_batches


@given(st.lists(st.integers(0, 300), max_size=60), st.integers(1, 700))
def test_every_example_once_within_the_budget_longest_first(lengths, budget):
    batches = plan_batches(np.array(lengths, dtype=np.int64), budget)
    assert sorted(number for batch in batches for number in batch) == [n for n, x in enumerate(lengths) if x > 0]
    longest = [max(lengths[n] for n in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    for batch, length in zip(batches, longest, strict=True):
        assert len(batch) * length <= budget or len(batch) == 1


def test_padding_is_small_on_ragged_lengths():
    lengths = np.random.default_rng(0).lognormal(5, 0.6, 6000).astype(np.int64) + 1
    padded = sum(int(lengths[batch].max()) * len(batch) for batch in plan_batches(lengths, 8192))
    assert padded / lengths.sum() < 1.03
