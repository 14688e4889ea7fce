"""What was chosen of each batch, and the denominator of an optimizer step that is known only when it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tokensieve.types import Bool, Float32


@dataclass
class Counts:
    """What is counted over a whole training; part of every checkpoint."""

    examples: int = 0
    trainable: int = 0
    kept: int = 0
    empty_batches: int = 0


@dataclass
class Selected:
    """What was decided of one micro-batch.

    Attributes:
        offered: trainable tokens of the batch as it came.
        scores: of the tokens that went through the model.
        decided: which of them were kept.
        labels: which of them are trainable.
        denominator: what the loss was divided by, where that is known.
    """

    offered: int
    scores: Float32 | None = None
    decided: Bool | None = None
    labels: Bool | None = None
    denominator: float | None = None

    def take(self, scores: Float32, kept: Bool, trainable: Bool) -> None:
        """Note what was decided."""
        self.scores, self.decided, self.labels = scores, kept, trainable

    @property
    def kept(self) -> int:
        """Kept tokens."""
        return 0 if self.decided is None else int(self.decided.sum())

    @property
    def labelled(self) -> int:
        """Trainable tokens of those that went through the model."""
        return 0 if self.labels is None else int(self.labels.sum())

    def metrics(self) -> dict[str, float]:
        """Return what is logged of the micro-batch."""
        assert self.scores is not None
        assert self.decided is not None
        assert self.labels is not None
        dropped = self.labels & ~self.decided
        found = {"kept_share": self.kept / max(1, self.offered)}
        for name, mask in (("score_kept", self.decided), ("score_dropped", dropped)):
            if mask.any():
                found[name] = float(self.scores[mask].mean())
        if self.denominator is not None:
            found["denominator"] = self.denominator
        return found


@dataclass
class StepSum:
    """What the micro-batches of an optimizer step have added up to so far.

    Attributes:
        kept: tokens kept.
        loss: sum of the losses of all micro-batches but the last.
        micro_batches: how many there were.
    """

    kept: int = 0
    loss: Tensor | float = 0.0
    micro_batches: int = 0

    def add(self, loss: Tensor, selected: Selected) -> None:
        """Count a micro-batch."""
        self.kept += selected.kept
        self.micro_batches += 1
        self._last = self.loss
        self.loss = self.loss + loss.detach()

    def finish(self, loss: Tensor, divided_by: float, denominator: float, model: Any) -> Tensor:
        """Return the loss of the last micro-batch such that the whole step is divided by its kept tokens.

        How many are kept is known now; what earlier micro-batches left in the gradients is rescaled.

        Args:
            loss: of the last micro-batch.
            divided_by: what the losses were divided by.
            denominator: what they are to be divided by; where it is 0, the step becomes 0.
            model: whose gradients hold the earlier micro-batches.
        """
        ratio = divided_by / denominator if denominator else 0.0
        if self.micro_batches > 1:
            torch._foreach_mul_([p.grad for p in model.parameters() if p.grad is not None], ratio)
        # The constant makes the reported loss that of the whole step; it has no gradient.
        return loss * ratio + (ratio - 1) * self._last
