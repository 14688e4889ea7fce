"""DEFT, dynamic entropy fine-tuning (Wang et al., 2026, arXiv 2602.11424).

A member of the family of `p-alpha` whose exponent differs from token to token: it is the concentration of the model's
prediction, the sum of its squared probabilities (the exponential of the negative Renyi-2 entropy), without a gradient
through it. Where the model is undecided, the exponent is near 0 and the token is trained on as in plain fine-tuning;
where the model is sure, it is near 1 and a token that contradicts it gets little weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.methods._base import ProbabilityPowerMethod


@dataclass(frozen=True)
class Deft(ProbabilityPowerMethod):
    """Weight each token by its probability, raised to the concentration of the prediction."""

    name: ClassVar[str] = "deft"
    summary: ClassVar[str] = "every token, with less weight for improbable ones where the model is sure"
    formula: ClassVar[str] = "weight = exp(-loss_current) ** concentration_current"
    meaning: ClassVar[str] = (
        "Every token is kept; its loss counts by its probability, the more so the surer the model in training is."
    )
    paper: ClassVar[str] = "DEFT, 2026, arXiv 2602.11424"
    differences: ClassVar[str] = (
        "The code trains on the loss `(1 - p ** c) / (c + 1e-6)` with a constant `c`; its gradient is the weight here "
        "but for the 1e-6. The paper's other trajectory of the exponent, a Cayley transform of `p`, is left out."
    )

    @property
    def needs(self) -> Needs:
        """The loss and the concentration of the model in training."""
        return frozenset({("current", "loss"), ("current", "concentration")})

    def exponent(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]`` in (0, 1], the concentration."""
        return statistics.get("current", "concentration")
