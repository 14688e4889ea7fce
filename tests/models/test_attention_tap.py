from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tokensieve.containers import StatisticSpec
from tokensieve.errors import TokensieveError
from tokensieve.models.attention_tap import AttentionTap

SPEC = StatisticSpec.of("attention_to_prompt", {"layer": -1, "heads": "mean"})


@pytest.fixture
def model(tiny_model_folder):
    return AutoModelForCausalLM.from_pretrained(tiny_model_folder("llama")).eval()


def test_a_model_that_calls_no_attention_function_is_refused(model):
    prompt, lengths = torch.ones(1, 3, dtype=torch.bool), torch.tensor([3])
    with (
        AttentionTap(model, [SPEC]) as tap,
        pytest.raises(TokensieveError, match="cannot be intercepted"),
        tap.record(prompt, lengths),
    ):
        model.get_input_embeddings()(torch.tensor([[1, 2, 3]]))


def test_a_model_without_attention_functions_is_refused():
    from transformers import LlamaConfig

    class Bare(torch.nn.Module):
        """A model whose modules come with no attention function."""

        config = LlamaConfig(num_hidden_layers=1)

    refused = pytest.raises(TokensieveError, match="attention of Bare cannot be intercepted")
    with refused, AttentionTap(Bare(), [SPEC]):
        pass


def test_the_attention_function_is_put_back_and_the_logits_do_not_change(model):
    ids = torch.tensor([[5, 6, 7, 8]])
    before, function = model(ids).logits, ALL_ATTENTION_FUNCTIONS["sdpa"]
    with AttentionTap(model, [SPEC]) as tap, tap.record(torch.ones(1, 4, dtype=torch.bool), torch.tensor([4])) as got:
        assert torch.equal(model(ids).logits, before)
    assert torch.allclose(got[SPEC.key], torch.ones(1, 4))  # all of it goes to the prompt where all is prompt
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is function


def test_passes_outside_a_recording_are_not_recorded(model):
    with AttentionTap(model, [SPEC]) as tap:
        model(torch.tensor([[5, 6]]))
        with tap.record(torch.ones(1, 3, dtype=torch.bool), torch.tensor([3])) as found:
            model(torch.tensor([[5, 6, 7]]))
    assert found[SPEC.key].shape == (1, 3)
