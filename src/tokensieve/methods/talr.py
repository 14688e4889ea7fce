"""TALR, token-adaptive loss reweighting (arXiv 2509.20758).

Trains on every token and weights it by ``p ** (1 / tau)``, but at least by a floor. ``p`` is the probability that the
model gives the token, and ``tau`` is the median loss of the batch. Hard tokens get less weight; the effect is weaker in
a batch that is hard overall.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial, reduce
from typing import ClassVar, Self

import numpy as np

from tokensieve.containers import Float32, Int64, Needs, Statistics
from tokensieve.methods._base import Corpus, WeightMethod, over
from tokensieve.ops.cutoff import count_lower, count_upper, find_cutoff
from tokensieve.ops.ragged import order_keys
from tokensieve.ops.rules import check_range

_SMALLEST_TAU = 1e-6  # in a batch whose median loss is 0, hard tokens get the floor as weight


@dataclass(frozen=True)
class Talr(WeightMethod):
    """Weight each token by a power of its probability.

    Attributes:
        floor: lowest weight of a token, in [0, 1].
        tau: temperature, in nats; the median loss of the batch if not given.
    """

    name: ClassVar[str] = "talr"
    summary: ClassVar[str] = "every token, with less weight for hard ones"
    formula: ClassVar[str] = "weight = max(exp(-loss_current / tau), floor)"
    meaning: ClassVar[str] = "Every token is kept; the harder the model in training finds it, the less its loss counts."
    paper: ClassVar[str] = "TALR, 2025, arXiv 2509.20758"

    floor: float = 0.01
    tau: float | None = None

    def __post_init__(self) -> None:
        check_range("floor", self.floor, 0, 1)
        if self.tau is not None:
            check_range("tau", self.tau, _SMALLEST_TAU, np.inf)

    @property
    def needs(self) -> Needs:
        """The loss of the model in training."""
        return frozenset({("current", "loss")})

    def fit(self, corpus: Corpus) -> Self:
        """Return the method with tau set to the median loss of the data set, which replaces the batch offline.

        The median is exact: passes over the shards count the losses by the bits of their keys (`ops.cutoff`).
        """
        if self.tau is not None:
            return self
        upper: Int64 | None = None
        for found in over(corpus, _upper):
            upper = found if upper is None else upper + found
        if upper is None:
            return self
        count = int(upper.sum())
        middle = {count // 2 + 1, (count + 1) // 2} if count else set()

        @cache
        def lower(bucket: int) -> Int64:
            return reduce(np.add, over(corpus, partial(_lower, bucket)))

        values = [find_cutoff(upper, lower, place).value for place in sorted(middle)]
        return replace(self, tau=_median(np.array(values, dtype=np.float32)))

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]`` in [floor, 1], the weight."""
        loss = statistics.get("current", "loss")
        tau = self.tau or _median(loss[statistics.trainable])
        return np.maximum(np.exp(-loss / np.float32(tau)), np.float32(self.floor))


def _losses(statistics: Statistics) -> Float32:
    return statistics.get("current", "loss")[statistics.trainable]


def _upper(statistics: Statistics) -> Int64:
    return count_upper(order_keys(_losses(statistics)))


def _lower(bucket: int, statistics: Statistics) -> Int64:
    return count_lower(order_keys(_losses(statistics)), bucket)


def _median(losses: Float32) -> float:
    return max(float(np.median(losses)), _SMALLEST_TAU) if len(losses) else 1.0
