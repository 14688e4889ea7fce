from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tokensieve.containers import Statistics
from tokensieve.methods import get_method

LABELS = [-100, 1, 2, -100, 4]
PROBABILITY = [1.0, 0.25, 0.25, 1.0, 0.81]
CONCENTRATION = [1.0, 0.5, 1.0, 1.0, 0.5]


def figures(loss, concentration, labels) -> Statistics:
    values = {("current", "loss"): loss, ("current", "concentration"): concentration}
    return Statistics(
        np.array([0, len(labels)]), np.array(labels), {k: np.asarray(v, dtype=np.float32) for k, v in values.items()}
    )


def by_hand() -> Statistics:
    return figures([-math.log(p) for p in PROBABILITY], CONCENTRATION, LABELS)


def test_by_hand():
    method, statistics = get_method("deft"), by_hand()
    assert method.select(statistics).tolist() == LABELS
    assert method.weights(statistics, statistics.trainable, 0.5).tolist() == pytest.approx([0, 0.5, 0.25, 0, 0.9])


def test_dropped_tokens_weigh_nothing():
    kept = np.array([False, False, True, False, False])
    assert get_method("deft").weights(by_hand(), kept, 0.5).tolist() == pytest.approx([0, 0, 0.25, 0, 0])


def test_equals_a_loop():
    generator = np.random.default_rng(0)
    loss, concentration = (20 * generator.random(100)).astype(np.float32), generator.random(100).astype(np.float32)
    score = get_method("deft").score(figures(loss, concentration, np.ones(100, dtype=np.int64)))
    expected = [math.exp(-float(a)) ** float(c) for a, c in zip(loss, concentration, strict=True)]
    np.testing.assert_allclose(score, expected, rtol=1e-5)
    assert score.dtype == np.float32


def test_the_weight_gives_the_gradient_of_the_loss_of_the_paper():
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    log_p = logits.log_softmax(-1)
    exponent = log_p.detach().exp().square().sum(-1)
    loss = ((1 - (exponent * log_p[:, 0]).exp()) / exponent).sum()
    (expected,) = torch.autograd.grad(loss, logits, retain_graph=True)
    statistics = figures(-log_p[:, 0].detach().numpy(), exponent.numpy(), np.ones(50, dtype=np.int64))
    weight = torch.from_numpy(get_method("deft").score(statistics)).double()
    (found,) = torch.autograd.grad(-(weight * log_p[:, 0]).sum(), logits)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


def test_what_is_measured_and_when():
    method = get_method("deft")
    assert method.needs == {("current", "loss"), ("current", "concentration")}
    assert method.online
    assert method.weighted
