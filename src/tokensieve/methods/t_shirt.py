"""T-SHIRT: tokens that depend on the prompt, and rows that hold many of them (Fu et al., 2025, arXiv 2506.01317).

``change = loss_base - loss_without_prompt_base`` is how much the prompt changes the loss of a token: below 0 where the
prompt helps, and near 0 where the answer alone says as much. With ``keep: tokens``, the score is the size of the
change: what does not depend on the prompt teaches nothing about following it.

With ``keep: rows``, the score is that of the row, S-IFD: the exponential of the mean change over its informative
tokens, those whose size of the change is above the threshold of the data set. The authors train on the rows with the
highest S-IFD, whose prompts help, but least. A row whose prompt does not help, of which the mean change of all tokens
is 0 or more (an IFD of at least 1), comes after all others.

The loss without the prompt is measured with each answer alone, behind the first token of its example. In a
conversation, each turn is an answer, and everything before it is its prompt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.methods._base import Corpus, FractionMethod
from tokensieve.ops.ragged import segment_means
from tokensieve.ops.rules import check_choice, check_fraction, check_range

_LARGEST = np.float32(88)  # nats: its exponential is still a float32


@dataclass(frozen=True)
class TShirt(FractionMethod):
    """Keep the tokens, or the rows, that depend on their prompt as the method wants them.

    Attributes:
        keep: ``tokens`` ranks tokens by the size of their change, ``rows`` ranks rows by S-IFD.
        informative: share of the tokens of the data set that S-IFD reads, in (0, 1].
        threshold: size of the change, in nats, above which a token is informative; None computes it from the data.
    """

    name: ClassVar[str] = "t-shirt"
    summary: ClassVar[str] = "tokens whose loss the prompt changes (or rows by it)"
    formula: ClassVar[str] = "|loss_base - loss_without_prompt_base|, or S-IFD = exp(mean change of informative tokens)"
    meaning: ClassVar[str] = (
        "The score is by how much the prompt changes the base model's loss of the token, in nats; or that of its row."
    )
    paper: ClassVar[str] = "T-SHIRT, NeurIPS 2025, arXiv 2506.01317"
    differences: ClassVar[str] = (
        "The authors select 5 % of the rows and train on all of their tokens: `keep: rows, fraction: 0.05`. Here "
        "`fraction` counts tokens, so the last row may be cut. The code averages S-IFD over 30 passes with noise on "
        "the embeddings and prefers rows where it varies little; here there is one pass without noise. The code "
        "measures the answer behind the begin of the sequence, or without its first token where the tokenizer has "
        "none; here the first token of the example stands before it, and chat templates are used."
    )

    fraction: float = 0.5
    keep: Literal["tokens", "rows"] = "tokens"
    informative: float = 0.5
    threshold: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("keep", self.keep, ("tokens", "rows"))
        check_fraction(self.informative, "informative")
        if self.threshold is not None:
            check_range("threshold", self.threshold, 0, math.inf)

    @property
    def needs(self) -> Needs:
        """The losses of the base, with the prompt and without."""
        return frozenset({("base", "loss"), ("base", "loss_without_prompt")})

    def fit(self, corpus: Corpus) -> Self:
        """Return the method with the threshold of the data set, which only the rows' score reads."""
        if self.keep == "tokens" or self.threshold is not None:
            return self
        sizes = [np.abs(_change(part))[part.trainable] for part in corpus()]
        return replace(self, threshold=self._threshold_of(np.concatenate(sizes))) if sizes else self

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``: the size of the change; or S-IFD of the row, -IFD where that is 1 or more."""
        change, trainable = _change(statistics), statistics.trainable
        size = np.abs(change)
        if self.keep == "tokens":
            return size
        threshold = self._threshold_of(size[trainable]) if self.threshold is None else self.threshold
        informative = trainable & (size > np.float32(threshold))
        whole = segment_means(change, trainable, statistics.cu_seqlens)
        chosen = segment_means(change, informative, statistics.cu_seqlens)
        selective, plain = (np.exp(np.minimum(mean, _LARGEST)) for mean in (chosen, whole))
        return np.where(whole < 0, selective, -plain)

    def _threshold_of(self, sizes: Float32) -> float:
        return float(np.quantile(sizes, 1 - self.informative)) if len(sizes) else 0.0


def _change(statistics: Statistics) -> Float32:
    return statistics.get("base", "loss") - statistics.get("base", "loss_without_prompt")
