"""PSFT, proximal supervised fine-tuning (Zhu et al., 2025, arXiv 2508.17784).

The clipped objective of PPO with an advantage of 1 for every token: maximise ``min(r, 1 + epsilon)``, where ``r = p /
p_old`` compares the model in training with an earlier state of it (the history). Its gradient is that of the
log-likelihood times ``r``, which is the weight here, and 0 as soon as ``r`` exceeds ``1 + epsilon``: a token that has
been learnt is left alone, and the model stays near its history. The history is a moving average of the trained weights,
or the frozen base.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.methods._base import WeightMethod
from tokensieve.ops.rules import check_choice, check_range


@dataclass(frozen=True)
class Psft(WeightMethod):
    """Weight each token by its gain over the history, and leave it alone when the gain is large.

    Attributes:
        epsilon: how far the probability of a token may rise above that of the history, relative to it, at least 0.
        history: ``ema`` compares with a moving average of the trained weights, ``base`` with the frozen base model.
        ema_decay: decay of the moving average at each optimizer step, in [0, 1).
    """

    name: ClassVar[str] = "psft"
    summary: ClassVar[str] = "every token, until the model is surer of it than a moment ago"
    formula: ClassVar[str] = "weight = r if r <= 1 + epsilon, else 0; r = exp(loss_history - loss_current)"
    meaning: ClassVar[str] = (
        "Every token is kept; its loss stops counting where training has raised its probability by much."
    )
    paper: ClassVar[str] = "PSFT, 2025, arXiv 2508.17784"
    differences: ClassVar[str] = (
        "The code copies the model before each batch of 256 rows, and makes 8 steps on the batch. Here the history is "
        "a moving average, which lags by as many steps at the default decay, or the frozen base. With advantages of 1 "
        "the code's lower bound, 1 - 0.2, never acts, and is left out; so is the paper's warm-up by plain fine-tuning."
    )

    epsilon: float = 0.28
    history: Literal["ema", "base"] = "ema"
    ema_decay: float = 0.8

    def __post_init__(self) -> None:
        check_range("epsilon", self.epsilon, 0, math.inf)
        check_choice("history", self.history, ("ema", "base"))
        check_range("ema_decay", self.ema_decay, 0, np.nextafter(1, 0))

    @property
    def needs(self) -> Needs:
        """The losses of the history and of the model in training."""
        return frozenset({("history", "loss"), ("current", "loss")})

    @property
    def history_decay(self) -> float | None:
        """Decay of the moving average; None if the history is the frozen base."""
        return self.ema_decay if self.history == "ema" else None

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]`` in [0, 1 + epsilon], the weight."""
        gain = statistics.get("history", "loss") - statistics.get("current", "loss")
        bound = np.float32(math.log1p(self.epsilon))
        return np.where(gain <= bound, np.exp(np.minimum(gain, bound)), np.float32(0))
