"""Train on every trainable token: plain supervised fine-tuning, a control of every run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.methods._base import Method
from tokensieve.ops.rules import TopFraction


@dataclass(frozen=True)
class Full(Method):
    """Keep every trainable token."""

    name: ClassVar[str] = "full"
    summary: ClassVar[str] = "every trainable token: plain SFT (control)"
    formula: ClassVar[str] = "0"
    meaning: ClassVar[str] = "Every token has the score 0, and every token is kept."

    @property
    def needs(self) -> Needs:
        """Nothing."""
        return frozenset()

    @property
    def rule(self) -> TopFraction:
        """Keep everything."""
        return TopFraction(1.0)

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]`` zeros."""
        return np.zeros(len(statistics.labels), dtype=np.float32)
