from __future__ import annotations

import itertools
import math

import pytest
import torch

from tokensieve.ops.list_mle import list_mle

ALL = torch.ones(1, 4, dtype=torch.bool)


def test_it_is_a_loop_over_the_answers_that_are_left():
    scores = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)) * 5
    for row, found in zip(scores.tolist(), list_mle(scores, ALL.expand(5, 4)).tolist(), strict=True):
        expected = sum(math.log(sum(math.exp(s) for s in row[k:])) - row[k] for k in range(4))
        assert found == pytest.approx(expected, rel=1e-5)


def test_the_rankings_of_a_list_have_a_probability_of_one_together():
    scores = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)
    rankings = torch.stack([scores[list(order)] for order in itertools.permutations(range(4))])
    assert list_mle(rankings, ALL.expand(24, 4)).neg().exp().sum().item() == pytest.approx(1)


def test_of_two_answers_it_is_bradley_terry():
    scores = torch.tensor([[1.5, -0.5], [-90.0, 90.0], [3.0, 3.0]])
    found = list_mle(scores, ALL[:, :2].expand(3, 2))
    assert found.tolist() == pytest.approx(torch.nn.functional.softplus(scores[:, 1] - scores[:, 0]).tolist())


def test_what_lies_behind_the_last_answer_counts_for_nothing():
    there = torch.tensor([[True, True, False, False], [True, True, True, True]])
    scores = torch.tensor([[0.3, 1.0, 50.0, -7.0], [0.1, 0.2, 0.3, 0.4]], requires_grad=True)
    found = list_mle(scores, there)
    assert found[0].item() == pytest.approx(math.log1p(math.exp(0.7)))
    found.sum().backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert scores.grad[0, 2:].tolist() == [0, 0]
    assert scores.grad[0, 0] < 0 < scores.grad[0, 1]
