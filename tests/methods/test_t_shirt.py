from __future__ import annotations

import math

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method

LABELS = [-100, 1, 2, -100, 3, 4, -100, 5]
WITH = [9.0, 1.0, 2.0, 9.0, 3.0, 1.0, 9.0, 4.0]
WITHOUT = [0.0, 3.0, 2.5, 0.0, 2.0, 1.25, 0.0, 4.75]  # changes: -2, -0.5; 1, -0.25; -0.75


def figures(given, alone, labels=LABELS, lengths=(3, 3, 2)) -> Statistics:
    values = {("base", "loss"): given, ("base", "loss_without_prompt"): alone}
    return Statistics(
        np.concatenate([[0], np.cumsum(lengths)]),
        np.array(labels),
        {need: np.asarray(value, dtype=np.float32) for need, value in values.items()},
    )


def test_the_tokens_that_depend_most_on_the_prompt_are_kept():
    method, statistics = get_method("t-shirt", fraction=0.4), figures(WITH, WITHOUT)
    assert method.score(statistics)[statistics.trainable].tolist() == pytest.approx([2, 0.5, 1, 0.25, 0.75])
    assert method.select(statistics).tolist() == [-100, 1, -100, -100, 3, -100, -100, -100]


def test_rows_by_s_ifd():
    method, statistics = get_method("t-shirt", keep="rows", fraction=0.6), figures(WITH, WITHOUT)
    # Above the median size of 0.75 lie -2 and 1. The mean change of the second row is above 0: it comes last.
    expected = [math.exp(-2)] * 2 + [-math.exp(0.375)] * 2 + [1.0]
    assert method.score(statistics)[statistics.trainable].tolist() == pytest.approx(expected)
    assert method.select(statistics).tolist() == [-100, 1, 2, -100, -100, -100, -100, 5]
    given = get_method("t-shirt", keep="rows", threshold=0.3).score(statistics)
    assert given[statistics.trainable].tolist() == pytest.approx(
        [math.exp(-1.25)] * 2 + [-math.exp(0.375)] * 2 + [math.exp(-0.75)]
    )


def test_the_score_of_rows_is_that_of_a_loop():
    generator = np.random.default_rng(0)
    lengths = [20, 0, 1, 33, 46]
    given, alone = (4 * generator.random(100) for _ in range(2))
    given[0] = 300  # of which the exponential is beyond float32
    labels = np.where(generator.random(100) < 0.7, 1, -100)
    statistics = figures(given, alone, labels, lengths)
    change = statistics.values["base", "loss"] - statistics.values["base", "loss_without_prompt"]
    sizes = sorted(abs(float(change[t])) for t in range(100) if labels[t] != -100)
    place = 0.7 * (len(sizes) - 1)
    bound = sizes[int(place)] + (place - int(place)) * (sizes[int(place) + 1] - sizes[int(place)])
    found = get_method("t-shirt", keep="rows", informative=0.3).score(statistics)
    assert np.isfinite(found).all()
    for a, b in zip(statistics.cu_seqlens, statistics.cu_seqlens[1:], strict=False):
        trained = [t for t in range(a, b) if labels[t] != -100]
        chosen = [float(change[t]) for t in trained if abs(float(change[t])) > bound]
        for t in trained:
            mean = sum(float(change[u]) for u in trained) / len(trained)
            selective = math.exp(sum(chosen) / max(1, len(chosen)))
            assert found[t] == pytest.approx(selective if mean < 0 else -math.exp(mean), rel=1e-4)


def test_fit_takes_the_threshold_of_all_shards():
    statistics = figures(WITH, WITHOUT)
    parts = [
        Statistics(
            statistics.cu_seqlens[a : b + 1] - statistics.cu_seqlens[a],
            statistics.labels[statistics.cu_seqlens[a] : statistics.cu_seqlens[b]],
            {k: v[statistics.cu_seqlens[a] : statistics.cu_seqlens[b]] for k, v in statistics.values.items()},
        )
        for a, b in ((0, 1), (1, 3))
    ]
    method = get_method("t-shirt", keep="rows").fit(lambda: parts)
    assert method == get_method("t-shirt", keep="rows", threshold=0.75)
    together = np.concatenate([method.score(part) for part in parts])
    assert np.array_equal(together, get_method("t-shirt", keep="rows").score(statistics))
    assert get_method("t-shirt").fit(lambda: parts) == get_method("t-shirt")
    assert get_method("t-shirt", keep="rows").fit(lambda: []) == get_method("t-shirt", keep="rows")


def test_what_is_measured_and_when():
    method = get_method("t-shirt")
    assert method.needs == {("base", "loss"), ("base", "loss_without_prompt")}
    assert not method.online
    assert not method.weighted


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("keep", "examples"), ("informative", 0), ("informative", 1.1), ("threshold", -1), ("threshold", math.nan)],
)
def test_out_of_range(parameter, value):
    with pytest.raises(TokensieveError, match=parameter):
        get_method("t-shirt", **{parameter: value})
