"""Forgetting (arXiv 2508.04329): train on the best tokens, and away from the others.

Ranks all tokens of the data set by the excess loss of the base over a reference, and trains on the top fraction.
The other tokens get a negative weight, ``-strength * progress``, which makes the model unlearn them. Its size grows
linearly from 0 at the start of training. The loss is divided by the number of kept tokens.
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
    """Excess loss over a reference; dropped tokens are unlearned.

    Attributes:
        strength: size of the negative weight of dropped tokens at the end of training, at least 0.
    """

    name: ClassVar[str] = "forgetting"
    summary: ClassVar[str] = "as token-cleaning, and unlearns the dropped tokens"
    formula: ClassVar[str] = "loss_base - loss_reference; weight of dropped tokens = -strength * progress"
    meaning: ClassVar[str] = (
        "The score is by how many nats the reference model predicts the token better than the base model does."
    )
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
