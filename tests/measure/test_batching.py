from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.measure.batching import plan_batches, run_batches

CPU = torch.device("cpu")


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


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_every_batch_is_done_once_and_reported_by_the_caller(threads):
    done, reported = [], []
    run_batches(done.append, range(20), CPU, lambda batch: reported.append((batch, threading.current_thread())))
    assert sorted(done) == list(range(20))
    assert sorted(batch for batch, _ in reported) == list(range(20))
    assert {thread for _, thread in reported} == {threading.main_thread()}
    assert torch.get_num_threads() == threads


def test_batches_run_side_by_side():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    together, reported = threading.Barrier(2, timeout=20), []
    try:
        run_batches(lambda _: together.wait(), range(4), CPU, reported.append)
    finally:
        torch.set_num_threads(before)
    assert sorted(reported) == list(range(4))


def test_a_failure_ends_the_rest(threads):
    begun = []

    def work(batch):
        begun.append(batch)
        if batch == 0:
            raise ValueError("no")
        time.sleep(0.001)

    with pytest.raises(ValueError, match="no"):
        run_batches(work, range(1000), CPU, lambda _: None)
    assert len(begun) < 1000
    assert torch.get_num_threads() == threads


def test_no_batches(threads):
    reported = []
    run_batches(lambda _: None, [], CPU, reported.append)
    assert reported == []
