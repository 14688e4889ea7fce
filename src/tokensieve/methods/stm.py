"""STM, selective token masking (arXiv 2501.14315): drop tokens that the base model finds perplexing.

Masks the tokens whose perplexity under the frozen base, ``exp(loss_base)``, exceeds the threshold, once, before
training. A threshold of 2.5 drops tokens with a probability below 0.4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.methods._base import Method
from tokensieve.ops.rules import Threshold, check_range


@dataclass(frozen=True)
class Stm(Method):
    """Keep tokens with a low perplexity under the base.

    Attributes:
        perplexity: highest perplexity to keep, at least 1.
    """

    name: ClassVar[str] = "stm"
    summary: ClassVar[str] = "tokens that the base model does not find perplexing"
    formula: ClassVar[str] = "-loss_base"
    meaning: ClassVar[str] = (
        "The score is the negative of the base model's loss: it is low where the token surprises the base model."
    )
    paper: ClassVar[str] = "STM, 2025, arXiv 2501.14315"

    perplexity: float = 2.5

    def __post_init__(self) -> None:
        check_range("perplexity", self.perplexity, 1, math.inf)

    @property
    def needs(self) -> Needs:
        """The loss of the base."""
        return frozenset({("base", "loss")})

    @property
    def rule(self) -> Threshold:
        """Keep tokens with at most this perplexity."""
        return Threshold(-math.log(self.perplexity))

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, nats: the negative loss, which ranks tokens like the negative perplexity."""
        return -statistics.get("base", "loss")
