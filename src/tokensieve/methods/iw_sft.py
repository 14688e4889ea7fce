"""iw-SFT, importance-weighted fine-tuning (Qin and Springenberg, 2025, arXiv 2507.12856).

Trains on every token and weights it by ``clip(p / p_base)``: how much likelier the model in training finds it than the
base did, without a gradient through it. The weight is 1 at the first step, and then follows what the model has learnt.
With ``per: example``, all tokens of an example have the geometric mean of their ratios as weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.methods._base import WeightMethod
from tokensieve.ops.ragged import segment_means
from tokensieve.ops.rules import check_choice, check_range


@dataclass(frozen=True)
class IwSft(WeightMethod):
    """Weight each token by the clipped ratio of its probabilities, now and under the base.

    Attributes:
        low: lowest weight, in [0, 1].
        high: highest weight, at least 1.
        per: ``token`` weighs each token by its own ratio, ``example`` by the geometric mean over its example.
    """

    name: ClassVar[str] = "iw-sft"
    summary: ClassVar[str] = "every token, with more weight where the model has become surer than the base"
    formula: ClassVar[str] = "weight = clip(exp(loss_base - loss_current), low, high)"
    meaning: ClassVar[str] = (
        "Every token is kept; the more training has raised its probability, the more its loss counts."
    )
    paper: ClassVar[str] = "iw-SFT, 2025, arXiv 2507.12856"
    differences: ClassVar[str] = (
        "The code has both weights: for tokens, clipped to 0.2 and 1.8 (the default here), and for examples, clipped "
        "to 0 and 16, which it uses: `per: example, low: 0, high: 16`. The paper also samples rows by quality scores; "
        "here the rows are those of the data."
    )

    low: float = 0.2
    high: float = 1.8
    per: Literal["token", "example"] = "token"

    def __post_init__(self) -> None:
        check_range("low", self.low, 0, 1)
        check_range("high", self.high, 1, math.inf)
        check_choice("per", self.per, ("token", "example"))

    @property
    def needs(self) -> Needs:
        """The losses of the base and of the model in training."""
        return frozenset({("base", "loss"), ("current", "loss")})

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]`` in [low, high], the weight."""
        gain = statistics.get("base", "loss") - statistics.get("current", "loss")
        if self.per == "example":
            gain = segment_means(gain, statistics.trainable, statistics.cu_seqlens)
        # The upper bound comes first, or a large gain would overflow.
        ratio = np.exp(np.minimum(gain, np.float32(math.log(self.high))))
        return np.clip(ratio, np.float32(self.low), np.float32(self.high))
