from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method

LABELS = [-100, 1, 2, -100, 4]
PROBABILITY = [1.0, 0.25, 0.0625, 1.0, 1.0]


def of_losses(loss, labels) -> Statistics:
    return Statistics(
        np.array([0, len(labels)]), np.array(labels), {("current", "loss"): np.asarray(loss, dtype=np.float32)}
    )


def by_hand() -> Statistics:
    return of_losses([-math.log(p) for p in PROBABILITY], LABELS)


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [(0, [0, 1, 1, 0, 1]), (0.5, [0, 0.5, 0.25, 0, 1]), (1, [0, 0.25, 0.0625, 0, 1]), (2, [0, 1 / 16, 1 / 256, 0, 1])],
)
def test_by_hand(alpha, expected):
    method, statistics = get_method("p-alpha", alpha=alpha), by_hand()
    assert method.select(statistics).tolist() == LABELS
    assert method.weights(statistics, statistics.trainable, 0.5).tolist() == pytest.approx(expected)


def test_dropped_tokens_weigh_nothing():
    kept = np.array([False, False, True, False, False])
    assert get_method("p-alpha").weights(by_hand(), kept, 0.5).tolist() == pytest.approx([0, 0, 0.25, 0, 0])


def test_equals_a_loop():
    generator = np.random.default_rng(0)
    loss = (120 * generator.random(200)).astype(np.float32)  # beyond what float32 holds as a probability
    score = get_method("p-alpha", alpha=0.1).score(of_losses(loss, np.ones(200, dtype=np.int64)))
    np.testing.assert_allclose(score, [math.exp(-float(value)) ** 0.1 for value in loss], rtol=1e-5)
    assert score.dtype == np.float32


def test_the_member_at_1_is_dft():
    statistics = by_hand()
    assert np.array_equal(get_method("p-alpha", alpha=1.0).score(statistics), get_method("dft").score(statistics))


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 10.0])
def test_the_weight_gives_the_gradient_of_the_loss_of_the_paper(alpha):
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    log_p = logits.log_softmax(-1)[:, 0]
    (expected,) = torch.autograd.grad(((1 - (alpha * log_p).exp()) / alpha).sum(), logits, retain_graph=True)
    statistics = of_losses(-log_p.detach().numpy(), np.ones(50, dtype=np.int64))
    weight = torch.from_numpy(get_method("p-alpha", alpha=alpha).score(statistics)).double()
    (found,) = torch.autograd.grad(-(weight * log_p).sum(), logits)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)


def test_what_is_measured_and_when():
    method = get_method("p-alpha")
    assert method.needs == {("current", "loss")}
    assert method.online
    assert method.weighted
    assert method.divide_by == "kept"


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, True, "1", None])
def test_out_of_range(value):
    with pytest.raises(TokensieveError, match=r"alpha is .*, it must be a number of at least 0"):
        get_method("p-alpha", alpha=value)
