"""Span ratio: drop spans that a model of the pool predicts better than a model of clean rows.

Two models are made from the base: the reference, of rows that are known to be clean, and one of the pool, noise
included. What both find hard cancels in ``loss_reference - loss_pool``: this is the log likelihood ratio that a token
comes from the pool's mixture rather than from clean text. Noise comes in spans, so a chain of two states, clean and
noise, joins the ratios of an answer to the odds that each token is noise; the odds also say how much to drop. Give
``models.pool`` a warm-up with two folds, so that what a model remembers of its own rows does not count.

This method is tokensieve's own, without a paper; `docs/evidence.md` has what it gains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.methods._base import Method
from tokensieve.ops.rules import Threshold, check_range
from tokensieve.ops.spans import chain_odds


@dataclass(frozen=True)
class SpanRatio(Method):
    """Keep tokens that are rather clean than noise, given the answer that they stand in.

    Attributes:
        margin: nats that the pool's model must be better by, at each token, before noise is the likelier cause; it pays
            for the pool's model having seen more rows.
        switch: probability of a change between clean text and noise at each token, in (0, 0.5]; 0.01 expects spans of
            100 tokens.
    """

    name: ClassVar[str] = "span-ratio"
    summary: ClassVar[str] = "tokens outside of spans that the pool explains better than clean rows do"
    formula: ClassVar[str] = "-log odds of noise given the answer's loss_reference - loss_pool - margin"
    assumes = "clean"
    drops_spans_of = "noise"
    meaning: ClassVar[str] = (
        "The score is the log odds, in nats, that the token is clean text and not part of a span of noise."
    )

    margin: float = 0.25
    switch: float = 0.01

    def __post_init__(self) -> None:
        check_range("margin", self.margin, -math.inf, math.inf)
        check_range("switch", self.switch, 1e-9, 0.5)

    @property
    def needs(self) -> Needs:
        """The losses of the reference and of the pool's model."""
        return frozenset({("reference", "loss"), ("pool", "loss")})

    @property
    def rule(self) -> Threshold:
        """Keep tokens whose odds of being noise are even or less."""
        return Threshold(0.0)

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, nats: the log odds that a token is clean, given all ratios of its answer."""
        ratio = statistics.get("reference", "loss") - statistics.get("pool", "loss") - np.float32(self.margin)
        return -chain_odds(ratio, statistics.trainable, statistics.cu_seqlens, self.switch)
