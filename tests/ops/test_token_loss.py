from __future__ import annotations

import itertools

import pytest
import torch

from tokensieve.ops import token_loss
from tokensieve.ops.token_loss import LOGIT_STATISTICS, token_statistics


def reference(hidden, weight, targets):
    log_p = (hidden.double() @ weight.double().T).log_softmax(-1)
    return {
        "loss": -log_p.gather(-1, targets[:, None])[:, 0],
        "entropy": -(log_p.exp() * log_p).sum(-1),
        "concentration": log_p.exp().square().sum(-1),
        "entropy_top20": torch.distributions.Categorical(logits=log_p.topk(min(20, log_p.shape[1])).values).entropy(),
        "top1": (log_p.gather(-1, targets[:, None])[:, 0] >= log_p.amax(-1)).double(),
    }


def some(logits, columns, out):
    """A head that is the identity."""
    return logits[:, columns].clone()


@pytest.fixture(params=[1, 2, 2048])
def columns(request, monkeypatch):
    """The vocabulary of a block, down to one token."""
    monkeypatch.setitem(token_loss._BLOCK, "cpu", (1024, request.param))


@pytest.mark.parametrize(
    ("block", "vocabulary", "rows"),
    [((1, 1), 97, 5), *itertools.product([(64, 100), (253, 1009), (1000, 2000)], [2, 97, 1009], [1, 2, 253])],
)
def test_equals_a_log_softmax_in_float64(rows, vocabulary, block, monkeypatch):
    monkeypatch.setitem(token_loss._BLOCK, "cpu", block)
    generator = torch.Generator().manual_seed(rows * vocabulary)
    hidden = torch.randn(rows, 16, generator=generator)
    weight = torch.randn(vocabulary, 16, generator=generator)
    targets = torch.randint(0, vocabulary, (rows,), generator=generator)
    found = token_statistics(
        hidden, lambda h, columns, out: torch.mm(h, weight[columns].T, out=out), targets, LOGIT_STATISTICS, vocabulary
    )
    for name, expected in reference(hidden, weight, targets).items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name].double(), expected, rtol=1e-5, atol=2e-5)
    alone = token_statistics(
        hidden, lambda h, columns, out: torch.mm(h, weight[columns].T, out=out), targets, ["loss"], vocabulary
    )
    assert alone.keys() == {"loss"}
    torch.testing.assert_close(alone["loss"], found["loss"])


def test_no_rows():
    found = token_statistics(torch.empty(0, 4), some, torch.empty(0, dtype=torch.long), LOGIT_STATISTICS, 4)
    assert all(value.shape == (0,) for value in found.values())


@pytest.mark.usefixtures("columns")
def test_tokens_that_a_head_masks_with_minus_infinity_do_not_spoil_the_entropy():
    logits = torch.tensor([[float("-inf"), 0.0, 0.0]])
    found = token_statistics(logits, some, torch.tensor([1]), LOGIT_STATISTICS, 3)
    torch.testing.assert_close(found["entropy"], torch.tensor([2.0]).log())
    torch.testing.assert_close(found["loss"], torch.tensor([2.0]).log())
    torch.testing.assert_close(found["concentration"], torch.tensor([0.5]))


@pytest.mark.usefixtures("columns")
def test_a_tie_for_the_top_counts_as_top1():
    found = token_statistics(torch.tensor([[1.0, 1.0, 0.0]]), some, torch.tensor([1]), ["top1"], 3)
    assert found["top1"].item() == 1


@pytest.mark.usefixtures("columns")
def test_large_logits_do_not_overflow():
    found = token_statistics(torch.tensor([[1e4, -1e4]]), some, torch.tensor([0]), LOGIT_STATISTICS, 2)
    assert found["loss"].item() == 0
    assert found["entropy"].item() == 0
    assert found["concentration"].item() == 1


@pytest.mark.usefixtures("columns")
@pytest.mark.parametrize("logits", [[-1e4, 0.0, 1e4], [1e4, 0.0, -1e4], [0.0, 200.0, 100.0]])
def test_a_maximum_that_comes_late_rescales_what_was_summed(logits):
    found = token_statistics(torch.tensor([logits]), some, torch.tensor([1]), LOGIT_STATISTICS, 3)
    log_p = torch.tensor([logits], dtype=torch.float64).log_softmax(-1)
    torch.testing.assert_close(found["loss"].double(), -log_p[:, 1])
    torch.testing.assert_close(found["entropy"].double(), -(log_p.exp() * log_p.clamp(min=-1e300)).sum(-1))
    torch.testing.assert_close(found["concentration"].double(), log_p.exp().square().sum(-1))
