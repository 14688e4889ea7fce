"""Confidence intervals of evaluation results, and the perplexity of a mean loss."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 1000
_DRAWS_AT_ONCE = 2**21  # 48 MB
_LARGEST_EXPONENT = 700.0  # exp of a float64 beyond this overflows, and JSON has no infinity


def perplexity(loss: float) -> float:
    """Return exp of a mean loss, of at most 700 nats."""
    return float(np.exp(min(loss, _LARGEST_EXPONENT)))


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson, JASA 1927)."""
    if trials == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest

    found = binomtest(successes, trials).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % t interval of the mean of a few independent values, such as one for each seed; two at least."""
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = t_quantile(0.975, len(values) - 1) * error
    return mean - half, mean + half


def t_quantile(share: float, freedom: float) -> float:
    """Return the quantile of Student's t distribution; `scipy.stats` has it too, and takes a second to import."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))


def bootstrap_ratio(sums: NDArray[np.float64], counts: NDArray[np.int64], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of ``sums.sum() / counts.sum()``, examples resampled.

    Args:
        sums: ``[examples]``, sum of each example, such as of its token losses.
        counts: ``[examples]``, what each sum is over, such as its tokens; above 0.
        seed: of the resampling.
    """
    if len(sums) == 1:
        return float(sums[0] / counts[0]), float(sums[0] / counts[0])
    from scipy.stats import bootstrap

    found = bootstrap(
        (sums, counts),
        _ratio,
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=max(1, _DRAWS_AT_ONCE // len(sums)),
        method="percentile",  # BCa takes time and memory in the square of the examples
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def _ratio(sums: NDArray[np.float64], counts: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
    return sums.sum(axis=axis) / counts.sum(axis=axis)
