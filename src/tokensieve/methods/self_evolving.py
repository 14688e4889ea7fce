"""Token Cleaning, self-evolving (Pang et al., ICML 2025, arXiv 2502.01968, section 4.2).

Splits the pool into consecutive subsets of equal size. The base is fine-tuned on every token of the first subset. Each
later subset is scored by the base against the current model; the model then trains on the subset's top fraction. The
result is the last model. The losses of the base never change and are measured once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tokensieve.methods.token_cleaning import TokenCleaning
from tokensieve.ops.rules import check_range


@dataclass(frozen=True)
class SelfEvolving(TokenCleaning):
    """Excess loss over the model in training, ranked within each of several consecutive subsets.

    Attributes:
        subsets: number of subsets of the pool; the first is trained on with every token.
    """

    name: ClassVar[str] = "self-evolving"
    summary: ClassVar[str] = "as token-cleaning, subset by subset, with the model in training as the reference"
    formula: ClassVar[str] = "loss_base - loss_reference(subset)"
    assumes = "nothing"
    meaning: ClassVar[str] = (
        "The score is by how many nats the model of the last round predicts the token better than the base model does."
    )
    paper: ClassVar[str] = "Token Cleaning, ICML 2025, arXiv 2502.01968"
    schedule: ClassVar[str] = "self-evolving"

    subsets: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("subsets", self.subsets, 2, np.inf, whole=True)
