"""ProFit (arXiv 2601.09195): train on tokens that the model in training does not find improbable.

At every step, masks the tokens whose probability is below the threshold, and averages the loss over the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.methods._base import Method
from tokensieve.ops.rules import Threshold, check_range


@dataclass(frozen=True)
class Profit(Method):
    """Keep tokens with at least a given probability.

    Attributes:
        probability: lowest probability to keep, in [0, 1].
    """

    name: ClassVar[str] = "profit"
    summary: ClassVar[str] = "tokens that the model in training does not find improbable"
    formula: ClassVar[str] = "exp(-loss_current)"
    meaning: ClassVar[str] = "The score is the probability that the model in training gives the token, from 0 to 1."
    paper: ClassVar[str] = "ProFit, 2026, arXiv 2601.09195"

    probability: float = 0.1

    def __post_init__(self) -> None:
        check_range("probability", self.probability, 0, 1)

    @property
    def needs(self) -> Needs:
        """The loss of the model in training."""
        return frozenset({("current", "loss")})

    @property
    def rule(self) -> Threshold:
        """Keep tokens with at least this probability."""
        return Threshold(self.probability)

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, the probability of each token."""
        return np.exp(-statistics.get("current", "loss"))
