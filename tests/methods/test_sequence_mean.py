from __future__ import annotations

import numpy as np
import pytest

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method


def answers(labels, lengths) -> Statistics:
    return Statistics(np.concatenate([[0], np.cumsum(lengths)]), np.array(labels), {})


def test_every_answer_has_the_same_total_weight():
    statistics = answers([-100, 1, 2, -100, 3, 4, 5, 6], [3, 5])
    method = get_method("sequence-mean")
    weights = method.weights(statistics, statistics.trainable, 0.0)
    # Six tokens of two answers: a mean of 3.
    assert weights.tolist() == pytest.approx([0, 1.5, 1.5, 0, 0.75, 0.75, 0.75, 0.75])
    assert method.select(statistics).tolist() == statistics.labels.tolist()


def test_the_loss_is_the_mean_over_answers_of_their_means():
    """Divided by the number of tokens, as a trainer divides it."""
    losses = np.random.default_rng(1).random(12)
    statistics = answers([1] * 12, [2, 10, 0])
    weights = get_method("sequence-mean").weights(statistics, statistics.trainable, 0.0)
    assert (weights * losses).sum() / 12 == pytest.approx((losses[:2].mean() + losses[2:].mean()) / 2)


def test_it_is_preference_guided_with_equal_rewards():
    rng = np.random.default_rng(2)
    labels = np.where(rng.random(60) < 0.7, 1, -100)
    alike = answers(labels, [10, 30, 20])
    rewarded = Statistics(alike.cu_seqlens, labels, {("reward", "reward"): np.full(60, 0.5, np.float32)})
    expected = get_method("preference-guided").weights(rewarded, alike.trainable, 0.0)
    assert get_method("sequence-mean").weights(alike, alike.trainable, 0.0).tolist() == expected.tolist()


def test_fit_takes_the_tokens_of_an_answer_of_all_shards():
    parts = [answers([-100, 1, 1, 1], [4]), answers([1, -100], [1, 1])]
    method = get_method("sequence-mean").fit(lambda: parts)
    assert method == get_method("sequence-mean", tokens_per_answer=2)
    assert method.score(parts[0])[1:].tolist() == pytest.approx([2 / 3] * 3)
    given = get_method("sequence-mean", tokens_per_answer=5)
    assert given.fit(lambda: parts) == given
    assert get_method("sequence-mean").fit(lambda: []) == get_method("sequence-mean", tokens_per_answer=1)


def test_a_mean_below_one_token_is_refused():
    with pytest.raises(TokensieveError, match="tokens_per_answer is"):
        get_method("sequence-mean", tokens_per_answer=0.5)
