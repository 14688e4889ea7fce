"""Preference-grounded token guidance (Yang et al., 2023, arXiv 2306.00398).

Trains on every token and weights it by its share of the rewards of its answer: ``w = r / sum r``, with ``r`` in (0, 1)
from a model that learned from preferences among answers which tokens make an answer good. The loss is the mean over
answers of these weighted sums, so that a long answer counts no more than a short one.

The weights are multiplied by the mean number of tokens of an answer: divided by the number of tokens, as all losses are
here, their sum is then that mean over answers, and the weights of a data set have a mean of 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.methods._base import Corpus, WeightMethod, over
from tokensieve.ops.ragged import segment_counts, segment_means
from tokensieve.ops.rules import check_range


@dataclass(frozen=True)
class PreferenceGuided(WeightMethod):
    """Weight each token by its share of the rewards of its answer.

    Attributes:
        tokens_per_answer: factor of all weights, at least 1; None takes the mean of the data.
    """

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

    tokens_per_answer: float | None = None

    def __post_init__(self) -> None:
        if self.tokens_per_answer is not None:
            check_range("tokens_per_answer", self.tokens_per_answer, 1, math.inf)

    @property
    def needs(self) -> Needs:
        """The rewards."""
        return frozenset({("reward", "reward")})

    def fit(self, corpus: Corpus) -> Self:
        """Return the method with the mean number of tokens of an answer of the data set."""
        if self.tokens_per_answer is not None:
            return self
        return replace(self, tokens_per_answer=_mean(list(over(corpus, _tokens_and_answers))))

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, the weight, at least 0."""
        reward, trainable, cu_seqlens = statistics.get("reward", "reward"), statistics.trainable, statistics.cu_seqlens
        length = self.tokens_per_answer or _mean([_tokens_and_answers(statistics)])
        means = segment_means(reward, trainable, cu_seqlens)
        counts = np.repeat(np.maximum(segment_counts(trainable, cu_seqlens), 1), np.diff(cu_seqlens))
        # Where every reward is below the smallest float32, the tokens of the answer count alike.
        share = np.divide(reward, means, out=np.ones_like(reward), where=means > 0)
        return (length * share / counts).astype(np.float32)


def _tokens_and_answers(statistics: Statistics) -> tuple[int, int]:
    """Return the number of trainable tokens, and of the examples that have some."""
    counts = segment_counts(statistics.trainable, statistics.cu_seqlens)
    return int(counts.sum()), int((counts > 0).sum())


def _mean(parts: list[tuple[int, int]]) -> float:
    tokens, answers = (sum(numbers) for numbers in zip(*parts, strict=True)) if parts else (1, 1)
    return tokens / max(1, answers)
