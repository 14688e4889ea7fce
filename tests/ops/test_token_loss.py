from __future__ import annotations

import pytest
import torch

from tokensieve.ops import token_loss
from tokensieve.ops.token_loss import LOSS_STATISTICS, token_statistics


def reference(hidden, weight, targets):
    log_p = (hidden.double() @ weight.double().T).log_softmax(-1)
    return {
        "loss": -log_p.gather(-1, targets[:, None])[:, 0],
        "entropy": -(log_p.exp() * log_p).sum(-1),
        "top1": (log_p.gather(-1, targets[:, None])[:, 0] >= log_p.amax(-1)).double(),
    }


@pytest.mark.parametrize("rows", [1, 2, 253])
@pytest.mark.parametrize("vocabulary", [2, 97, 1009])
@pytest.mark.parametrize("chunk", [1, 1009, 5000, 2**21])
def test_equals_a_log_softmax_in_float64(rows, vocabulary, chunk, monkeypatch):
    monkeypatch.setitem(token_loss._CHUNK_ELEMENTS, "cpu", chunk)
    generator = torch.Generator().manual_seed(rows * vocabulary)
    hidden = torch.randn(rows, 16, generator=generator)
    weight = torch.randn(vocabulary, 16, generator=generator)
    targets = torch.randint(0, vocabulary, (rows,), generator=generator)
    found = token_statistics(hidden, lambda h: h @ weight.T, targets, LOSS_STATISTICS, vocabulary)
    for name, expected in reference(hidden, weight, targets).items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name].double(), expected, rtol=1e-5, atol=2e-5)
    alone = token_statistics(hidden, lambda h: h @ weight.T, targets, ["loss"], vocabulary)
    assert alone.keys() == {"loss"}
    torch.testing.assert_close(alone["loss"], found["loss"])


def test_no_rows():
    found = token_statistics(torch.empty(0, 4), lambda h: h, torch.empty(0, dtype=torch.long), LOSS_STATISTICS, 4)
    assert all(value.shape == (0,) for value in found.values())


def test_tokens_that_a_head_masks_with_minus_infinity_do_not_spoil_the_entropy():
    logits = torch.tensor([[0.0, 0.0, float("-inf")]])
    found = token_statistics(logits, torch.clone, torch.tensor([1]), LOSS_STATISTICS, 3)
    torch.testing.assert_close(found["entropy"], torch.tensor([2.0]).log())
    torch.testing.assert_close(found["loss"], torch.tensor([2.0]).log())


def test_a_tie_for_the_top_counts_as_top1():
    found = token_statistics(torch.tensor([[1.0, 1.0, 0.0]]), torch.clone, torch.tensor([1]), ["top1"], 3)
    assert found["top1"].item() == 1


def test_large_logits_do_not_overflow():
    found = token_statistics(torch.tensor([[1e4, -1e4]]), torch.clone, torch.tensor([0]), LOSS_STATISTICS, 2)
    assert found["loss"].item() == 0
    assert found["entropy"].item() == 0
