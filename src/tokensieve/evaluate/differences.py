"""Paired differences between two models over training seeds and examples, and what so many examples can show at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Int64
from tokensieve.errors import TokensieveError

LEVEL = 0.05
POWER = 0.8
_RESAMPLES = 4000
_DRAWS_AT_ONCE = 2**21  # 16 MB of weights


@dataclass(frozen=True)
class PairedDifference:
    """A model's mean minus another's over the same examples.

    Attributes:
        value: the difference.
        low: lower end of its 95 % interval.
        high: upper end of it.
        p: two-sided p-value of no difference, at least 1 / (resamples + 1).
        detectable: the smallest true difference that a test at 5 % finds in 80 % of repetitions.
        seeds: training seeds behind it.
        examples: examples behind it.
    """

    value: float
    low: float
    high: float
    p: float
    detectable: float
    seeds: int
    examples: int


def paired_difference(
    sums: NDArray[np.float64], others: NDArray[np.float64], counts: Int64, seed: int = 0
) -> PairedDifference:
    """Compare two models by a bootstrap that resamples training seeds and examples together.

    Seeds and examples are crossed: every seed was evaluated on the same examples. A resample draws both with
    replacement. A bootstrap of few seeds is too narrow by the factor ``sqrt((seeds - 1) / seeds)``, since it divides by
    the number of seeds, so the seeds' deviations from their mean are scaled up by as much (Davison and Hinkley,
    Bootstrap Methods and their Application, 1997, section 3.8).

    Args:
        sums: float64 ``[seeds, examples]``, such as the summed token losses of each example.
        others: of the other model, in the same order of seeds and examples.
        counts: int64 ``[examples]``, what each sum is over, such as its tokens; above 0.
        seed: of the resampling.

    Raises:
        TokensieveError: arrays of different shapes, or no example.
    """
    if sums.ndim != 2 or sums.shape != others.shape or counts.shape != sums.shape[1:] or not counts.size:
        raise TokensieveError(
            f"results of the shapes {sums.shape}, {others.shape} and {counts.shape} cannot be paired",
            hint="[seeds, examples] twice and [examples], over the same seeds and examples",
        )
    seeds, examples = sums.shape
    deltas = sums - others
    mean = deltas.mean(axis=0)
    scaled = mean + (deltas - mean) * (np.sqrt(seeds / (seeds - 1)) if seeds > 1 else 0.0)
    draws = _resampled(scaled, counts, np.random.default_rng(seed))
    value = float(mean.sum() / counts.sum())
    low, high = np.quantile(draws, [LEVEL / 2, 1 - LEVEL / 2])
    tail = min(np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0))
    p = min(1.0, 2 * (int(tail) + 1) / (len(draws) + 1))
    return PairedDifference(value, float(low), float(high), p, detectable_effect(float(draws.std())), seeds, examples)


def detectable_effect(standard_error: float) -> float:
    """Return the smallest true difference that a two-sided test at 5 % finds in 80 % of repetitions."""
    from scipy.stats import norm

    return float(norm.ppf(1 - LEVEL / 2) + norm.ppf(POWER)) * standard_error


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for as many comparisons (Holm, Scandinavian Journal of Statistics, 1979).

    Whoever calls the differences with an adjusted value below 5 % real is wrong about any of them in 5 % of cases.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return adjusted.tolist()


def _resampled(deltas: NDArray[np.float64], counts: Int64, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return float64 ``[resamples]``, the mean difference of each resample."""
    seeds, examples = deltas.shape
    draws = np.empty(_RESAMPLES)
    step = max(1, _DRAWS_AT_ONCE // examples)
    for start in range(0, _RESAMPLES, step):
        size = min(step, _RESAMPLES - start)
        picked = generator.integers(0, examples, (size, examples))
        by_seed = generator.multinomial(seeds, [1 / seeds] * seeds, size) / seeds
        sums = np.stack([row[picked].sum(axis=1) for row in deltas], axis=1)
        draws[start : start + size] = (by_seed * sums).sum(axis=1) / counts[picked].sum(axis=1)
    return draws
