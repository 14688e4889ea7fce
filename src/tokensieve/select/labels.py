"""Selection on plain arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Float32, Int64, Rounding, Scope, Statistics
from tokensieve.errors import TokensieveError
from tokensieve.ops.rules import TopFraction, apply_rule


def select_labels(
    scores: Float32,
    labels: NDArray[np.integer],
    cu_seqlens: Int64,
    *,
    fraction: float,
    scope: Scope = "dataset",
    rounding: Rounding = "floor",
) -> Int64:
    """Keep the highest-scoring fraction of the trainable tokens.

    Args:
        scores: float32 ``[tokens]``, higher = keep; what stands at tokens without a label is ignored.
        labels: integers ``[tokens]``, -100 where a token is not trainable.
        cu_seqlens: int64 ``[examples + 1]``, offsets of the examples.
        fraction: share to keep, in (0, 1].
        scope: ``dataset`` ranks all trainable tokens together, ``example`` within each example.
        rounding: ``floor`` keeps ``int(n * fraction)`` tokens, ``ceil`` keeps ``ceil(n * fraction)``.

    Returns:
        int64 ``[tokens]``: ``labels`` with the dropped tokens at -100. Ties are broken by position: the
        earlier token is kept.

    Raises:
        TokensieveError: a fraction outside (0, 1], arrays that do not fit each other, or a NaN or
            infinite score on a trainable token.
    """
    statistics = Statistics(cu_seqlens=cu_seqlens, labels=labels)
    scores = np.asarray(scores, dtype=np.float32)
    if scores.shape != statistics.labels.shape:
        raise TokensieveError(
            f"{scores.shape} scores for {statistics.labels.shape} labels", hint="one score for each label"
        )
    return apply_rule(TopFraction(fraction, scope, rounding), scores, statistics)
