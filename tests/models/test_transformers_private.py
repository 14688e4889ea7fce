"""What tokensieve uses of transformers beyond its documented API, by name: a change of it fails here first."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tokensieve.errors import TokensieveError
from tokensieve.models import transformers_private
from tokensieve.models.transformers_private import NEWEST_TESTED, decoder, replaced_attention


@pytest.fixture(params=["sdpa", "eager"])
def model(request, tiny_model_folder):
    folder = tiny_model_folder("llama")
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation=request.param).eval()


def test_the_private_names_are_where_they_are_looked_for(model):
    assert isinstance(ALL_ATTENTION_FUNCTIONS._local_mapping, dict)
    assert model.config.get_text_config()._attn_implementation in ("sdpa", "eager")
    assert callable(transformers.models.llama.modeling_llama.eager_attention_forward)
    assert decoder(model) is model.model


def test_the_installed_version_is_one_that_is_tested():
    newest, here = (tuple(map(int, v.split(".")[:2])) for v in (NEWEST_TESTED, transformers.__version__))
    assert here <= newest, "run tests/models, tests/measure and tests/train, then raise NEWEST_TESTED"


def test_every_layer_calls_the_replacement_until_the_block_ends(model):
    called = []

    def replace(original):
        def attend(module, *arguments, **keywords):
            called.append(module.layer_idx)
            return original(module, *arguments, **keywords)

        return attend

    ids, name = torch.tensor([[5, 6, 7]]), model.config._attn_implementation
    before, function = model(ids).logits, ALL_ATTENTION_FUNCTIONS.get(name)
    with replaced_attention(model, replace):
        assert torch.equal(model(ids).logits, before)
    assert called == [0, 1]
    assert ALL_ATTENTION_FUNCTIONS.get(name) is function
    assert name not in ALL_ATTENTION_FUNCTIONS._local_mapping or function is not None


def test_an_earlier_replacement_comes_back(model):
    name, outer = model.config._attn_implementation, []
    with replaced_attention(model, lambda original: outer.append(original) or original):
        mine = ALL_ATTENTION_FUNCTIONS[name]
        with pytest.raises(RuntimeError, match="inside"), replaced_attention(model, lambda _: lambda *_: None):
            raise RuntimeError("inside")
        assert ALL_ATTENTION_FUNCTIONS[name] is mine
    assert len(outer) == 1


@pytest.mark.parametrize("name", ["ALL_ATTENTION_FUNCTIONS", "_local_mapping", "_attn_implementation"])
def test_what_moved_is_named(name, model, monkeypatch):
    if name == "ALL_ATTENTION_FUNCTIONS":
        monkeypatch.delattr(transformers.modeling_utils, name)
    elif name == "_local_mapping":
        monkeypatch.setattr(transformers_private, "_registry", dict)
    else:
        monkeypatch.setattr(model.config, "get_text_config", object)
    with pytest.raises(TokensieveError, match=rf"has no `.*{name}`") as error, replaced_attention(model, lambda f: f):
        pass
    assert NEWEST_TESTED in error.value.hint


def test_a_model_without_a_decoder_is_refused():
    with pytest.raises(TokensieveError, match="Linear does not say which of its parts is the decoder"):
        decoder(torch.nn.Linear(1, 1))
