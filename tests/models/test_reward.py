from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    LlamaConfig,
    Qwen2Config,
    dynamic_module_utils,
)

from tokensieve.containers import StatisticSpec
from tokensieve.errors import TokensieveError
from tokensieve.measure.forward import Forward
from tokensieve.models.identity import model_identity
from tokensieve.models.loading import scores_states
from tokensieve.models.pool import ModelPool
from tokensieve.models.reward import HEAD_FILE, RewardHead, add_reward_head
from tokensieve.models.settings import ModelSettings

REWARD = StatisticSpec("reward")
IDS = [[1, 7, 3, 9, 4, 8], [1, 5, 6], [1, 2, 30, 31, 32, 33, 34, 35, 36]]


SHAPE: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


def made(auto, labels=1):
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPE)
    config.num_labels = labels
    model = auto.from_config(config).eval()
    for name, weight in model.named_parameters():
        if name.startswith("score"):
            torch.nn.init.normal_(weight, std=0.1)
    return model


def rewards(model) -> list[list[float]]:
    with Forward(model, [REWARD]) as forward:
        found = forward.statistics([np.array(ids) for ids in IDS], [np.arange(1, len(ids)) for ids in IDS])
    return [values["reward"].tolist() for values in found]


def by_itself(model, read) -> list[list[float]]:
    with torch.no_grad():
        return [read(model(torch.tensor([ids]), output_hidden_states=True))[0, 1:].tolist() for ids in IDS]


@pytest.fixture
def head_folder(tmp_path):
    torch.manual_seed(1)
    RewardHead(32, 16).save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("labels", [1, 2])
def test_a_model_that_scores_tokens_gives_their_rewards(labels):
    model = made(AutoModelForTokenClassification, labels)
    expected = by_itself(
        model, lambda out: out.logits[..., 0].sigmoid() if labels == 1 else out.logits.softmax(-1)[..., 1]
    )
    for found, wanted in zip(rewards(model), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-6)
        assert np.ptp(found) > 0.001


def test_a_sequence_reward_model_is_applied_at_every_position():
    model = made(AutoModelForSequenceClassification)
    expected = by_itself(model.model, lambda out: model.score(out.last_hidden_state).squeeze(-1).sigmoid())
    for found, wanted in zip(rewards(model), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-6)


def test_a_head_reads_the_state_at_the_token_itself(head_folder):
    model, head = made(AutoModelForCausalLM), RewardHead.load(head_folder)
    expected = by_itself(model, lambda out: head(out.hidden_states[-1]))
    for found, wanted in zip(rewards(add_reward_head(model, head_folder)), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-6)


def test_rewards_stand_beside_losses_of_the_same_pass(head_folder):
    model = add_reward_head(made(AutoModelForCausalLM), head_folder)
    with Forward(model, [REWARD, StatisticSpec("loss")]) as forward:
        both = forward.statistics([np.array(IDS[0])], [np.arange(1, 6)])[0]
    with Forward(model, [StatisticSpec("loss")]) as forward:
        alone = forward.statistics([np.array(IDS[0])], [np.arange(1, 6)])[0]
    assert both["reward"].tolist() == pytest.approx(rewards(model)[0], abs=1e-6)
    assert both["loss"].tolist() == pytest.approx(alone["loss"].tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("auto", "labels"), [(AutoModelForCausalLM, 1), (AutoModelForTokenClassification, 3)], ids=["no head", "3 labels"]
)
def test_a_model_without_a_reward_is_refused(auto, labels):
    with pytest.raises(TokensieveError, match="gives no reward for each token") as error:
        Forward(made(auto, labels), [REWARD])
    assert "models.reward: {preferences: FILE}" in error.value.hint


def test_a_loss_of_a_model_without_a_language_model_head_is_refused():
    with pytest.raises(TokensieveError, match="no output embedding"):
        Forward(made(AutoModelForTokenClassification), [StatisticSpec("loss")])


def test_a_head_that_does_not_fit_is_refused(tmp_path):
    model = made(AutoModelForCausalLM)
    with pytest.raises(TokensieveError, match=f"no {HEAD_FILE} in this folder"):
        add_reward_head(model, tmp_path)
    save_file({"inner.weight": torch.zeros(4, 32)}, tmp_path / HEAD_FILE)
    with pytest.raises(TokensieveError, match="not a reward head"):
        add_reward_head(model, tmp_path)
    RewardHead(64, 8).save(tmp_path)
    with pytest.raises(TokensieveError, match="reads 64 numbers a token, the model gives 32"):
        add_reward_head(model, tmp_path)


def test_the_pool_gives_a_model_with_its_head_and_without(tmp_path, head_folder):
    folder = tmp_path / "model"
    made(AutoModelForCausalLM).save_pretrained(folder)
    base, pool = ModelSettings(str(folder)), ModelPool("cpu")
    reward = ModelSettings(str(folder), reward_head=str(head_folder))
    with pool.use(reward) as model:
        found, first = rewards(model), model
    with pool.use(base) as model:
        assert model is first
        with pytest.raises(TokensieveError, match="gives no reward"):
            rewards(model)
    assert found[0] == pytest.approx(rewards(add_reward_head(made(AutoModelForCausalLM), head_folder))[0], abs=1e-6)
    assert model_identity(base).items() < model_identity(reward).items()


def test_a_folder_that_scores_tokens_is_loaded_as_what_it_is(tmp_path):
    model = made(AutoModelForTokenClassification)
    model.save_pretrained(tmp_path)
    with ModelPool("cpu").use(ModelSettings(str(tmp_path))) as loaded:
        found = rewards(loaded)
    for one, wanted in zip(found, rewards(model), strict=True):
        assert one == pytest.approx(wanted, abs=1e-6)


PROCESS_REWARD_MODEL = """
from torch import nn
from transformers import Qwen2Model, Qwen2PreTrainedModel
from transformers.modeling_outputs import TokenClassifierOutput


class Qwen2ForProcessRewardModel(Qwen2PreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = Qwen2Model(config)
        size = config.hidden_size
        self.score = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, 2))
        self.post_init()

    def forward(self, input_ids, **keywords):
        output = self.model(input_ids, **keywords)
        return TokenClassifierOutput(logits=self.score(output.last_hidden_state))
"""


@pytest.fixture
def process_reward_model(tmp_path, monkeypatch):
    """Return the folder of a process reward model with code of its own, and the class of that code."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "modeling_judge.py").write_text(PROCESS_REWARD_MODEL)
    names: dict[str, Any] = {}
    exec(PROCESS_REWARD_MODEL, names)
    cls = names["Qwen2ForProcessRewardModel"]
    torch.manual_seed(0)
    model = cls(Qwen2Config(**SHAPE, num_key_value_heads=2))
    for weight in model.score.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    code = {"AutoModel": "modeling_judge.Qwen2ForProcessRewardModel"}
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": code}))
    return folder, model.eval()


def test_a_process_reward_model_gives_its_rewards_with_its_own_code(process_reward_model):
    folder, model = process_reward_model
    trusted = ModelSettings(str(folder), trust_remote_code=True)
    assert scores_states(trusted)
    with ModelPool("cpu").use(trusted) as loaded:
        found = rewards(loaded)
    expected = by_itself(model.model, lambda out: model.score(out.last_hidden_state).softmax(-1)[..., 1])
    for one, wanted in zip(found, expected, strict=True):
        assert one == pytest.approx(wanted, abs=1e-6)
        assert np.ptp(one) > 0.001


def test_a_process_reward_model_whose_code_is_not_trusted_is_refused(process_reward_model):
    folder, _ = process_reward_model
    with (
        pytest.raises(TokensieveError) as error,
        ModelPool("cpu").use(ModelSettings(str(folder))) as loaded,
        Forward(loaded, [REWARD]),
    ):
        pytest.fail("it was measured")
    assert "trust_remote_code" in f"{error.value} {error.value.hint}"
