"""EAFT, entropy-adaptive fine-tuning (arXiv 2601.02151).

Trains on every token and weights it by ``(H_top20 / ln 20) ** alpha``: the entropy of the model's 20 most likely
tokens, renormalised and scaled to [0, 1]. A token that contradicts a confident prediction therefore gets a small
weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.methods._base import PowerMethod
from tokensieve.ops.rules import check_range


@dataclass(frozen=True)
class Eaft(PowerMethod):
    """Weight each token by the normalised entropy of the 20 most likely tokens.

    Attributes:
        alpha: power of the normalised entropy, at least 0; 0 is plain fine-tuning.
    """

    name: ClassVar[str] = "eaft"
    summary: ClassVar[str] = "every token, weighted by the model's uncertainty"
    formula: ClassVar[str] = "weight = (entropy_top20_current / ln 20) ** alpha"
    meaning: ClassVar[str] = (
        "Every token is kept; the less certain the model in training is of it, the more its loss counts."
    )
    paper: ClassVar[str] = "EAFT, 2026, arXiv 2601.02151"

    alpha: float = 1.0

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, 0, math.inf)

    @property
    def needs(self) -> Needs:
        """The entropy of the 20 most likely tokens of the model in training."""
        return frozenset({("current", "entropy_top20")})

    def share(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]`` in [0, 1], the normalised entropy."""
        return np.clip(statistics.get("current", "entropy_top20") / np.float32(math.log(20)), 0, 1)

    def exponent(self, statistics: Statistics) -> float:
        """Return alpha."""
        del statistics
        return self.alpha
