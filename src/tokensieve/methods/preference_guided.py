"""Preference-grounded token guidance (Yang et al., 2023, arXiv 2306.00398).

Trains on every token and weights it by its share of the rewards of its answer: ``w = r / sum r``, with ``r`` in (0, 1)
from a model that learned from preferences among answers which tokens make an answer good. The loss is the mean over
answers of these weighted sums, so that a long answer counts no more than a short one. As in `sequence-mean`, the
weights of a data set have a mean of 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.methods.sequence_mean import SequenceMean
from tokensieve.ops.ragged import segment_means


@dataclass(frozen=True)
class PreferenceGuided(SequenceMean):
    """Weight each token by its share of the rewards of its answer; with equal rewards, this is `sequence-mean`."""

    name: ClassVar[str] = "preference-guided"
    summary: ClassVar[str] = "every token, weighted by a reward learned from preferences"
    formula: ClassVar[str] = "weight = r / (sum of r over the answer) * mean tokens of an answer, r = reward_reward"
    meaning: ClassVar[str] = (
        "Every token is kept; the higher its reward among the tokens of its answer, the more its loss counts."
    )
    paper: ClassVar[str] = "Preference-grounded token-level guidance, NeurIPS 2023, arXiv 2306.00398"
    differences: ClassVar[str] = (
        "No retraining on fresh samples: the authors sample answers from the model in training, rank them by a metric, "
        "and train the reward model again on them from time to time; here the preferences are those at hand, and the "
        "reward model is trained once, before. The authors train the backbone of the reward model too; here it is "
        "frozen. An answer's reward is the mean of its tokens' rewards; the paper also tries a soft maximum and "
        "minimum. All trainable tokens of an example are one answer, also those of several turns."
    )
    assumes: ClassVar[Literal["preferences"]] = "preferences"

    @property
    def needs(self) -> Needs:
        """The rewards."""
        return frozenset({("reward", "reward")})

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, the weight, at least 0."""
        reward = statistics.get("reward", "reward")
        means = segment_means(reward, statistics.trainable, statistics.cu_seqlens)
        # Where every reward is below the smallest float32, the tokens of the answer count alike.
        share = np.divide(reward, means, out=np.ones_like(reward), where=means > 0)
        return super().score(statistics) * share
