"""ssToken, self-modulated and semantic-aware selection (Qin et al., ICLR 2026, arXiv 2510.18250).

Score: ``gamma * norm(REL[t]) + (1 - gamma) * attention_to_prompt[t]``, where ``REL[t] = loss_history[t] -
loss_current[t]`` is the improvement of the model since an earlier state (the history), and ``norm`` maps it to [0, 1]
within each example. If REL varies within an example by no more than float32 rounding, as before the first step, the
model has not improved: ``norm`` is 0 and the attention decides. The attention is the mass that one deep layer of the
current model puts on the prompt, averaged over heads. The history is the frozen base, or a moving average of the
trained weights. The method needs no reference model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from tokensieve.containers import Float32, Needs, Rounding, Scope, Statistics
from tokensieve.methods._base import FractionMethod
from tokensieve.ops.ragged import segment_extremes
from tokensieve.ops.rules import check_choice, check_range

_EPSILON = np.float32(1e-8)
_ROUNDING = np.float32(64 * np.finfo(np.float32).eps)
"""Spread of the loss differences, relative to the largest loss (1 nat at least), that is rounding: 7.6e-6. Two float32
passes over the same weights, in batches of other shapes, differ by 2e-6 at losses of 3.5: a thirteenth of that."""


@dataclass(frozen=True)
class SsToken(FractionMethod):
    """Improved since the history and attentive to the prompt, ranked within each example.

    Attributes:
        gamma: weight of the loss difference against the attention, in [0, 1].
        layer: layer whose attention is read; negative numbers count from the last.
        heads: ``mean`` or ``max`` over the heads of that layer.
        history: ``base`` compares with the frozen base model, ``ema`` with a moving average of the trained weights.
        ema_decay: decay of the moving average at each optimizer step, in [0, 1).
        warmup_examples: number of examples at the start of training that use gamma 0 (10,000 in the authors' code).
    """

    name: ClassVar[str] = "sstoken"
    summary: ClassVar[str] = "tokens that training has improved and that attend to the prompt"
    formula: ClassVar[str] = "gamma * norm(loss_history - loss_current) + (1 - gamma) * attention_to_prompt_current"
    meaning: ClassVar[str] = (
        "The score is high where training has improved the prediction of the token, and where it attends to the prompt."
    )
    paper: ClassVar[str] = "ssToken, ICLR 2026, arXiv 2510.18250"
    differences: ClassVar[str] = (
        "The code treats every token without a label as prompt, even after the first answer. Here the prompt of a "
        "token is the untrainable tokens before it, which is the same for single-turn examples. The code's warm-up "
        "with gamma 0 is off by default."
    )

    scope: Scope = "example"
    rounding: Rounding = "ceil"
    gamma: float = 0.5
    layer: int = -1
    heads: Literal["mean", "max"] = "mean"
    history: Literal["base", "ema"] = "base"
    ema_decay: float = 0.99
    warmup_examples: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("gamma", self.gamma, 0, 1)
        check_range("layer", self.layer, -np.inf, np.inf, whole=True)
        check_choice("heads", self.heads, ("mean", "max"))
        check_choice("history", self.history, ("base", "ema"))
        check_range("ema_decay", self.ema_decay, 0, np.nextafter(1, 0))
        check_range("warmup_examples", self.warmup_examples, 0, np.inf, whole=True)

    @property
    def needs(self) -> Needs:
        """The losses of the history and the current model, and the attention of the current model."""
        return frozenset({("history", "loss"), ("current", "loss"), ("current", "attention_to_prompt")})

    def options(self, statistic: str) -> Mapping[str, Any]:
        """Return the layer and the reduction over heads."""
        return {"layer": self.layer, "heads": self.heads} if statistic == "attention_to_prompt" else {}

    def at(self, examples: int) -> SsToken:
        """Return the method with gamma 0 during the warm-up."""
        return replace(self, gamma=0.0) if examples < self.warmup_examples else self

    @property
    def history_decay(self) -> float | None:
        """Decay of the moving average; None if the history is the frozen base."""
        return self.ema_decay if self.history == "ema" else None

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]`` in [0, 1]."""
        learned, attentive = self.parts(statistics).values()
        return learned + attentive

    def parts(self, statistics: Statistics) -> Mapping[str, Float32]:
        """Return the weighted improvement and the weighted attention to the prompt."""
        attention = statistics.get("current", "attention_to_prompt")
        history, current = statistics.get("history", "loss"), statistics.get("current", "loss")
        gain = history - current
        low, high = segment_extremes(gain, statistics.trainable, statistics.cu_seqlens)
        _, largest = segment_extremes(np.maximum(history, current), statistics.trainable, statistics.cu_seqlens)
        learned = high - low > _ROUNDING * np.maximum(largest, np.float32(1))
        normed = np.where(learned, (gain - low) / (high - low + _EPSILON), np.float32(0))
        return {
            "learned": (np.float32(self.gamma) * normed).astype(np.float32),
            "attention": (np.float32(1 - self.gamma) * attention).astype(np.float32),
        }
