from __future__ import annotations

import math

import numpy as np
import pytest

from tokensieve.containers import IGNORE_INDEX, Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.methods.q_tuning import QTuning


def figures(losses, entropies, lengths, labels=None, role="base", turn_end=None) -> Statistics:
    tokens = int(np.sum(lengths))
    return Statistics(
        np.concatenate([[0], np.cumsum(lengths)]),
        np.ones(tokens, dtype=np.int64) if labels is None else np.asarray(labels),
        {(role, "loss"): np.asarray(losses, np.float32), (role, "entropy"): np.asarray(entropies, np.float32)},
        turn_end=turn_end,
    )


def rows_of(errors, uncertainties, role="base", turn_end=None) -> Statistics:
    """One row of two equal tokens for each pair."""
    return figures(np.repeat(errors, 2), np.repeat(uncertainties, 2), [2] * len(errors), role=role, turn_end=turn_end)


CORNERS = [9.0, 1.0, 8.0, 2.0], [1.0, 9.0, 8.0, 2.0]
"""A misconception, a calibration row, noise and what is known."""


@pytest.mark.parametrize("role", ["base", "current"])
def test_rows_of_two_corners_are_kept_and_the_others_dropped_with_the_ends_of_their_turns(role):
    turn_end = np.array([False, True] * 4)
    method = QTuning(keep_rows=0.5, keep_tokens=0.5, current=role)
    statistics = rows_of(*CORNERS, role=role, turn_end=turn_end)
    assert method.rows(statistics).tolist() == [True, True, False, False]
    # Of the misconception, the first of two equal tokens is dropped; turn ends of kept rows stay.
    assert (method.select(statistics) != IGNORE_INDEX).tolist() == [False, True, True, True] + [False] * 4
    assert method.score(statistics)[2:].tolist() == [1, 1, -1, -1, -1, -1]
    assert method.reasons(statistics)[3:].tolist() == [0, 1, 1, 1, 1]
    assert method.online == (role == "current")


def test_the_rows_are_those_of_a_search_for_the_quantile():
    generator = np.random.default_rng(0)
    errors, uncertainties = generator.permutation(40.0 * np.arange(50)), generator.permutation(np.arange(50.0))
    order = {axis: sorted(values.tolist()) for axis, values in (("e", errors), ("u", uncertainties))}

    def kept(inward: int) -> list[bool]:
        low, high = ({axis: values[place] for axis, values in order.items()} for place in (inward, 49 - inward))
        return [
            bool((e >= high["e"] and u <= low["u"]) or (e <= low["e"] and u >= high["u"]))
            for e, u in zip(errors, uncertainties, strict=True)
        ]

    statistics = rows_of(errors, uncertainties)
    for share in (0.02, 0.1, 0.3, 0.5, 0.9, 1.0):
        expected = next(found for found in map(kept, range(50)) if sum(found) >= share * 50)
        method = QTuning(keep_rows=share).fit(lambda: [statistics])
        assert method.rows(statistics).tolist() == expected
        parts = [rows_of(errors[:20], uncertainties[:20]), rows_of(errors[20:], uncertainties[20:])]
        assert QTuning(keep_rows=share).fit(lambda parts=parts: parts) == method


def test_tokens_of_a_misconception_are_those_of_a_loop():
    generator = np.random.default_rng(1)
    lengths, labels = [7, 1, 30, 12], np.where(generator.random(50) < 0.8, 1, IGNORE_INDEX)
    losses = 5 * generator.random(50)
    losses[10] = 800  # of which the exponential is beyond float64
    statistics = figures(losses, np.zeros(50), lengths, labels)
    cuts = (-1.0, 0.0, 1.0, 2.0)  # every row is a misconception
    method = QTuning(keep_tokens=0.6, smoothing=0.3, cuts=cuts)
    found = method.select(statistics) != IGNORE_INDEX
    start = 0
    for length in lengths:
        places = [t for t in range(start, start + length) if labels[t] != IGNORE_INDEX]
        perplexity = [math.exp(min(float(np.float32(losses[t])), 700)) for t in places]
        smoothed = []
        for i, own in enumerate(perplexity):
            before = perplexity[i - 1] if i else own
            after = perplexity[i + 1] if i + 1 < len(places) else own
            smoothed.append(0.7 * own + 0.3 * (before / 2 + after / 2))
        keep = max(1, int(0.6 * len(places))) if places else 0
        likely = sorted(range(len(places)), key=lambda i: smoothed[i])[:keep]
        assert found[start : start + length].nonzero()[0].tolist() == sorted(places[i] - start for i in likely)
        start += length


def test_a_row_without_an_answer_counts_for_nothing():
    statistics = figures([5.0, 5.0, 1.0], [1.0, 1.0, 9.0], [2, 1], [IGNORE_INDEX, IGNORE_INDEX, 1])
    assert QTuning(keep_rows=1.0).rows(statistics).tolist() == [False, True]
    empty = figures([5.0], [1.0], [1], [IGNORE_INDEX])
    assert QTuning().fit(lambda: [empty]) == QTuning()


def test_cuts_that_are_no_numbers_are_refused():
    with pytest.raises(TokensieveError, match="cuts"):
        get_method("q-tuning", cuts=[1.0, math.nan, 1.0, 1.0])
    assert get_method("q-tuning", cuts=[0, 1, 0, 1]) == QTuning(cuts=(0, 1, 0, 1))
