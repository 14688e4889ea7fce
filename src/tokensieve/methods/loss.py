"""Rank tokens by the base model's own loss: a control that needs one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tokensieve.methods._base import StatisticMethod


@dataclass(frozen=True)
class Loss(StatisticMethod):
    """Loss of the base model, in nats."""

    name: ClassVar[str] = "loss"
    summary: ClassVar[str] = "tokens that the base model predicts worst (or best) (control)"
    formula: ClassVar[str] = "loss_base, or its negative"
    meaning: ClassVar[str] = (
        "The score is how badly the base model predicts the token, in nats of loss, or the negative of that."
    )
    statistic: ClassVar[str] = "loss"
