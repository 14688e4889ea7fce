"""Ranking over processes is ranking of the joined batch."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from tokensieve.containers import Statistics
from tokensieve.errors import TokensieveError
from tokensieve.ops.ragged import offsets
from tokensieve.ops.rules import DropFraction, Rule, Threshold, TopExamples, TopFraction
from tokensieve.train.ranking import keep_of_all


class Process:
    """One of several threads that play processes."""

    device = torch.device("cpu")

    def __init__(self, index: int, board: list[Any], barrier: threading.Barrier) -> None:
        self.process_index, self.num_processes = index, len(board)
        self._board, self._barrier = board, barrier

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        self._board[self.process_index] = tensor
        self._barrier.wait()
        found = torch.cat(self._board)
        self._barrier.wait()
        return found

    def reduce(self, tensor: torch.Tensor, reduction: str) -> torch.Tensor:
        assert reduction == "sum"
        return self.gather(tensor[None]).sum(0)


def on_processes(rule: Rule, parts: list[tuple[np.ndarray, Statistics]]) -> list[np.ndarray]:
    """What each process decides of its part."""
    board, barrier = [None] * len(parts), threading.Barrier(len(parts), timeout=30)

    def decide(index: int) -> np.ndarray:
        process: Any = Process(index, board, barrier)
        scores, statistics = parts[index]
        return keep_of_all(rule, scores, statistics, process)

    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(decide, range(len(parts))))


def batch(generator: np.random.Generator, lengths: list[int], levels: int) -> tuple[np.ndarray, Statistics]:
    """Scores of few levels, so that many tie, of examples some tokens of which are trainable or end a turn."""
    tokens = sum(lengths)
    labels = np.where(generator.random(tokens) < 0.7, 5, -100)
    cu_seqlens = offsets(lengths)
    labels[cu_seqlens[:-1]] = -100
    scores = generator.integers(-levels, levels, tokens).astype(np.float32)
    return scores, Statistics(cu_seqlens, labels, {}, generator.random(tokens) < 0.1)


def joined(parts: list[tuple[np.ndarray, Statistics]]) -> tuple[np.ndarray, Statistics]:
    lengths = [length for _, one in parts for length in np.diff(one.cu_seqlens)]
    labels = np.concatenate([one.labels for _, one in parts])
    turn_end = np.concatenate([one.turn_end for _, one in parts if one.turn_end is not None])
    return np.concatenate([scores for scores, _ in parts]), Statistics(offsets(lengths), labels, {}, turn_end)


@pytest.mark.parametrize("levels", [1, 3, 10**6])
@pytest.mark.parametrize(
    "rule",
    [
        *(TopFraction(fraction, scope, rounding) for fraction in (0.01, 0.5, 1.0) for scope in ("batch", "dataset")
          for rounding in ("floor", "ceil")),
        DropFraction(0.3, "batch"), DropFraction(0.99, "dataset", "ceil"), TopFraction(0.5, "example"), Threshold(0.0),
    ],
    ids=str,
)  # fmt: skip
def test_the_processes_decide_as_one(rule: Rule, levels):
    generator = np.random.default_rng(levels)
    parts = [batch(generator, lengths, levels) for lengths in ([3, 40], [1], [7, 22, 5, 31], [12])]
    kept = on_processes(rule, parts)
    assert np.array_equal(np.concatenate(kept), rule.keep(*joined(parts)))


def test_high_scores_on_one_process_take_the_share_of_the_others():
    statistics = Statistics(offsets([9]), np.full(9, 5), {}, None)
    parts = [(np.full(9, high, dtype=np.float32), statistics) for high in (0, 1)]
    statistics.labels[0] = -100
    rule = TopFraction(0.5, "batch")
    kept = on_processes(rule, parts)
    assert [int(one.sum()) for one in kept] == [0, 8]


def test_examples_are_chosen_by_each_process():
    generator = np.random.default_rng(0)
    parts = [batch(generator, [5, 6, 7], 9) for _ in range(2)]
    kept = on_processes(TopExamples(1), parts)
    for part, one in zip(parts, kept, strict=True):
        assert np.array_equal(one, TopExamples(1).keep(*part))


def test_a_score_that_cannot_be_ranked():
    scores, statistics = batch(np.random.default_rng(0), [30], 3)
    scores[statistics.trainable] = np.nan
    alone: Any = Process(0, [None, None], threading.Barrier(2))
    with pytest.raises(TokensieveError, match="score"):
        keep_of_all(TopFraction(0.5, "batch"), scores, statistics, alone)
