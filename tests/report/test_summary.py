from __future__ import annotations

import numpy as np
import pytest

from tokensieve.report.analysis.summary import BINS, Index, pick_examples, summarise
from tokensieve.report.analysis.sweep import Levels
from tokensieve.runs.view import load_run


@pytest.fixture
def view(demo):
    return load_run(demo.folder)


@pytest.fixture
def levels(view):
    return {arm: Levels(view, arm) for arm in view.arms}


@pytest.fixture
def summary(view, levels):
    return summarise(view, levels)


def test_every_trainable_token_is_counted_once(demo, summary, levels):
    scores = np.array([s for example in demo.scores for s in example if s < 1e8])
    own = levels["token-cleaning"].sweep.own
    names = [name for arm, name in summary.histograms if arm == "token-cleaning"]
    assert names == ["score", "base.loss", "reference.loss"]
    tables = [summary.histograms["token-cleaning", name] for name in names]
    tables += [table["token-cleaning"] for table in (summary.sources, summary.positions, summary.classes)]
    for table in tables:
        assert table.sum() == len(scores)
        assert table[:, : own + 1].sum() == (scores >= 0).sum()
    edges = summary.edges["score:token-cleaning"]
    assert len(edges) == BINS + 1
    assert (edges[0], edges[-1]) == (pytest.approx(scores.min() + 1, abs=1), pytest.approx(scores.max() - 1, abs=1))


def test_tokens_are_counted_where_trainable(summary, view):
    names = [view.decoder.name(token_id) for token_id in summary.token_ids.tolist()]
    assert summary.tokens["full"][names.index(" the")].tolist() == [32, 0]
    assert "q" not in names


def test_what_two_arms_keep_is_counted_together(demo, summary, levels):
    table = summary.joint["full", "token-cleaning"]
    own = levels["token-cleaning"].sweep.own
    kept = sum(map(sum, demo.kept))
    assert table.sum() == sum(label != -100 for labels in demo.labels for label in labels)
    assert table[0, : own + 1].sum() == kept
    assert table[1].sum() == 0  # full drops nothing


def test_the_index_has_a_row_an_example(demo, summary):
    index = summary.index
    assert index.rows.tolist() == [10, 11, 12, 13, 14, 15]
    assert index.tokens.tolist() == [len(ids) for ids in demo.ids]
    assert index.kept["token-cleaning"].tolist() == [sum(kept) for kept in demo.kept]
    assert index.disputed.sum() == 0  # one method alone disputes nothing


def test_points_carry_the_levels_of_their_tokens(demo, summary, levels):
    points, own = summary.points, levels["token-cleaning"].sweep.own
    kept = points["level:token-cleaning"] <= own
    assert kept.sum() == sum(map(sum, demo.kept))
    # Kept tokens have scores from 0 on, dropped ones from -40 to -1; the loss is the magnitude.
    assert set(points["base.loss"][~kept].tolist()) == set(map(float, range(1, 41)))


def test_values_that_are_all_the_same(summary):
    edges = summary.edges["score:full"]
    table = summary.histograms["full", "score"]
    assert (edges[0], edges[-1]) == (-0.5, 0.5)
    assert table.max() == table.sum() > 0


def make_index(kept, disputed=None) -> Index:
    kept = np.array(kept)
    every = np.arange(len(kept))
    disputes = np.zeros(len(kept), int) if disputed is None else np.array(disputed)
    return Index(
        every, every * 0, every * 0 + 20, every * 0 + 10, {"a": kept}, {"a": every.astype(np.float64) * 0}, disputes
    )


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 9, 20])
def test_picked_examples_are_distinct_and_in_order(count):
    picked = pick_examples(make_index(np.arange(10)), "a", count).tolist()
    assert picked == sorted(set(picked))
    assert len(picked) == min(count, 10)


def test_picked_examples_have_the_ends_and_the_most_disputed():
    kept = np.full(100, 5)
    kept[[17, 60]] = 0, 10
    disputed = np.zeros(100, int)
    disputed[33] = 4
    picked = pick_examples(make_index(kept, disputed), "a", 8).tolist()
    assert {17, 60, 33} <= set(picked)
    assert len(picked) == 8


def test_examples_without_a_trainable_token_are_not_picked():
    index = make_index(np.arange(4))
    index.trainable[2] = 0
    assert pick_examples(index, "a", 9).tolist() == [0, 1, 3]
