"""Counts of the selected tokens, and the denominator of an optimizer step, which is known only when the step ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tokensieve.containers import Bool, Float32


@dataclass
class Counts:
    """Totals of a whole training; part of every checkpoint."""

    examples: int = 0
    trainable: int = 0
    kept: int = 0
    empty_batches: int = 0


@dataclass
class Selected:
    """What the method decided for one micro-batch.

    Attributes:
        scores: float32 ``[tokens]``.
        decided: bool ``[tokens]``, which tokens were kept.
        trainable: bool ``[tokens]``, which tokens have a label.
        denominator: what the loss was divided by; None until the optimizer step ends.
    """

    scores: Float32
    decided: Bool
    trainable: Bool
    denominator: float | None = None

    @property
    def offered(self) -> int:
        """Trainable tokens."""
        return int(self.trainable.sum())

    @property
    def kept(self) -> int:
        """Kept tokens."""
        return int(self.decided.sum())

    def metrics(self) -> dict[str, float]:
        """Return the metrics to log."""
        found = {"kept_share": self.kept / max(1, self.offered)}
        for name, mask in (("score_kept", self.decided), ("score_dropped", self.trainable & ~self.decided)):
            if mask.any():
                found[name] = float(self.scores[mask].mean())
        if self.denominator is not None:
            found["denominator"] = self.denominator
        return found


@dataclass
class LossAccumulator:
    """Sums over the micro-batches of an optimizer step, without the last one.

    Attributes:
        kept: number of kept tokens.
        loss: sum of their losses.
        micro_batches: number of micro-batches.
    """

    kept: int = 0
    loss: Tensor | float = 0.0
    micro_batches: int = 0

    def add(self, loss: Tensor, kept: int) -> None:
        """Add a micro-batch."""
        self.kept += kept
        self.loss = self.loss + loss.detach()
        self.micro_batches += 1

    def finish(self, loss: Tensor, divided_by: float, denominator: float, model: Any) -> Tensor:
        """Return the loss of the last micro-batch such that the whole step is divided by its kept tokens.

        The number of kept tokens is known now: the gradients of the earlier micro-batches are rescaled.

        Args:
            loss: of the last micro-batch.
            divided_by: what the losses were divided by.
            denominator: what they are to be divided by; where it is 0, the step becomes 0.
            model: whose gradients hold the earlier micro-batches.
        """
        ratio = divided_by / denominator if denominator else 0.0
        if self.micro_batches:
            torch._foreach_mul_([p.grad for p in model.parameters() if p.grad is not None], ratio)
        # The constant makes the reported loss that of the whole step; it has no gradient.
        return loss * ratio + (ratio - 1) * self.loss
