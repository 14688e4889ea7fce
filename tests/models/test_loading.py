from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoConfig, PreTrainedModel

from tokensieve.errors import TokensieveError
from tokensieve.models.loading import check_adapter, load_config, load_model
from tokensieve.models.settings import ModelSettings


def test_models_that_threads_load_at_once_have_their_weights(tiny_model_folder):
    settings, cpu = ModelSettings(str(tiny_model_folder("gpt2"))), torch.device("cpu")
    tie_weights = PreTrainedModel.tie_weights
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(lambda _: load_model(settings, cpu), range(24)))
    assert PreTrainedModel.tie_weights is tie_weights
    assert all(model.lm_head.weight is model.transformer.wte.weight for model in loaded)


def test_an_error_of_a_library_that_says_nothing_is_named(tiny_model_folder, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError

    folder = tiny_model_folder("gpt2")
    monkeypatch.setattr(AutoConfig, "from_pretrained", refuse)
    with pytest.raises(TokensieveError, match="the model's configuration cannot be read: AssertionError"):
        load_config(ModelSettings(str(folder)))


@pytest.mark.parametrize("text", ['{"peft_type": "LO', "[]]", "7", "\xff"])
def test_a_damaged_configuration_of_an_adapter_is_named(tmp_path, text):
    (tmp_path / "adapter_config.json").write_bytes(text.encode("latin-1"))
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(TokensieveError, match=r"(?s)configuration is damaged.*adapter_config\.json.*hint"):
        check_adapter(str(tmp_path))
