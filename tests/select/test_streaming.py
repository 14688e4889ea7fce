from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.containers import IGNORE_INDEX, Statistics
from tokensieve.engines import local
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


RANKINGS = st.sampled_from(
    [
        TopFraction(0.6),
        TopFraction(1.0),
        TopFraction(0.001),
        DropFraction(0.3),
        DropFraction(1.0),
        TopCount(0),
        TopCount(9),
    ]
)


def lowest_kept(whole: Statistics, scores: np.ndarray, kept: np.ndarray) -> float | None:
    """The lowest score of the tokens that are kept and need not be."""
    ranked = scores[kept & (whole.turn_end is None or ~whole.turn_end)]
    return float(ranked.min()) if len(ranked) else None


def decided_as_a_sort(rule: Rule, whole: Statistics, cuts: list[int]) -> None:
    scores = get_method("token-cleaning").score(whole)
    kept, counts = stream(get_method("token-cleaning"), rule, split(whole, cuts))
    np.testing.assert_array_equal(kept, apply_rule(rule, scores, whole) != IGNORE_INDEX)
    assert counts["threshold"] == lowest_kept(whole, scores, kept)


@given(ragged_statistics(), st.lists(st.integers(0, 12), max_size=4), RANKINGS, st.floats(-2, 2, width=32))
def test_a_sample_that_misleads_costs_time_alone(whole, cuts, rule, value):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "bracket", lambda *_: (float(np.float32(value)), float(np.float32(value))))
        decided_as_a_sort(rule, whole, [min(cut, len(whole)) for cut in cuts])


def many(scores: np.ndarray, length: int = 50) -> Statistics:
    """Examples of one length whose first token is not trainable."""
    labels = np.where(np.arange(len(scores)) % length == 0, IGNORE_INDEX, 1)
    values = {("base", "loss"): scores.astype(np.float32), ("reference", "loss"): np.zeros(len(scores), np.float32)}
    return Statistics(np.arange(0, len(scores) + 1, length), labels, values)


NORMAL = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)


@pytest.mark.parametrize(
    "scores",
    [
        pytest.param(NORMAL, id="without ties"),
        pytest.param(np.round(NORMAL), id="ties over all shards"),
        pytest.param(np.zeros_like(NORMAL), id="all equal"),
        pytest.param(np.where(NORMAL > 0.3, np.float32(1), np.float32(0)), id="two values"),
        pytest.param(np.sort(NORMAL), id="rising from shard to shard"),
        pytest.param(NORMAL + np.arange(len(NORMAL), dtype=np.float32) // 50_000 * 9, id="shards apart"),
        pytest.param(np.where(np.arange(len(NORMAL)) % 400 < 390, -NORMAL, np.float32(9)), id="periodic"),
    ],
)
@pytest.mark.parametrize("rule", [TopFraction(0.6), TopFraction(0.0001), DropFraction(0.4), TopCount(17)])
def test_the_sample_settles_what_is_kept(scores, rule, monkeypatch):
    def unneeded(*_):
        raise AssertionError

    monkeypatch.setattr(streaming, "find_cutoff", unneeded)
    decided_as_a_sort(rule, many(scores), [1, 2, 900, 1000, 3000])


@pytest.mark.parametrize("at_once", [1, 5])
def test_the_same_files_whatever_works_side_by_side(at_once, monkeypatch, tmp_path):
    shards = split(many(np.round(NORMAL[:20_000], 1)), [40, 100, 300])
    files = []
    for name in ("usual", "other"):
        select_shards(
            get_method("token-cleaning"),
            TopFraction(0.6),
            lambda n: (shards[n], np.arange(len(shards[n]))),
            len(shards),
            tmp_path / name,
        )
        files.append({path.name: path.read_bytes() for path in sorted((tmp_path / name).rglob("*.*"))})
        monkeypatch.setattr(local, "threads", lambda: at_once)
    assert files[0] == files[1]
    assert len(files[0]) == 5  # a shard and its decisions share a name; and the manifest


def test_scores_are_zero_where_nothing_is_trained(tmp_path):
    whole = many(np.array([np.nan, -1, -0.0, 2, -np.inf, 3], dtype=np.float32), length=2)
    whole = Statistics(whole.cu_seqlens, np.array([-100, 1, 1, 1, -100, 1], dtype=np.int32), whole.values)
    counts = select_shards(
        get_method("token-cleaning"), TopFraction(0.5), lambda _: (whole, np.arange(3)), 1, tmp_path / "out"
    )
    scores, kept = read_selection(tmp_path / "out", 0)
    assert scores.tobytes() == np.array([0, -1, -0.0 - 0.0, 2, 0, 3], dtype=np.float32).tobytes()
    assert kept.tolist() == [False, False, False, True, False, True]
    assert counts["threshold"] == 2


def test_shards_without_tokens_and_without_any_that_is_trained():
    empty = Statistics(np.array([0, 0]), np.array([]), {key: np.array([]) for key in many(NORMAL[:50]).values})
    prompt = Statistics(
        np.array([0, 2]), np.full(2, IGNORE_INDEX), {key: np.zeros(2, np.float32) for key in empty.values}
    )
    for rule in (TopFraction(0.6), DropFraction(0.4), TopCount(3)):
        kept, counts = stream(get_method("token-cleaning"), rule, [empty, prompt, empty])
        assert kept.tolist() == [False, False]
        assert counts["threshold"] is None
        kept, _ = stream(get_method("token-cleaning"), rule, [empty, many(NORMAL[:50]), prompt])
        assert kept.sum() == rule.count(49)


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
