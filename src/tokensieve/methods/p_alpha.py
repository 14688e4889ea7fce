"""The family of the losses ``(1 - p ** alpha) / alpha`` (Li et al., 2025, arXiv 2510.00526).

``p`` is the probability that the model gives the token. The loss of a token has the gradient of its negative
log-likelihood times ``p ** alpha``, which is the weight here (without a gradient through it). At 0 this is plain
fine-tuning, at 1 it is `dft`; a larger exponent leaves tokens that the model finds improbable alone. The authors find
that models which already know the task gain from 1 and more, that plain fine-tuning is best for models which do not
(alpha near 0), and that no member wins in between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from tokensieve.containers import Statistics
from tokensieve.methods._base import ProbabilityPowerMethod
from tokensieve.ops.rules import check_range


@dataclass(frozen=True)
class PAlpha(ProbabilityPowerMethod):
    """Weight each token by a power of its probability.

    Attributes:
        alpha: exponent, at least 0; 0 is plain fine-tuning, 1 is `dft`, and the authors also use 10.
    """

    name: ClassVar[str] = "p-alpha"
    summary: ClassVar[str] = "every token, weighted by a power of its probability"
    formula: ClassVar[str] = "weight = exp(-loss_current) ** alpha"
    meaning: ClassVar[str] = (
        "Every token is kept; the more probable the model in training finds it, the more its loss counts."
    )
    paper: ClassVar[str] = "Beyond Log Likelihood, 2025, arXiv 2510.00526"
    differences: ClassVar[str] = (
        "The code trains on the loss `(1 - p ** alpha) / alpha`; the gradient is the same, but the loss that is logged "
        "here is the weighted negative log-likelihood. The paper names no default: 0.5, between plain fine-tuning and "
        "`dft`, is ours. The thresholded losses, which leave out tokens below a probability, are `profit`."
    )

    alpha: float = 0.5

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, 0, math.inf)

    def exponent(self, statistics: Statistics) -> float:
        """Return alpha."""
        del statistics
        return self.alpha
