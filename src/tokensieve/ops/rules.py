"""Selection rules: from scores to the tokens that are kept.

A rule can only drop: a token without a label never gets one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX, Bool, Float32, Int64, Rounding, Scope, Statistics, check_finite
from tokensieve.errors import TokensieveError
from tokensieve.ops.cutoff import cutoff_of
from tokensieve.ops.ragged import order_keys, rank_in_segments, segment_counts, segment_ids

_WHOLES = {"dataset": "the data set", "batch": "each batch", "example": "each example"}
_ROUNDED = {"floor": "rounded down", "ceil": "rounded up"}


class Ranking(ABC):
    """A rule that ranks tokens by their scores and keeps the highest.

    Ties are broken by position: the earlier example, then the earlier token, wins. Tokens that must be
    kept (turn ends) count within what is kept; only when they alone exceed it is more kept. The ranking decides upon
    the others, the free ones: it picks those whose `values` are the highest.

    Attributes:
        scope: ``dataset`` ranks all trainable tokens together, ``example`` within each example,
            ``batch`` within the statistics given (a training batch).
    """

    scope: Scope

    @abstractmethod
    def count(self, trainable: int) -> int:
        """Return how many of ``trainable`` tokens are kept."""

    def values(self, scores: Float32) -> Float32:
        """Return float32 ``[tokens]``, higher for what is picked first; the same of these values gives the scores."""
        return scores

    def keys(self, scores: Float32, free: Bool) -> NDArray[np.uint32]:
        """Return uint32 ``[tokens]`` in the order of `values`; 0 for tokens that are not free, and for no others."""
        return order_keys(self.values(scores)) * free

    def picks(self, trainable: int, forced: int) -> int:
        """Return how many tokens the ranking picks, of ``trainable`` ones of which ``forced`` must be kept."""
        return max(0, self.count(trainable) - forced)

    def decide(self, picked: Bool, trainable: Bool, forced: Bool) -> Bool:
        """Return bool ``[tokens]``, which are kept: those that the ranking picked, and those that must be."""
        del trainable
        return picked | forced

    def lowest(self, picks: int) -> int:
        """Return the rank of the lowest token that is kept by rank, from 1; of no token where none is."""
        return picks

    def keep(self, scores: Float32, statistics: Statistics) -> Bool:
        """Return bool ``[tokens]``, True for kept tokens, from float32 ``[tokens]`` scores."""
        trainable, forced = statistics.trainable, forced_tokens(statistics)
        check_finite(scores, trainable, statistics.cu_seqlens, "score")
        free = trainable & ~forced
        if self.scope != "example":
            values, count = self.values(scores), self.picks(int(trainable.sum()), int(forced.sum()))
            return self.decide(cutoff_of(values[free], count).keep(values, free), trainable, forced)
        counts = zip(
            *(segment_counts(mask, statistics.cu_seqlens).tolist() for mask in (trainable, forced)), strict=True
        )
        picks = np.array([self.picks(*both) for both in counts], dtype=np.int64)
        example = segment_ids(statistics.cu_seqlens)
        return self.decide(rank_in_segments(self.keys(scores, free), example) < picks[example], trainable, forced)


@dataclass(frozen=True)
class TopFraction(Ranking):
    """Keep the highest-scoring fraction of the trainable tokens.

    Attributes:
        fraction: share to keep, in (0, 1].
        scope: what is ranked together, as `Ranking` says.
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

    @property
    def kept_fraction(self) -> float:
        """Share of the trainable tokens that is kept."""
        return self.fraction

    def count(self, trainable: int) -> int:
        """Return how many of ``trainable`` tokens are kept."""
        exact = trainable * self.fraction
        return int(exact) if self.rounding == "floor" else math.ceil(exact)


@dataclass(frozen=True)
class TopCount(Ranking):
    """Keep a given number of the highest-scoring tokens of the whole data set; all where there are not as many.

    Attributes:
        tokens: how many to keep.

    Raises:
        TokensieveError: no whole number of at least 0.
    """

    tokens: int
    scope: ClassVar[Scope] = "dataset"  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self) -> None:
        check_range("tokens", self.tokens, 0, math.inf, whole=True)

    def count(self, trainable: int) -> int:
        """Return how many of ``trainable`` tokens are kept."""
        return min(self.tokens, trainable)


@dataclass(frozen=True)
class DropFraction(TopFraction):
    """Drop the lowest-scoring fraction, and keep the rest.

    Ties are broken by position: the earlier example, then the earlier token, is dropped.

    Attributes:
        fraction: share to drop, in (0, 1]; ``rounding`` is that of the number of dropped tokens.
    """

    @property
    def kept_fraction(self) -> float:
        """Share of the trainable tokens that is kept."""
        return 1 - self.fraction

    def count(self, trainable: int) -> int:
        """Return how many of ``trainable`` tokens are kept."""
        return trainable - super().count(trainable)

    def values(self, scores: Float32) -> Float32:
        """Return float32 ``[tokens]``, highest for the lowest score."""
        return -scores

    def picks(self, trainable: int, forced: int) -> int:
        """Return how many of ``trainable`` tokens are dropped, none of them ``forced``."""
        return min(super().count(trainable), trainable - forced)

    def decide(self, picked: Bool, trainable: Bool, forced: Bool) -> Bool:
        """Return bool ``[tokens]``, which are kept: the trainable ones that the ranking did not pick."""
        del forced
        return trainable & ~picked

    def lowest(self, picks: int) -> int:
        """Return the rank of the lowest token that is kept by rank: the first that is not dropped."""
        return picks + 1


@dataclass(frozen=True)
class TopExamples:
    """Keep every trainable token of the highest-scoring examples of a training batch.

    Attributes:
        examples: how many to keep; all of a batch that has no more, such as the last one of an epoch. Ties are broken
            by position: the earlier example wins.
    """

    examples: int
    scope: ClassVar[Scope] = "batch"

    def __post_init__(self) -> None:
        check_range("examples", self.examples, 1, math.inf, whole=True)

    def keep(self, scores: Float32, statistics: Statistics) -> Bool:
        """Return bool ``[tokens]``; ``scores`` holds an example's score at its first trainable token.

        Raises:
            TokensieveError: a score that is NaN or infinite.
        """
        trainable = statistics.trainable
        check_finite(scores, trainable, statistics.cu_seqlens, "score")
        example = segment_ids(statistics.cu_seqlens)[trainable]
        numbers, first = np.unique(example, return_index=True)
        best = numbers[np.argsort(-scores[trainable][first], kind="stable")[: self.examples]]
        return trainable & np.isin(segment_ids(statistics.cu_seqlens), best)


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


Rule = TopFraction | TopCount | Threshold | TopExamples


def apply_rule(rule: Rule, scores: Float32, statistics: Statistics) -> Int64:
    """Return int64 ``[tokens]`` labels: those of ``statistics`` with the dropped tokens at -100."""
    return np.where(rule.keep(scores, statistics), statistics.labels, np.int64(IGNORE_INDEX))


def in_words(rule: Rule) -> str:
    """Return a rule in words.

    >>> in_words(TopFraction(0.6))
    'top 0.6 of the data set, rounded down'
    """
    match rule:
        case DropFraction(fraction, scope, rounding):
            return f"all but the lowest {fraction:g} of {_WHOLES[scope]}, {_ROUNDED[rounding]}"
        case TopFraction(fraction=1.0):
            return "every trainable token"
        case TopFraction(fraction, scope, rounding):
            return f"top {fraction:g} of {_WHOLES[scope]}, {_ROUNDED[rounding]}"
        case TopCount(tokens):
            return f"top {tokens:,} tokens of the data set"
        case Threshold(value):
            return f"score of at least {value:g}"
        case TopExamples(examples):
            return f"top {examples} examples of each batch"


def forced_tokens(statistics: Statistics) -> Bool:
    """Return bool ``[tokens]``, the trainable tokens that a rule keeps whatever their score."""
    if statistics.turn_end is None:
        return np.zeros(len(statistics.labels), dtype=bool)
    return statistics.turn_end & statistics.trainable


def check_fraction(fraction: Any, name: str = "fraction") -> None:
    """Raise ``TokensieveError`` unless ``fraction`` is a number in (0, 1]."""
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        raise TokensieveError(
            f"{name} is {fraction!r}, it must be above 0 and at most 1",
            hint=f"{name}: 0.6 keeps 60 % of the trainable tokens",
        )


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ``TokensieveError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise TokensieveError(f"{name} is {value!r}, it must be one of {', '.join(choices)}")


def check_range(name: str, value: Any, low: float, high: float, *, whole: bool = False) -> None:
    """Raise ``TokensieveError`` unless ``value`` is finite, from ``low`` to ``high``, and whole where asked."""
    kinds = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high or abs(value) == math.inf:
        kind = "a whole number" if whole else "a number"
        bounds = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}" if low > -math.inf else ""
        raise TokensieveError(f"{name} is {value!r}, it must be {kind} {bounds}".rstrip())
