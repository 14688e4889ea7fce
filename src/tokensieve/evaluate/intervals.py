"""Confidence intervals of evaluation figures."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_Z = 1.959963984540054  # 97.5 % quantile of the standard normal distribution
_RESAMPLES = 1000
_DRAWS_AT_ONCE = 2**22


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson, JASA 1927)."""
    if trials == 0:
        return 0.0, 1.0
    share, z2 = successes / trials, _Z**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    # Where all agree one end is exact, and rounding would leave it a little off.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return low, high


def bootstrap_ratio(sums: NDArray[np.float64], counts: NDArray[np.int64], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of ``sums.sum() / counts.sum()``, examples resampled.

    Args:
        sums: ``[examples]``, sum of each example, such as of its token losses.
        counts: ``[examples]``, what each sum is over, such as its tokens; above 0.
        seed: of the resampling.
    """
    generator = np.random.default_rng(seed)
    examples = len(sums)
    at_once = min(_RESAMPLES, max(1, _DRAWS_AT_ONCE // examples))
    ratios = []
    for start in range(0, _RESAMPLES, at_once):
        picked = generator.integers(0, examples, (min(at_once, _RESAMPLES - start), examples))
        ratios.append(sums[picked].sum(axis=1) / counts[picked].sum(axis=1))
    low, high = np.quantile(np.concatenate(ratios), [0.025, 0.975])
    return float(low), float(high)
