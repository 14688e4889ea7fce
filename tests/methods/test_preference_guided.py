from __future__ import annotations

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.methods import get_method


def figures(rewards, labels, lengths) -> Statistics:
    return Statistics(np.concatenate([[0], np.cumsum(lengths)]), np.array(labels), {("reward", "reward"): rewards})


def test_a_token_has_its_share_of_the_rewards_of_its_answer():
    statistics = figures([9, 0.2, 0.6, 9, 0.5, 0.5, 0.25, 0.75], [-100, 1, 2, -100, 3, 4, 5, 6], [3, 5])
    method = get_method("preference-guided")
    weights = method.weights(statistics, statistics.trainable, 0.0)
    # Six tokens of two answers: a mean of 3.
    assert weights.tolist() == pytest.approx([0, 0.75, 2.25, 0, 0.75, 0.75, 0.375, 1.125])
    assert method.select(statistics).tolist() == statistics.labels.tolist()
    kept = statistics.trainable & (np.arange(8) != 2)
    assert method.weights(statistics, kept, 0.0)[2] == 0


def test_the_weights_are_those_of_a_loop():
    generator = np.random.default_rng(0)
    lengths = [20, 0, 1, 33, 46]
    rewards = generator.random(100).astype(np.float32) ** 8
    labels = np.where(generator.random(100) < 0.7, 1, -100)
    statistics = figures(rewards, labels, lengths)
    found = get_method("preference-guided").weights(statistics, statistics.trainable, 0.5)
    answers = [
        [t for t in range(a, b) if labels[t] != -100]
        for a, b in zip(statistics.cu_seqlens, statistics.cu_seqlens[1:], strict=False)
    ]
    mean = sum(map(len, answers)) / sum(map(bool, answers))
    expected = np.zeros(100)
    for answer in answers:
        for t in answer:
            expected[t] = float(rewards[t]) / sum(float(rewards[u]) for u in answer) * mean
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert found[statistics.trainable].mean() == pytest.approx(1)


def test_the_loss_is_the_mean_over_answers():
    """Divided by the number of tokens, as a trainer divides it."""
    generator = np.random.default_rng(1)
    rewards, losses = generator.random(12).astype(np.float32), generator.random(12)
    statistics = figures(rewards, [1] * 12, [2, 10])
    weights = get_method("preference-guided").weights(statistics, statistics.trainable, 0.0)
    sums = [(rewards[part] * losses[part]).sum() / rewards[part].sum() for part in (slice(2), slice(2, 12))]
    assert (weights * losses).sum() / 12 == pytest.approx(sum(sums) / 2)


def test_rewards_of_nothing_weigh_alike():
    statistics = figures([0, 0, 0.5, 0], [1, 1, 1, 1], [2, 2])
    weights = get_method("preference-guided").weights(statistics, statistics.trainable, 0.0)
    assert weights.tolist() == [1, 1, 2, 0]
