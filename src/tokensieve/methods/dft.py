"""DFT, dynamic fine-tuning (Wu et al., 2025, arXiv 2508.05629).

Trains on every token and weights it by the probability that the model gives it (without a gradient through the weight).
The gradient of a token that the model finds almost impossible stays bounded instead of exploding. It is the member
``alpha: 1`` of `p-alpha`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tokensieve.containers import Statistics
from tokensieve.methods._base import ProbabilityPowerMethod


@dataclass(frozen=True)
class Dft(ProbabilityPowerMethod):
    """Weight each token by its probability."""

    name: ClassVar[str] = "dft"
    summary: ClassVar[str] = "every token, weighted by its probability"
    formula: ClassVar[str] = "weight = exp(-loss_current)"
    meaning: ClassVar[str] = (
        "Every token is kept; the more probable the model in training finds it, the more its loss counts."
    )
    paper: ClassVar[str] = "DFT, 2025, arXiv 2508.05629"

    def exponent(self, statistics: Statistics) -> float:
        """Return 1."""
        del statistics
        return 1.0
