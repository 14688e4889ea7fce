"""What is made of the weights that the processes of a sharded training give back."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tokensieve.errors import TokensieveError
from tokensieve.models.settings import ModelSettings
from tokensieve.train.adapter import lora_config
from tokensieve.train.settings import LoraSettings
from tokensieve.train.sharded import check_shards, whole_model


def trained(base, lora=None):
    """Return the weights of a model that has left its base, under every name as FSDP 2 has them, and its trainer."""
    model = AutoModelForCausalLM.from_pretrained(base.path)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    if lora is not None:
        model = get_peft_model(model, lora_config(lora))
    with torch.no_grad():
        for number, weight in enumerate(model.parameters()):
            weight.add_(0.01 * (number + 1))
    gathered = {name: weight.clone() for name, weight in model.state_dict().items()}
    accelerator = SimpleNamespace(
        is_main_process=True,
        get_state_dict=lambda _: gathered,
        unwrap_model=lambda one: one,
        state=SimpleNamespace(deepspeed_plugin=None),
    )
    return gathered, SimpleNamespace(
        accelerator=accelerator, model_wrapped=model, is_fsdp_enabled=True, is_deepspeed_enabled=False
    )


@pytest.mark.parametrize("lora", [None, LoraSettings(r=2)])
def test_a_model_of_gathered_weights_is_saved_as_the_one_in_training(lora, base, tmp_path):
    _, trainer = trained(base, lora)
    trainer.model_wrapped.save_pretrained(tmp_path / "one")
    whole_model(trainer, ModelSettings(base.path), lora).save_pretrained(tmp_path / "whole")
    (saved,) = (tmp_path / "one").glob("*.safetensors")
    one, whole = load_file(saved), load_file(tmp_path / "whole" / saved.name)
    assert one.keys() == whole.keys()
    assert "lm_head.weight" not in whole, "tied weights are saved once"
    assert all(torch.equal(whole[name], value) for name, value in one.items())


def test_weights_that_did_not_come_back_are_no_model(base):
    lora = LoraSettings(r=2)
    weights, trainer = trained(base, lora)
    del weights[next(name for name in weights if "lora_B" in name)]
    with pytest.raises(TokensieveError, match=r"did not give back .*lora_B"):
        whole_model(trainer, ModelSettings(base.path), lora)


def test_the_other_processes_have_no_model(base):
    _, trainer = trained(base)
    trainer.accelerator.is_main_process = False
    assert whole_model(trainer, ModelSettings(base.path), None) is None


@pytest.mark.parametrize("name", ["FSDP", "DeepSpeed"])
def test_sharding_that_accelerate_leaves_out_is_refused(name, monkeypatch):
    trainer = SimpleNamespace(is_fsdp_enabled=False, is_deepspeed_enabled=False)
    check_shards(trainer)
    monkeypatch.setenv(f"ACCELERATE_USE_{name.upper()}", "true")
    with pytest.raises(TokensieveError, match=f"asks for {name}"):
        check_shards(trainer)
    check_shards(SimpleNamespace(is_fsdp_enabled=True, is_deepspeed_enabled=True))
