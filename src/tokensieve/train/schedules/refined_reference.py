"""The rounds of TOSS-Pro (ICLR 2026, arXiv 2603.01185): a safety-degraded model, refined on what it finds.

Each round scores the pool with the model as it is, adds the examples that hold the riskiest tokens to the harmful set,
and makes the model again from the base on the larger set. Models and statistics are kept in the store by what they are
made from, so that a killed run finds its rounds there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tokensieve.containers import check_finite
from tokensieve.methods.toss_pro import TossPro
from tokensieve.models.settings import ModelSettings
from tokensieve.select.streaming import LoadStatistics


@dataclass(frozen=True)
class Added:
    """The examples of the pool that one round added, the riskiest first.

    Attributes:
        examples: their numbers in the pool.
        rows: the numbers of their source rows.
        risks: the highest risk of a trainable token of each, in nats.
    """

    examples: tuple[int, ...]
    rows: tuple[int, ...]
    risks: tuple[float, ...]


def refine(
    method: TossPro,
    shards: int,
    make: Callable[[Sequence[Added]], ModelSettings],
    load: Callable[[int, ModelSettings], LoadStatistics],
) -> ModelSettings:
    """Refine the safety-degraded model.

    Args:
        method: says how many rounds and examples, and scores: the negative of a score is the risk.
        shards: of the pool.
        make: makes the model from the harmful set and what the rounds so far have added.
        load: measures the pool with that model, given the number of rounds done; reads one shard's statistics.

    Returns:
        The model after the last round.
    """
    rounds: list[Added] = []
    model = make(rounds)
    while len(rounds) < method.rounds:
        rounds.append(riskiest_examples(method, load(len(rounds), model), shards, rounds))
        model = make(rounds)
    return model


def riskiest_examples(method: TossPro, load: LoadStatistics, shards: int, before: Sequence[Added]) -> Added:
    """Return the ``method.added`` examples with the highest-risk trainable tokens that were not added before.

    Of equal examples the earlier one is taken first.
    """
    risks, rows = [], []
    for number in range(shards):
        statistics, shard_rows = load(number)
        risk = -method.score(statistics)
        check_finite(risk, statistics.trainable, statistics.cu_seqlens, "risk")
        # An empty example has no place in a store, and one without a trainable token is never the riskiest.
        risk = np.where(statistics.trainable, risk, np.float32(-np.inf))
        risks.append(np.maximum.reduceat(risk, statistics.cu_seqlens[:-1]))
        rows.append(shard_rows)
    highest, source = np.concatenate(risks), np.concatenate(rows)
    order = np.argsort(-highest, kind="stable")
    taken = [example for one in before for example in one.examples]
    chosen = order[~np.isin(order, taken)][: method.added]
    return Added(tuple(chosen.tolist()), tuple(source[chosen].tolist()), tuple(highest[chosen].tolist()))
