from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tokensieve.report.recovered import recovered_in_words
from tokensieve.runs.outcomes import Outcomes

COUNTS = np.full(40, 10, dtype=np.int64)


def arm(name: str, method: str, loss: float, **parameters: str) -> Any:
    noise = np.random.default_rng(len(name)).normal(0, 0.1, (1, 40))
    outcomes = Outcomes((loss + noise) * COUNTS, COUNTS, (0,), "the same")
    selection = SimpleNamespace(method=method, parameters=parameters)
    return SimpleNamespace(name=name, selection=selection, outcomes={"held_out": outcomes})


@pytest.fixture
def words(monkeypatch):
    """What is said of a run with these arms, the first of which is that of its method."""
    monkeypatch.setattr(
        "tokensieve.report.recovered.ComparedRow",
        lambda _, row, view: SimpleNamespace(
            name=row.name, row=row, outcomes=row.outcomes, is_method=lambda name: row.selection.method == name
        ),
    )
    return lambda *arms: recovered_in_words(SimpleNamespace(rows=arms, method=arms[0].name))  # pyright: ignore


def test_the_share_of_the_gain(words):
    true_mask = arm("marked", "marked", 1.0, keep="unmarked")
    said = words(arm("rho-1", "rho-1", 2.0), arm("random", "random", 3.0), true_mask)
    assert said.startswith("held-out loss: rho-1 recovers 5")
    assert said.endswith(" %) of what the true mask (marked) gains over random tokens")


def test_a_true_mask_that_gains_nothing(words):
    true_mask = arm("marked", "marked", 3.0, keep="unmarked")
    said = words(arm("rho-1", "rho-1", 2.9), arm("random", "random", 3.0), true_mask)
    assert "the true mask (marked) is not clearly better than random tokens" in said


def test_nothing_is_said_without_a_true_mask_or_random_tokens(words):
    anti_mask = arm("marked", "marked", 1.0, keep="marked")
    true_mask = arm("marked", "marked", 1.0, keep="unmarked")
    method, random = arm("rho-1", "rho-1", 2.0), arm("random", "random", 3.0)
    assert words(method, random, anti_mask) == words(method, true_mask) == words(true_mask, random) == ""
