"""Forgetting (arXiv 2508.04329): train on the best tokens, and away from the others.

Tokens are ranked over the data set by the excess loss of the base over a reference. The top fraction is trained on;
the others get a negative weight, ``-strength * progress``, so that the model unlearns what they say. The weight grows
linearly from 0 at the start of the training. The loss is divided by the number of kept tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tokensieve.containers import Bool, Float32, Statistics
from tokensieve.methods.token_cleaning import TokenCleaning
from tokensieve.ops.rules import check_range


@dataclass(frozen=True)
class Forgetting(TokenCleaning):
    """Excess loss over a reference; what is not kept is unlearned.

    Attributes:
        strength: negative weight of dropped tokens at the end of the training, at least 0.
    """

    name: ClassVar[str] = "forgetting"
    summary: ClassVar[str] = "as token-cleaning, and unlearns what is not kept"
    formula: ClassVar[str] = "loss_base - loss_reference; weight of dropped tokens = -strength * progress"
    paper: ClassVar[str] = "Forgetting, 2025, arXiv 2508.04329"

    fraction: float = 0.7
    strength: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("strength", self.strength, 0, np.inf)

    def weights(self, statistics: Statistics, kept: Bool, progress: float) -> Float32:
        """Return float32 ``[tokens]``: 1 for kept, negative for dropped, 0 for tokens that are not trainable."""
        dropped = np.float32(-self.strength * progress)
        return np.where(kept, np.float32(1), np.where(statistics.trainable, dropped, np.float32(0)))
