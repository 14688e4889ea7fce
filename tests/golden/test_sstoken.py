"""The published code's own selections, from logits and the attention of one layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tokensieve.containers import Statistics
from tokensieve.methods import get_method

FILE = Path(__file__).with_name("sstoken_selection.npz")
EXAMPLES = [f"s{number}" for number in range(12)]
FRACTIONS = ["0.6", "0.8", "0.25"]
GAMMAS = ["0.5", "0.0", "1.0", "0.25"]


@pytest.fixture(scope="module")
def golden():
    with np.load(FILE, allow_pickle=False) as archive:
        return dict(archive)


def statistics_of(golden, example) -> Statistics:
    """Put together what the model measures, from its logits and attention."""
    logits, labels = golden[f"{example}_logits"], golden[f"{example}_labels"]
    loss = np.zeros(len(labels), dtype=np.float32)
    # The prompt's losses are not trained on and have no target here; any target will do.
    target = torch.from_numpy(np.maximum(labels[1:], 0))
    loss[1:] = torch.nn.functional.cross_entropy(torch.from_numpy(logits[:-1]), target, reduction="none").numpy()
    prompt = np.tril(np.ones((len(labels), len(labels)), dtype=bool)) & (labels == -100)
    attention = np.where(prompt, golden[f"{example}_attention_mean_over_heads"], np.float32(0)).sum(axis=1)
    values = {
        ("history", "loss"): golden[f"{example}_history_loss"],
        ("current", "loss"): loss,
        ("current", "attention_to_prompt"): attention,
    }
    return Statistics(np.array([0, len(labels)]), labels, values)


def test_every_selection_is_tested(golden):
    tested = {f"{e}_rho{r}_gamma{g}_selected_labels" for e in EXAMPLES for r in FRACTIONS for g in GAMMAS}
    assert tested == {name for name in golden if name.endswith("_selected_labels")}
    assert len(tested) == 144


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize("example", EXAMPLES)
def test_labels_are_exactly_theirs(example, fraction, gamma, golden):
    statistics = statistics_of(golden, example)
    selected = get_method("sstoken", gamma=float(gamma), fraction=float(fraction)).select(statistics)
    expected = golden[f"{example}_rho{fraction}_gamma{gamma}_selected_labels"]
    assert np.array_equal(selected, expected)
    assert 0 < (expected != -100).sum() <= statistics.trainable.sum()


def test_the_two_halves_of_the_score_choose_differently(golden):
    """A selection that gamma did not change would hide a wrong half."""
    differ = [
        not np.array_equal(*(golden[f"{e}_rho0.6_gamma{g}_selected_labels"] for g in ("0.0", "1.0"))) for e in EXAMPLES
    ]
    assert sum(differ) > 6
