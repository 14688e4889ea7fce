"""Q-Tuning: rows by error and uncertainty first, then tokens of the rows that are wrong with confidence (2509.23873).

The mean loss of a row (the logarithm of its perplexity) is its error, the mean entropy its uncertainty. Of the four
corners of this plane, two teach: rows of high error and low uncertainty (misconceptions) and rows of low error and high
uncertainty (calibration). The others, noise and what the model knows already, are dropped whole, with all rows between.
Calibration rows are kept whole. Of a misconception row, the tokens with the highest perplexity are dropped, after it
was smoothed over neighbours: ``(1 - smoothing) * PPL[t] + smoothing * (PPL[t-1] + PPL[t+1]) / 2``.

All four corners are cut at one quantile ``q`` of each axis. How far it has to go in so that the wanted share of rows is
kept need not be searched for: a row lies in a corner up to the lesser of its two ranks, counted from the sides of that
corner, so that the rows are ranked by this number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Bool, Float32, Int64, Needs, Statistics, UInt8
from tokensieve.errors import TokensieveError
from tokensieve.methods._base import Corpus, Method, over
from tokensieve.ops.ragged import order_keys, rank_in_segments, segment_any, segment_counts, segment_ids, segment_means
from tokensieve.ops.rules import Threshold, check_choice, check_fraction, check_range

_LARGEST = 700.0  # nats: its exponential is still a float64
Cuts = tuple[float, float, float, float]


@dataclass(frozen=True)
class QTuning(Method):
    """Keep rows of two corners of error and uncertainty, and the more probable tokens of the first of them.

    Attributes:
        keep_rows: share of the rows to keep, in (0, 1]; a few more where rows tie.
        keep_tokens: share of the tokens to keep of each misconception row, in (0, 1], rounded down, at least one.
        smoothing: how much the neighbours of a token count, from 0 to 1.
        current: ``base`` selects offline, with the base; ``current`` selects within each training batch, with the model
            in training.
        cuts: mean loss of the two edges, low and high, and mean entropy of the two, in nats; None computes them from
            the data, or from the batch.
    """

    name: ClassVar[str] = "q-tuning"
    summary: ClassVar[str] = (
        "rows that are wrong with confidence, or right without, and the likelier tokens of the former"
    )
    formula: ClassVar[str] = "rank of -((1-s) PPL[t] + s (PPL[t-1] + PPL[t+1]) / 2) in its row, from the cut up"
    meaning: ClassVar[str] = (
        "The score is the share of the row's tokens between the token and the cut of its row: 1 in a row that is kept "
        "whole, -1 in a row that is dropped."
    )
    paper: ClassVar[str] = "Q-Tuning, 2025, arXiv 2509.23873"
    differences: ClassVar[str] = (
        "The authors have not published their code. The paper selects in each batch of training, with the model in "
        "training: `current: current`. It cuts each axis at a quantile of its own, found by bisection; here one "
        "quantile cuts both axes, which ranks rows. Where more rows are wanted than the corners hold, they grow over "
        "the middle, and a row in both is kept whole. Neighbours are the next trainable tokens of the row; the first "
        "and the last count themselves in place of the one that they lack. The default of `smoothing` is that of "
        "others who built the method from the paper."
    )
    reason_names: ClassVar[tuple[str, ...]] = (
        "in a row that is neither wrong with confidence nor right without",
        "improbable in its row",
    )

    keep_rows: float = 0.5
    keep_tokens: float = 0.7
    smoothing: float = 0.5
    current: Literal["base", "current"] = "base"
    cuts: Cuts | None = None

    def __post_init__(self) -> None:
        check_fraction(self.keep_rows, "keep_rows")
        check_fraction(self.keep_tokens, "keep_tokens")
        check_range("smoothing", self.smoothing, 0, 1)
        check_choice("current", self.current, ("base", "current"))
        if self.cuts is None:
            return
        if not isinstance(self.cuts, list | tuple) or len(self.cuts) != 4:
            raise TokensieveError(
                f"cuts is {self.cuts!r}, it must be four numbers", hint="leave it out to compute them from the data"
            )
        for value in self.cuts:
            check_range("cuts", value, -math.inf, math.inf)
        object.__setattr__(self, "cuts", tuple(self.cuts))  # a recipe gives a list

    @property
    def needs(self) -> Needs:
        """Loss and entropy of the current model."""
        return frozenset({(self.current, "loss"), (self.current, "entropy")})

    @property
    def rule(self) -> Threshold:
        """Keep the tokens above the cut of their row."""
        return Threshold(0.0)

    def fit(self, corpus: Corpus) -> Self:
        """Return the method with the cuts of the data set; 8 bytes of memory for each row."""
        if self.cuts is not None:
            return self
        parts = list(over(corpus, self._rows_of))
        if not sum(len(errors) for errors, _ in parts):
            return self
        errors, uncertainties = (np.concatenate(column) for column in zip(*parts, strict=True))
        return replace(self, cuts=_cuts(errors, uncertainties, self.keep_rows))

    def rows(self, statistics: Statistics) -> Bool:
        """Return bool ``[examples]``, the misconception and calibration rows."""
        misconceptions, calibration = self._corners(statistics)
        return misconceptions | calibration

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``: at least 0 for what is kept; see `meaning`."""
        misconceptions, calibration = (
            np.repeat(corner, np.diff(statistics.cu_seqlens)) for corner in self._corners(statistics)
        )
        scores = np.where(calibration, np.float32(1), np.float32(-1))
        pruned = misconceptions & statistics.trainable
        scores[pruned] = self._above_cut(statistics, pruned)
        return scores

    def reasons(self, statistics: Statistics) -> UInt8:
        """Return uint8 ``[tokens]``, one bit per reason in `reason_names`."""
        rows = np.repeat(self.rows(statistics), np.diff(statistics.cu_seqlens))
        improbable = rows & (self.score(statistics) < 0)
        bits = (~rows).astype(np.uint8) | improbable.astype(np.uint8) << np.uint8(1)
        return np.where(statistics.trainable, bits, np.uint8(0))

    def _rows_of(self, statistics: Statistics) -> tuple[Float32, Float32]:
        """Return error and uncertainty of each row that has a trainable token, float32 ``[rows]`` each."""
        errors, uncertainties, answered = self._axes(statistics)
        return errors[answered], uncertainties[answered]

    def _axes(self, statistics: Statistics) -> tuple[Float32, Float32, Bool]:
        """Return mean loss and mean entropy, float32 ``[examples]``, and bool ``[examples]``, where there are any."""
        trainable, cu_seqlens = statistics.trainable, statistics.cu_seqlens
        answered = segment_any(trainable, cu_seqlens)
        starts = np.minimum(cu_seqlens[:-1], max(0, len(trainable) - 1))
        errors, uncertainties = (
            segment_means(statistics.get(self.current, name), trainable, cu_seqlens)[starts]
            for name in ("loss", "entropy")
        )
        return errors, uncertainties, answered

    def _corners(self, statistics: Statistics) -> tuple[Bool, Bool]:
        """Return the misconception rows and the calibration rows, bool ``[examples]`` each."""
        fitted = self.fit(lambda: [statistics])
        errors, uncertainties, answered = self._axes(statistics)
        if fitted.cuts is None:
            return answered, answered
        low_error, high_error, low_uncertainty, high_uncertainty = np.array(fitted.cuts, dtype=np.float32)
        calibration = answered & (errors <= low_error) & (uncertainties >= high_uncertainty)
        misconceptions = answered & (errors >= high_error) & (uncertainties <= low_uncertainty)
        return misconceptions & ~calibration, calibration

    def _above_cut(self, statistics: Statistics, pruned: Bool) -> Float32:
        """Return float32 ``[pruned tokens]``, the share of the row's tokens between a token and the cut."""
        row = segment_ids(statistics.cu_seqlens)[pruned]
        smoothed = _smoothed(statistics.get(self.current, "loss")[pruned], row, self.smoothing)
        counts = segment_counts(pruned, statistics.cu_seqlens)
        dropped = counts - np.maximum(1, (counts * self.keep_tokens).astype(np.int64))
        ranks = rank_in_segments(order_keys(smoothed.astype(np.float32)), row)
        return ((ranks - dropped[row]) / counts[row]).astype(np.float32)


def _smoothed(losses: Float32, row: Int64, smoothing: float) -> NDArray[np.float64]:
    """Return float64 ``[n]``: the logarithm of the perplexity that is smoothed over the neighbours in the row."""
    perplexity = np.exp(np.minimum(losses.astype(np.float64), _LARGEST))
    same = row[1:] == row[:-1]
    before, after = perplexity.copy(), perplexity.copy()
    before[1:][same] = perplexity[:-1][same]
    after[:-1][same] = perplexity[1:][same]
    return np.log((1 - smoothing) * perplexity + smoothing * (before / 2 + after / 2))


def _cuts(errors: Float32, uncertainties: Float32, share: float) -> Cuts:
    """Return the edges of the corners that hold a share of the rows: mean losses and entropies, low and high."""
    last = len(errors) - 1
    error_rank, uncertainty_rank = (np.argsort(np.argsort(axis, kind="stable")) for axis in (errors, uncertainties))
    misconception = np.minimum(error_rank, last - uncertainty_rank)
    calibration = np.minimum(last - error_rank, uncertainty_rank)
    depth = np.sort(np.maximum(misconception, calibration))[::-1]
    edge = int(depth[math.ceil(share * len(errors)) - 1])
    return tuple(float(np.sort(axis)[place]) for axis in (errors, uncertainties) for place in (last - edge, edge))  # pyright: ignore[reportReturnType]
