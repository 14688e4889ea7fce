"""ASFT, anchored supervised fine-tuning (Zhu et al., ICLR 2026, arXiv 2509.23753).

`dft` with an anchor: beside the weighted loss of a token stands ``strength`` times the Kullback-Leibler divergence of
the model in training from the base, over the whole vocabulary. The weights alone let the model drift, the more the
surer it becomes; the anchor holds it near the base.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from tokensieve.containers import Statistics
from tokensieve.methods._base import ProbabilityPowerMethod
from tokensieve.ops.rules import check_range


@dataclass(frozen=True)
class Asft(ProbabilityPowerMethod):
    """Weight each token by its probability, and hold the model near the base.

    Attributes:
        strength: factor of the divergence from the base, at least 0; 0 is `dft`.
    """

    name: ClassVar[str] = "asft"
    summary: ClassVar[str] = "every token, weighted by its probability, and the model near the base"
    formula: ClassVar[str] = "weight = exp(-loss_current); loss + strength * KL(base || current)"
    meaning: ClassVar[str] = (
        "Every token is kept; the more probable the model in training finds it, the more its loss counts."
    )
    paper: ClassVar[str] = "ASFT, ICLR 2026, arXiv 2509.23753"
    differences: ClassVar[str] = (
        "The divergence is that of the code, from the base to the model in training. The authors' example has a "
        "strength of 0.05, the default here, and their training script one of 0.1."
    )

    strength: float = 0.05

    def __post_init__(self) -> None:
        check_range("strength", self.strength, 0, math.inf)

    @property
    def anchor(self) -> float:
        """The strength."""
        return self.strength

    def exponent(self, statistics: Statistics) -> float:
        """Return 1."""
        del statistics
        return 1.0
