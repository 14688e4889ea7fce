"""The published code's own selections, on losses with many ties."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.methods import get_method

FILE = Path(__file__).with_name("token_cleaning_selection.npz")
CASES = ["c0", "c1", "c2", "c3"]
FRACTIONS = ["0.6", "0.29", "0.1", "1.0"]


@pytest.fixture(scope="module")
def golden():
    with np.load(FILE, allow_pickle=False) as archive:
        return dict(archive)


def test_every_case_is_tested(golden):
    tested = {
        f"{case}_{scope}_{f}_selected_labels" for case in CASES for scope in ("global", "sample") for f in FRACTIONS
    }
    assert tested == {name for name in golden if name.endswith("_selected_labels")}


@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize(("theirs", "ours"), [("global", "dataset"), ("sample", "example")])
@pytest.mark.parametrize("case", CASES)
def test_labels_are_exactly_theirs(case, theirs, ours, fraction, golden):
    statistics = Statistics(
        golden[f"{case}_cu_seqlens"],
        golden[f"{case}_labels"],
        {
            ("base", "loss"): golden[f"{case}_base_loss"],
            ("reference", "loss"): golden[f"{case}_reference_loss"],
        },
    )
    selected = get_method("token-cleaning", fraction=float(fraction), scope=ours).select(statistics)
    expected = golden[f"{case}_{theirs}_{fraction}_selected_labels"]
    assert np.array_equal(selected, expected)
    if case != "c2" and fraction != "1.0":
        assert 0 < (expected != -100).sum() < statistics.trainable.sum()
