"""Token Cleaning, self-evolving (Pang et al., ICML 2025, arXiv 2502.01968, section 4.2).

The pool is split into consecutive subsets of equal size. The base is fine-tuned on the first with every token. Each
further subset is scored with the base against the model as it then is, the top fraction within the subset is kept, and
the model trains on it. The result is the last model. Base losses never change and are measured once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tokensieve.methods.token_cleaning import TokenCleaning
from tokensieve.ops.rules import check_range


@dataclass(frozen=True)
class SelfEvolving(TokenCleaning):
    """Excess loss over the model in training, ranked within each of some consecutive subsets.

    Attributes:
        subsets: how many parts the pool is split into; the first is trained on with every token.
    """

    name: ClassVar[str] = "self-evolving"
    summary: ClassVar[str] = "as token-cleaning, subset by subset, with the model in training as the reference"
    formula: ClassVar[str] = "loss_base - loss_reference(subset)"
    paper: ClassVar[str] = "Token Cleaning, ICML 2025, arXiv 2502.01968"
    schedule: ClassVar[str] = "self-evolving"

    subsets: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("subsets", self.subsets, 2, np.inf, whole=True)
