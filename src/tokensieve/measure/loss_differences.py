"""How far one model's losses lie below another's, before anything is selected by the difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX, LOSS, Int64
from tokensieve.measure.measurement import Measurement
from tokensieve.ops.ragged import segment_counts


@dataclass(frozen=True, eq=False)
class LossDifferences:
    """The loss of a base less that of a reference, example by example.

    Attributes:
        rows: int64 ``[examples]``, numbers of the source rows.
        gains: float64 ``[examples]``, summed over the trainable tokens, in nats; above 0 where the reference is better.
        tokens: int64 ``[examples]``, trainable tokens.
        differing: trainable tokens whose two losses are not exactly the same number.
    """

    rows: Int64
    gains: NDArray[np.float64]
    tokens: Int64
    differing: int

    @property
    def ties(self) -> bool:
        """Whether the losses are the same at every trainable token: every score made of their difference then ties."""
        return self.differing == 0

    @property
    def mean(self) -> float:
        """Mean gain of a trainable token, in nats; 0 where there is none."""
        return float(self.gains.sum() / max(1, self.tokens.sum()))


def compare_losses(base: Measurement, reference: Measurement) -> LossDifferences:
    """Compare the losses of two models over the same examples, one shard at a time.

    The interval of the mean is that of a ratio of sums over examples:
    ``evaluate.intervals.bootstrap_ratio(found.gains, found.tokens)``.

    Args:
        base: with the loss of every shard.
        reference: likewise, over the same examples.
    """
    rows, gains, tokens, differing = [], [], [], 0
    for number, shard in enumerate(base.examples):
        trainable = shard.labels != IGNORE_INDEX
        # in float64: a shard's sum of float32 differences would lose what is small
        gain = np.where(trainable, base.read(LOSS, number).astype(np.float64) - reference.read(LOSS, number), 0)
        rows.append(shard.rows)
        gains.append(np.add.reduceat(gain, shard.cu_seqlens[:-1]))
        tokens.append(segment_counts(trainable, shard.cu_seqlens))
        differing += int(np.count_nonzero(gain))
    return LossDifferences(*(np.concatenate(parts) for parts in (rows, gains, tokens)), differing=differing)
