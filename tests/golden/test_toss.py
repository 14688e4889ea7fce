"""TOSS drops what Token Cleaning's published ranking keeps, with the utility model as its base: ties included."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.golden.test_token_cleaning import CASES, FILE, FRACTIONS
from tokensieve.containers import Statistics
from tokensieve.methods import get_method
from tokensieve.select.streaming import read_selection, select_shards


@pytest.fixture(scope="module")
def golden():
    with np.load(FILE, allow_pickle=False) as archive:
        return dict(archive)


def statistics_of(golden, case, first=0, last=None) -> Statistics:
    cu_seqlens = golden[f"{case}_cu_seqlens"]
    cu_seqlens = cu_seqlens[first : len(cu_seqlens) if last is None else last + 1]
    span = slice(cu_seqlens[0], cu_seqlens[-1])
    values = {
        ("utility", "loss"): golden[f"{case}_base_loss"][span],
        ("unsafe", "loss"): golden[f"{case}_reference_loss"][span],
    }
    return Statistics(cu_seqlens - cu_seqlens[0], golden[f"{case}_labels"][span], values)


def complement(golden, case, theirs, fraction):
    labels = golden[f"{case}_labels"]
    return np.where(golden[f"{case}_{theirs}_{fraction}_selected_labels"] == -100, labels, -100)


@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize(("theirs", "ours"), [("global", "dataset"), ("sample", "example")])
@pytest.mark.parametrize("case", CASES)
def test_labels_are_exactly_the_complement(case, theirs, ours, fraction, golden):
    selected = get_method("toss", discard=float(fraction), scope=ours).select(statistics_of(golden, case))
    assert np.array_equal(selected, complement(golden, case, theirs, fraction))


@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize("case", CASES)
def test_so_are_those_of_shards(case, fraction, golden, tmp_path):
    examples = len(golden[f"{case}_cu_seqlens"]) - 1
    bounds = sorted({0, examples // 3, examples // 2, examples})
    parts = [statistics_of(golden, case, *span) for span in itertools.pairwise(bounds)]
    method = get_method("toss", discard=float(fraction))
    select_shards(method, method.rule, lambda n: (parts[n], np.arange(len(parts[n]))), len(parts), tmp_path)
    kept = np.concatenate([read_selection(tmp_path, number)[1] for number in range(len(parts))])
    assert np.array_equal(kept, complement(golden, case, "global", fraction) != -100)


def test_the_cut_goes_through_ties(golden):
    """Else the order among equals would not be tested."""
    through = 0
    for case, fraction in itertools.product(CASES, FRACTIONS):
        statistics = statistics_of(golden, case)
        score = get_method("toss").score(statistics)
        kept = golden[f"{case}_global_{fraction}_selected_labels"] != -100
        through += bool(set(score[kept].tolist()) & set(score[statistics.trainable & ~kept].tolist()))
    assert through == 2
