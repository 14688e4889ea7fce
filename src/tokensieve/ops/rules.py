"""Selection rules: from scores to the tokens that are kept.

A rule can only drop: a token without a label never gets one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.errors import TokensieveError
from tokensieve.ops.cutoff import find_cutoff
from tokensieve.ops.ragged import order_keys, rank_in_segments, segment_counts, segment_ids
from tokensieve.types import IGNORE_INDEX, Bool, Float32, Int64, Rounding, Scope, Statistics, check_finite

_FORCED = np.uint32(0xFFFFFFFF)  # above the key of every finite score


@dataclass(frozen=True)
class TopFraction:
    """Keep the highest-scoring fraction of the trainable tokens.

    Ties are broken by position: the earlier example, then the earlier token, wins. Tokens that must be
    kept (turn ends) count within the fraction; only when they alone exceed it is more kept.

    Attributes:
        fraction: share to keep, in (0, 1].
        scope: ``dataset`` ranks all trainable tokens together, ``example`` within each example,
            ``batch`` within the statistics given (a training batch).
        rounding: ``floor`` keeps ``int(n * fraction)`` tokens, ``ceil`` keeps ``ceil(n * fraction)``.

    Raises:
        TokensieveError: a fraction outside (0, 1], an unknown scope or rounding.
    """

    fraction: float
    scope: Scope = "dataset"
    rounding: Rounding = "floor"

    def __post_init__(self) -> None:
        check_fraction(self.fraction)
        check_choice("scope", self.scope, ("dataset", "batch", "example"))
        check_choice("rounding", self.rounding, ("floor", "ceil"))

    def count(self, trainable: int) -> int:
        """Return how many of ``trainable`` tokens are kept."""
        exact = trainable * self.fraction
        return int(exact) if self.rounding == "floor" else math.ceil(exact)

    def keep(self, scores: Float32, statistics: Statistics) -> Bool:
        """Return bool ``[tokens]``, True for kept tokens, from float32 ``[tokens]`` scores."""
        trainable, forced = statistics.trainable, forced_tokens(statistics)
        keys = ranking_keys(scores, trainable, forced, statistics.cu_seqlens)
        keep = np.zeros(len(trainable), dtype=bool)
        if self.scope != "example":
            count = max(self.count(len(keys)), int(forced.sum()))
            keep[trainable] = find_cutoff(lambda: [keys], count).keep(keys)
            return keep
        trainable_counts = segment_counts(trainable, statistics.cu_seqlens)
        forced_counts = segment_counts(forced, statistics.cu_seqlens)
        quota = np.array([self.count(n) for n in trainable_counts.tolist()], dtype=np.int64)
        example = segment_ids(statistics.cu_seqlens)[trainable]
        ranks = rank_in_segments(keys, example)
        keep[trainable] = ranks < np.maximum(quota, forced_counts)[example]
        return keep


@dataclass(frozen=True)
class Threshold:
    """Keep the trainable tokens whose score is at least ``value``, and those that must be kept."""

    value: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise TokensieveError(f"a threshold must be a finite number, not {self.value}")

    def keep(self, scores: Float32, statistics: Statistics) -> Bool:
        """Return bool ``[tokens]``, True for kept tokens, from float32 ``[tokens]`` scores."""
        check_finite(scores, statistics.trainable, statistics.cu_seqlens, "score")
        return statistics.trainable & ((scores >= self.value) | forced_tokens(statistics))


Rule = TopFraction | Threshold


def apply_rule(rule: Rule, scores: Float32, statistics: Statistics) -> Int64:
    """Return int64 ``[tokens]`` labels: those of ``statistics`` with the dropped tokens at -100."""
    return np.where(rule.keep(scores, statistics), statistics.labels, IGNORE_INDEX)


def forced_tokens(statistics: Statistics) -> Bool:
    """Return bool ``[tokens]``, the trainable tokens that a rule keeps whatever their score."""
    if statistics.turn_end is None:
        return np.zeros(len(statistics.labels), dtype=bool)
    return statistics.turn_end & statistics.trainable


def ranking_keys(scores: Float32, trainable: Bool, forced: Bool, cu_seqlens: Int64) -> NDArray[np.uint32]:
    """Return uint32 ``[trainable tokens]`` keys that rank as the scores do, forced tokens first.

    Raises:
        TokensieveError: a NaN or infinite score on a trainable token, with its examples.
    """
    check_finite(scores, trainable, cu_seqlens, "score")
    keys = order_keys(scores[trainable])
    keys[forced[trainable]] = _FORCED
    return keys


def check_fraction(fraction: Any, name: str = "fraction") -> None:
    """Raise ``TokensieveError`` unless ``fraction`` is a number in (0, 1]."""
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        raise TokensieveError(
            f"{name} is {fraction!r}, it must be above 0 and at most 1",
            mend=f"{name}: 0.6 keeps 60 % of the trainable tokens",
        )


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ``TokensieveError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise TokensieveError(f"{name} is {value!r}, it must be one of {', '.join(choices)}")
