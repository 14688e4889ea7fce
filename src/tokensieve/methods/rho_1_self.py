"""RHO-1 with a self-reference, without clean data (Lin et al., NeurIPS 2024, arXiv 2404.07965).

The reference is the base fine-tuned on the pool itself. Tokens are ranked within each example by the reference's loss
and by its entropy, lowest first: tokens that stay hard or uncertain after training on them are considered noise. A
token is kept if it is in the top fraction of both rankings, so at most ``fraction`` of the tokens are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.methods._base import Method
from tokensieve.ops.ragged import order_keys, rank_in_segments, segment_counts, segment_ids
from tokensieve.ops.rules import Threshold, check_fraction


@dataclass(frozen=True)
class Rho1Self(Method):
    """Low loss and low entropy of a reference trained on the pool, ranked within each example.

    Attributes:
        fraction: share of an example's trainable tokens to accept in each of the two rankings, in (0, 1].
    """

    name: ClassVar[str] = "rho-1-self"
    summary: ClassVar[str] = "tokens with low loss and low entropy after training on the pool"
    formula: ClassVar[str] = "-max(rank of loss_reference, rank of entropy_reference) / trainable tokens of the example"
    meaning: ClassVar[str] = (
        "The score is high where the model that was trained on the pool is right about the token and certain of it."
    )
    paper: ClassVar[str] = "Rho-1, NeurIPS 2024, arXiv 2404.07965"

    fraction: float = 0.7

    def __post_init__(self) -> None:
        check_fraction(self.fraction)

    @property
    def needs(self) -> Needs:
        """Loss and entropy of the reference."""
        return frozenset({("reference", "loss"), ("reference", "entropy")})

    @property
    def rule(self) -> Threshold:
        """Keep tokens within the fraction of both rankings."""
        return Threshold(float(np.float32(-self.fraction)))

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]`` in [-1, 0): the worse of the two 1-based ranks, as a negative share."""
        trainable = statistics.trainable
        example = segment_ids(statistics.cu_seqlens)[trainable]
        ranks = [
            rank_in_segments(order_keys(-statistics.get("reference", name)[trainable]), example)
            for name in ("loss", "entropy")
        ]
        counts = segment_counts(trainable, statistics.cu_seqlens)
        score = np.zeros(len(trainable), dtype=np.float32)
        score[trainable] = -(np.maximum(*ranks) + 1) / counts[example]
        return score
