"""Every token, with the same total weight for every answer: the control of methods that weight within answers.

The loss is the mean over answers of their mean losses (`seq-mean-token-mean` in verl), in place of the mean over all
tokens, in which an answer counts by its length.

The weights are multiplied by the mean number of tokens of an answer: divided by the number of tokens, as all losses are
here, their sum is then that mean over answers, and the weights of a data set have a mean of 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.methods._base import Corpus, WeightMethod, over
from tokensieve.ops.ragged import segment_counts
from tokensieve.ops.rules import check_range


@dataclass(frozen=True)
class SequenceMean(WeightMethod):
    """Weight each token by one over the number of tokens of its answer.

    All trainable tokens of an example are one answer, also those of several turns.

    Attributes:
        tokens_per_answer: factor of all weights, at least 1; None takes the mean of the data.
    """

    name: ClassVar[str] = "sequence-mean"
    summary: ClassVar[str] = "every token, weighted so that all answers count alike (control)"
    formula: ClassVar[str] = "weight = mean tokens of an answer / tokens of the answer"
    meaning: ClassVar[str] = "Every token is kept; the longer its answer, the less its loss counts."

    tokens_per_answer: float | None = None

    def __post_init__(self) -> None:
        if self.tokens_per_answer is not None:
            check_range("tokens_per_answer", self.tokens_per_answer, 1, math.inf)

    @property
    def needs(self) -> Needs:
        """Nothing."""
        return frozenset()

    def fit(self, corpus: Corpus) -> Self:
        """Return the method with the mean number of tokens of an answer of the data set."""
        if self.tokens_per_answer is not None:
            return self
        return replace(self, tokens_per_answer=_mean(list(over(corpus, _tokens_and_answers))))

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, the weight, at least 0."""
        length = self.tokens_per_answer or _mean([_tokens_and_answers(statistics)])
        counts = np.maximum(segment_counts(statistics.trainable, statistics.cu_seqlens), 1)
        return np.repeat(length / counts, np.diff(statistics.cu_seqlens)).astype(np.float32)


def _tokens_and_answers(statistics: Statistics) -> tuple[int, int]:
    """Return the number of trainable tokens, and of the examples that have some."""
    counts = segment_counts(statistics.trainable, statistics.cu_seqlens)
    return int(counts.sum()), int((counts > 0).sum())


def _mean(parts: list[tuple[int, int]]) -> float:
    tokens, answers = (sum(numbers) for numbers in zip(*parts, strict=True)) if parts else (1, 1)
    return tokens / max(1, answers)
