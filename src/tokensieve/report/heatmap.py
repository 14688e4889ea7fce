"""Token heat maps, independent of the output: the state and colour level of each token, and runs of equal style.

The page and the terminal draw the same runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Bool, Float32, UInt8
from tokensieve.data.decoding import Piece

LEVELS = 8
"""Colour steps on each side of zero, or from the low to the high end of an unsigned scale."""
PERCENTILES = (0.01, 0.99)
"""Values beyond these quantiles of the trainable tokens get the colour at the end of the scale."""

State = Literal["prompt", "kept", "dropped", "mixed"]


@dataclass(frozen=True)
class Scale:
    """Maps values to colour levels.

    Attributes:
        low: value of the lowest level.
        high: value of the highest level.
        signed: whether zero is the middle of the scale.
    """

    low: float
    high: float
    signed: bool

    def level(self, value: float) -> int:
        """Return the level of a value: -LEVELS to LEVELS when signed, else 0 to LEVELS."""
        if self.high <= self.low:
            return 0
        clipped = min(max(value, self.low), self.high)
        return round(LEVELS * (clipped / self.high if self.signed else (clipped - self.low) / (self.high - self.low)))


@dataclass(frozen=True)
class Style:
    """How a piece looks: its state, its colour level, and whether the data marks any of its tokens."""

    state: State
    level: int
    special: bool
    marked: bool = False


@dataclass(frozen=True)
class StyledRun:
    """Neighbouring pieces of one style."""

    style: Style
    pieces: tuple[Piece, ...]


def percentile_scale(low: float, high: float) -> Scale:
    """Return the scale between two percentiles, symmetric about zero if there are negative values."""
    if low >= 0:
        return Scale(low, high, signed=False)
    limit = max(abs(low), abs(high))
    return Scale(-limit, limit, signed=True)


def value_ends(values: Float32, trainable: Bool) -> tuple[float, float]:
    """Return the 1st and the 99th percentile of the trainable tokens' values; zeros where there are none.

    Args:
        values: float32 ``[tokens]``; values of other tokens are ignored.
        trainable: bool ``[tokens]``.
    """
    if not trainable.any():
        return 0.0, 0.0
    low, high = np.quantile(values[trainable].astype(np.float64), PERCENTILES)
    return float(low), float(high)


def styled_runs(
    pieces: Sequence[Piece],
    trainable: Bool,
    kept: Bool,
    values: Float32,
    scale: Scale,
    longest: int | None = None,
    marks: UInt8 | None = None,
) -> list[StyledRun]:
    """Merge neighbouring pieces of equal style.

    Args:
        pieces: of one example.
        trainable: bool ``[tokens]``; other tokens are prompt.
        kept: bool ``[tokens]``; values of prompt tokens are ignored.
        values: float32 ``[tokens]``, the values that the colour shows.
        scale: maps values to levels.
        longest: maximum number of pieces in a run, except in runs of the prompt.
        marks: uint8 ``[tokens]``, above 0 where a token is marked; None where none is.
    """
    runs: list[tuple[Style, list[Piece]]] = []
    for piece in pieces:
        style = _style(piece, trainable, kept, values, scale)
        if marks is not None and marks[piece.start : piece.stop].any():
            style = replace(style, marked=True)
        fits = longest is None or style.state == "prompt" or (runs and len(runs[-1][1]) < longest)
        if runs and runs[-1][0] == style and fits:
            runs[-1][1].append(piece)
        else:
            runs.append((style, [piece]))
    return [StyledRun(style, tuple(together)) for style, together in runs]


def _style(piece: Piece, trainable: Bool, kept: Bool, values: Float32, scale: Scale) -> Style:
    tokens = slice(piece.start, piece.stop)
    chosen = trainable[tokens]
    if not chosen.any():
        return Style("prompt", 0, piece.special)
    decisions: NDArray[np.bool_] = kept[tokens][chosen]
    state: State = "kept" if decisions.all() else "mixed" if decisions.any() else "dropped"
    return Style(state, scale.level(float(values[tokens][chosen].mean())), piece.special)
