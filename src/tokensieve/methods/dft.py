"""DFT, dynamic fine-tuning (Wu et al., 2025, arXiv 2508.05629).

Trains on every token and weights it by the probability that the model gives it (without a gradient through the weight).
The gradient of a token that the model finds almost impossible stays bounded instead of exploding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tokensieve.containers import Bool, Float32, Needs, Statistics
from tokensieve.methods._base import WeightMethod


@dataclass(frozen=True)
class Dft(WeightMethod):
    """Weight each token by its probability."""

    name: ClassVar[str] = "dft"
    summary: ClassVar[str] = "every token, weighted by its probability"
    formula: ClassVar[str] = "weight = exp(-loss_current)"
    paper: ClassVar[str] = "DFT, 2025, arXiv 2508.05629"

    @property
    def needs(self) -> Needs:
        """The loss of the model in training."""
        return frozenset({("current", "loss")})

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, the probability of each token."""
        return np.exp(-statistics.get("current", "loss"))

    def weights(self, statistics: Statistics, kept: Bool, progress: float) -> Float32:
        """Return float32 ``[tokens]``: the probability of kept tokens, 0 elsewhere."""
        del progress
        return np.where(kept, self.score(statistics), np.float32(0))
