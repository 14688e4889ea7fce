from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tokensieve.containers import LOSS
from tokensieve.errors import TokensieveError
from tokensieve.measure.forward import Forward
from tokensieve.models import torch_private
from tokensieve.models.loading import load_model
from tokensieve.models.settings import ModelSettings

needs_onednn = pytest.mark.skipif(not torch_private._available(), reason="PyTorch has no oneDNN for this processor")


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_product_is_that_of_the_layer(bias):
    layer = nn.Linear(40, 70, bias=bias)
    product = torch_private.packed(layer.weight, layer.bias)
    assert product is not None
    for shape in ((3, 5, 40), (1, 40), (2000, 40)):
        values = torch.randn(shape)
        with torch.inference_mode():
            torch.testing.assert_close(product(values), layer(values), rtol=1e-5, atol=1e-5)


def test_what_is_not_plain_float32_on_a_cpu_is_left_to_pytorch():
    assert torch_private.packed(torch.zeros(4, 4, dtype=torch.bfloat16), None) is None
    assert torch_private.packed(torch.zeros(4, 4, device="meta"), None) is None


@needs_onednn
def test_layers_are_packed_for_as_long_as_the_block_lasts():
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(4, 4), Own(4, 4), nn.Linear(4, 4))
    vars(model[2])["forward"] = own = lambda values: values
    with torch_private.packed_layers(model):
        assert ["forward" in vars(layer) for layer in model] == [True, False, True]
        assert model[2].forward is own
    assert ["forward" in vars(layer) for layer in model] == [False, False, True]


@pytest.fixture
def model(tiny_model_folder):
    return load_model(ModelSettings(str(tiny_model_folder("llama"))), torch.device("cpu"))


def losses(model) -> np.ndarray:
    with Forward(model, [LOSS]) as forward:
        (found,) = forward.statistics([np.array([5, 7, 9, 11, 3])], [np.arange(1, 5)])
    return found["loss"]


@needs_onednn
def test_losses_are_measured_with_packed_products_of_models_that_are_small(model, monkeypatch):
    used = []
    real = torch_private.packed
    monkeypatch.setattr(torch_private, "packed", lambda *given: used.append(given) or real(*given))
    packed = losses(model)
    assert len(used) > 2
    assert not any("forward" in vars(layer) for layer in model.modules())
    used.clear()
    monkeypatch.setattr(torch_private, "_PACKED_BYTES", 10)
    np.testing.assert_allclose(packed, losses(model), rtol=1e-5, atol=1e-5)
    assert used == []


def test_products_that_pytorch_has_changed_are_an_error(model, monkeypatch):
    monkeypatch.setattr(torch_private, "packed", lambda weight, bias: lambda values: values @ weight.T * 1.5)
    with pytest.raises(TokensieveError, match="the logits of LlamaForCausalLM are not those of its head"):
        losses(model)
