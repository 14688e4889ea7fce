"""TALR, token-adaptive loss reweighting (arXiv 2509.20758).

Trains on every token and weights it by ``p ** (1 / tau)``, but at least by a floor. ``p`` is the probability that the
model gives the token, and ``tau`` is the median loss of the batch. Hard tokens get less weight; the effect is weaker in
a batch that is hard overall.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.methods._base import Corpus, WeightMethod
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
        """Return the method with tau set to the median loss of the data set, which replaces the batch offline."""
        losses = [part.get("current", "loss")[part.trainable] for part in corpus()] if self.tau is None else []
        return replace(self, tau=_median(np.concatenate(losses))) if losses else self

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]`` in [floor, 1], the weight."""
        loss = statistics.get("current", "loss")
        tau = self.tau or _median(loss[statistics.trainable])
        return np.maximum(np.exp(-loss / np.float32(tau)), np.float32(self.floor))


def _median(losses: Float32) -> float:
    return max(float(np.median(losses)), _SMALLEST_TAU) if len(losses) else 1.0
