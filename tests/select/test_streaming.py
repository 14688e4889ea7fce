from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.containers import IGNORE_INDEX, Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.methods._base import Method
from tokensieve.ops.ragged import offsets
from tokensieve.ops.rules import DropFraction, Rule, Threshold, TopCount, TopExamples, TopFraction, apply_rule
from tokensieve.select import streaming
from tokensieve.select.streaming import read_selection, select_shards


def split(whole: Statistics, cuts: list[int]) -> list[Statistics]:
    """Cut statistics into shards of whole examples."""
    bounds = [0, *sorted(cuts), len(whole)]
    shards = []
    for first, last in itertools.pairwise(bounds):
        start, stop = whole.cu_seqlens[first], whole.cu_seqlens[last]
        shards.append(
            Statistics(
                whole.cu_seqlens[first : last + 1] - start,
                whole.labels[start:stop],
                {key: value[start:stop] for key, value in whole.values.items()},
                None if whole.turn_end is None else whole.turn_end[start:stop],
                int(start),
            )
        )
    return [shard for shard in shards if len(shard)]


@st.composite
def ragged_statistics(draw) -> Statistics:
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    cu_seqlens = offsets(lengths)
    tokens = int(cu_seqlens[-1])
    labels = np.where(generator.random(tokens) < 0.7, generator.integers(0, 50, tokens), IGNORE_INDEX)
    # Few distinct values, so that ties are common.
    losses = (generator.integers(-3, 4, tokens) / 2).astype(np.float32)
    values = {("base", "loss"): losses, ("reference", "loss"): np.zeros_like(losses)}
    turn_end = generator.random(tokens) < 0.2 if draw(st.booleans()) else None
    return Statistics(cu_seqlens, labels, values, turn_end)


@pytest.fixture(autouse=True, params=[2**27, 0, 7], ids=["in memory", "in files", "in both"])
def keys_in_memory(request):
    """Where ranking keys are kept must not matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "_KEYS_IN_MEMORY", request.param)
        yield


def stream(method: Method, rule: Rule, shards: list[Statistics]) -> tuple[np.ndarray, dict]:
    with tempfile.TemporaryDirectory() as folder:
        counts = select_shards(
            method, rule, lambda n: (shards[n], np.arange(len(shards[n]))), len(shards), Path(folder)
        )
        kept = [read_selection(Path(folder), number)[1] for number in range(len(shards))]
    return np.concatenate(kept), counts


@given(
    ragged_statistics(),
    st.lists(st.integers(0, 12), max_size=4),
    st.sampled_from(
        [
            TopFraction(0.6),
            TopFraction(0.29, rounding="ceil"),
            TopFraction(1.0),
            TopFraction(0.5, scope="example"),
            DropFraction(0.3),
            DropFraction(0.29, rounding="ceil"),
            DropFraction(0.5, scope="example"),
            TopCount(0),
            TopCount(9),
            TopCount(1000),
            Threshold(0.5),
        ]
    ),
    st.sampled_from(["token-cleaning", "random"]),
)
def test_any_sharding_decides_as_the_whole_in_memory(whole, cuts, rule, name):
    method = get_method(name)
    shards = split(whole, [min(cut, len(whole)) for cut in cuts])
    kept, counts = stream(method, rule, shards)
    expected = apply_rule(rule, method.score(whole), whole) != IGNORE_INDEX
    np.testing.assert_array_equal(kept, expected)
    assert counts["kept"] == expected.sum()
    assert counts["trainable"] == whole.trainable.sum()
    assert counts["examples"] == len(whole)


def test_the_threshold_is_the_lowest_score_kept_by_rank():
    scores = np.linspace(0, 0.9, 10).astype(np.float32)
    values = {("base", "loss"): scores, ("reference", "loss"): np.zeros(10, dtype=np.float32)}
    whole = Statistics(offsets([5, 5]), np.arange(10), values, np.arange(10) == 0)
    kept, counts = stream(get_method("token-cleaning"), TopFraction(0.5), split(whole, [1]))
    assert kept.nonzero()[0].tolist() == [0, 6, 7, 8, 9]  # the turn end, and the four best
    assert counts["threshold"] == pytest.approx(0.6)
    assert counts["examples_without_kept"] == 0


def test_scope_batch_is_refused_offline():
    with pytest.raises(TokensieveError, match="scope 'batch'"):
        stream(get_method("random"), TopFraction(0.5, "batch"), [])
    with pytest.raises(TokensieveError, match="scope 'batch'"):
        stream(get_method("random"), TopExamples(2), [])
