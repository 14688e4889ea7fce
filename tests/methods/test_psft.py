from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method

LABELS = [-100, 1, 2, 3, -100, 4]
RATIO = [9.0, 1.0, 1.25, 1.3, 9.0, 0.5]  # p now, over p of the history


def figures(gain, labels) -> Statistics:
    history = np.full(len(labels), 3.0, dtype=np.float32)
    values = {("history", "loss"): history, ("current", "loss"): (history - np.asarray(gain)).astype(np.float32)}
    return Statistics(np.array([0, len(labels)]), np.array(labels), values)


def test_by_hand():
    method, statistics = get_method("psft"), figures(np.log(RATIO), LABELS)
    assert method.select(statistics).tolist() == LABELS
    assert method.weights(statistics, statistics.trainable, 0.5).tolist() == pytest.approx([0, 1, 1.25, 0, 0, 0.5])
    wider = get_method("psft", epsilon=0.4)
    assert wider.weights(statistics, statistics.trainable, 0.5).tolist() == pytest.approx([0, 1, 1.25, 1.3, 0, 0.5])


def test_before_the_first_step_it_is_plain_fine_tuning():
    statistics = figures(np.zeros(6), LABELS)
    assert get_method("psft").weights(statistics, statistics.trainable, 0.0).tolist() == [0, 1, 1, 1, 0, 1]


def test_equals_a_loop():
    gain = np.random.default_rng(0).standard_normal(100)
    gain[:2] = 500, -500
    statistics = figures(gain, np.ones(100, dtype=np.int64))
    found = get_method("psft", epsilon=0.5).score(statistics)
    for t in range(100):
        change = float(statistics.values["history", "loss"][t]) - float(statistics.values["current", "loss"][t])
        expected = math.exp(change) if change <= math.log(1.5) else 0
        assert found[t] == pytest.approx(expected, rel=1e-4)


def test_the_weight_gives_the_gradient_of_the_clipped_objective_of_ppo():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    log_p = logits.log_softmax(-1)[:, 0]
    old = log_p.detach() + 0.5 * torch.randn(200, generator=generator, dtype=torch.float64)
    ratio = (log_p - old).exp()
    objective = torch.minimum(ratio, ratio.clamp(1 - 0.2, 1 + 0.28))
    (expected,) = torch.autograd.grad(-objective.sum(), logits, retain_graph=True)
    values = {("history", "loss"): -old.numpy(), ("current", "loss"): -log_p.detach().numpy()}
    statistics = Statistics(np.array([0, 200]), np.ones(200, dtype=np.int64), values)
    weight = torch.from_numpy(get_method("psft").score(statistics)).double()
    assert 0 < int((weight == 0).sum()) < 200
    (found,) = torch.autograd.grad(-(weight * log_p).sum(), logits)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


def test_what_is_measured_and_when():
    method = get_method("psft")
    assert method.needs == {("history", "loss"), ("current", "loss")}
    assert method.online
    assert method.weighted
    assert method.history_decay == 0.8
    assert get_method("psft", history="base").history_decay is None


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("epsilon", -0.1), ("epsilon", math.inf), ("epsilon", True), ("history", "reference"), ("ema_decay", 1.0)],
)
def test_out_of_range(parameter, value):
    with pytest.raises(TokensieveError, match=parameter):
        get_method("psft", **{parameter: value})
