"""Rank tokens by the base model's uncertainty: a control that needs one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tokensieve.methods._base import StatisticMethod


@dataclass(frozen=True)
class Entropy(StatisticMethod):
    """Entropy of the base model's predictive distribution, in nats."""

    name: ClassVar[str] = "entropy"
    summary: ClassVar[str] = "tokens where the base model is least (or most) certain (control)"
    formula: ClassVar[str] = "entropy_base, or its negative"
    meaning: ClassVar[str] = (
        "The score is how uncertain the base model is where the token stands, in nats, or the negative of that."
    )
    statistic: ClassVar[str] = "entropy"
