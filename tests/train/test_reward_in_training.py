"""`preference-guided` on loaded models: plain arrays, and `TokenSelectionTrainer`."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from online import load, make_rows, trainer_for

from tokensieve import add_reward_head, get_method, measure_tokens
from tokensieve.errors import TokensieveError
from tokensieve.models.reward import RewardHead


@pytest.fixture
def reward_model(base, tmp_path):
    torch.manual_seed(3)
    head = RewardHead(16, 8)
    torch.nn.init.normal_(head.outer.weight, std=3.0)  # rewards far from each other
    (tmp_path / "head").mkdir()
    head.save(tmp_path / "head")
    return add_reward_head(load(base), tmp_path / "head")


def test_the_trainer_weighs_as_arrays_at_hand_say(base, tokenizer, tmp_path, reward_model):
    rows = make_rows()
    statistics = measure_tokens({"reward": reward_model}, rows["input_ids"], rows["labels"], "preference-guided")
    wanted = get_method("preference-guided").weights(statistics, statistics.trainable, 0.0)
    of_rows = {
        tuple(statistics.labels[a:b].tolist()): wanted[a:b] for a, b in itertools.pairwise(statistics.cu_seqlens)
    }
    trainer = trainer_for(base, tokenizer, tmp_path, "preference-guided", models={"reward": reward_model})
    trainer.train()
    [(seen, _, weights)] = trainer.seen
    assert len(seen) == len(rows)
    for a, b in itertools.pairwise(seen.cu_seqlens):
        expected = of_rows[tuple(seen.labels[a:b].tolist())]
        assert np.allclose(weights[a:b], expected, rtol=1e-4)
    assert np.ptp(wanted[statistics.trainable]) > 0.1


def test_the_trainer_refuses_to_train_without_a_reward_model(base, tokenizer, tmp_path):
    with pytest.raises(TokensieveError, match="needs reward of a model in the role 'reward', and none is given"):
        trainer_for(base, tokenizer, tmp_path, "preference-guided")
    with pytest.raises(TokensieveError, match="gives no reward for each token"):
        trainer_for(base, tokenizer, tmp_path, "preference-guided", models={"reward": load(base)})
