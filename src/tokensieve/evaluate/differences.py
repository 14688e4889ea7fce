"""Paired differences between two models over training seeds and examples, and what so many examples can show at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Int64
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.intervals import t_quantile

LEVEL = 0.05
POWER = 0.8
_SMALLEST_P = 0.0005
_RESAMPLES = 4000
_FEWEST_RESAMPLES = 500
_DRAWS = 2**26  # of all resamples, where there are many examples
_DRAWS_AT_ONCE = 2**21  # 16 MB of weights


@dataclass(frozen=True)
class PairedDifference:
    """A model's mean minus another's over the same examples.

    Attributes:
        value: the difference.
        low: lower end of its 95 % interval.
        high: upper end of it.
        p: two-sided p-value of no difference, not below 0.0005.
        detectable: the smallest true difference that a test at 5 % finds in 80 % of repetitions.
        seeds: training seeds behind it.
        examples: examples behind it.
        seed_variance: share of the squared standard error that comes from the seeds, which more examples do not lower.
    """

    value: float
    low: float
    high: float
    p: float
    detectable: float
    seeds: int
    examples: int
    seed_variance: float


@dataclass(frozen=True)
class Recovered:
    """The share of one model's gain over a control that another model has.

    Attributes:
        value: the share: 1 for all of the gain, 0 for none, negative where the other model is worse than the control.
        low: lower end of its 95 % interval.
        high: upper end of it.
    """

    value: float
    low: float
    high: float


def recovered_share(
    sums: NDArray[np.float64],
    control: NDArray[np.float64],
    best: NDArray[np.float64],
    counts: Int64,
    seed: int = 0,
) -> Recovered | None:
    """Return ``(control - model) / (control - best)`` of the mean results.

    The interval holds the middle 95 % of resamples of seeds and examples together, the same for all three. It is too
    narrow with very few seeds.

    Args:
        sums: float64 ``[seeds, examples]``, results of the model, such as the summed token losses of each example.
        control: of the control, in the same order.
        best: of the model whose gain counts as all there is.
        counts: int64 ``[examples]``, what each sum is over; above 0.
        seed: of the resampling.

    Returns:
        None where the best model has no gain, or has none or the opposite in some resample: there is no share of it.
    """
    gain = (control - best).sum()
    gains, all_there_is = (_resampled(control - one, counts, np.random.default_rng(seed)) for one in (sums, best))
    if (all_there_is * np.sign(gain) <= 0).any():
        return None
    low, high = np.quantile(gains / all_there_is, [LEVEL / 2, 1 - LEVEL / 2])
    return Recovered(float((control - sums).sum() / gain), float(low), float(high))


def paired_difference(
    sums: NDArray[np.float64], others: NDArray[np.float64], counts: Int64, seed: int = 0
) -> PairedDifference:
    """Compare two models by a bootstrap that resamples training seeds and examples together.

    Seeds and examples are crossed: every seed was evaluated on the same examples. A resample draws both with
    replacement. A bootstrap of few seeds is too narrow by the factor ``sqrt((seeds - 1) / seeds)``, since it divides by
    the number of seeds, so the seeds' deviations from their mean are scaled up by as much (Davison and Hinkley,
    Bootstrap Methods and their Application, 1997, section 3.8). Interval and p-value take the standard error of the
    resamples and a t distribution, since so few seeds tell little of their own spread: its degrees of freedom are those
    of the sum of both variances (Satterthwaite, Biometrics Bulletin, 1946). With one seed, nothing here covers the
    choice of the seed. Where all results that differ do so by the same amount, as a few answers that became right, they
    have no spread of their own: the p-value is not below that of a sign test, nor the standard error below what gives
    it.

    Args:
        sums: float64 ``[seeds, examples]``, such as the summed token losses of each example.
        others: of the other model, in the same order of seeds and examples.
        counts: int64 ``[examples]``, what each sum is over, such as its tokens; above 0.
        seed: of the resampling.

    Raises:
        TokensieveError: arrays of different shapes, or one result, which tells nothing of any spread.
    """
    if sums.ndim != 2 or sums.shape != others.shape or counts.shape != sums.shape[1:] or sums.size < 2:
        raise TokensieveError(
            f"results of the shapes {sums.shape}, {others.shape} and {counts.shape} cannot be paired",
            hint="[seeds, examples] twice and [examples], over the same seeds and examples",
        )
    seeds, examples = sums.shape
    deltas = sums - others
    mean = deltas.mean(axis=0)
    scaled = mean + (deltas - mean) * (np.sqrt(seeds / (seeds - 1)) if seeds > 1 else 0.0)
    value = float(mean.sum() / counts.sum())
    error = float(_resampled(scaled, counts, np.random.default_rng(seed)).std())
    by_example, by_seed = _variances(deltas, counts)
    freedom = _degrees_of_freedom(by_example, by_seed, deltas.shape)
    error = max(error, _least_error(value, deltas, freedom))
    half = t_quantile(1 - LEVEL / 2, freedom) * error
    p = _p_value(value, error, freedom)
    detectable, from_seeds = detectable_effect(error, freedom), by_seed / ((by_example + by_seed) or 1.0)
    return PairedDifference(value, value - half, value + half, p, detectable, seeds, examples, from_seeds)


def detectable_effect(standard_error: float, freedom: float = np.inf) -> float:
    """Return the smallest true difference that a two-sided t test at 5 % finds in about 80 % of repetitions."""
    return (t_quantile(1 - LEVEL / 2, freedom) + t_quantile(POWER, freedom)) * standard_error


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for as many comparisons (Holm, Scandinavian Journal of Statistics, 1979).

    Whoever calls the differences with an adjusted value below 5 % real is wrong about any of them in 5 % of cases.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return adjusted.tolist()


def _p_value(value: float, error: float, freedom: float) -> float:
    from scipy.special import stdtr

    if value == 0:
        return 1.0
    ratio = abs(value) / error if error else np.inf
    return max(2 * float(stdtr(freedom, -ratio)), _SMALLEST_P)


def _least_error(value: float, deltas: NDArray[np.float64], freedom: float) -> float:
    """Return the standard error that gives the p-value of a sign test, where all that differs does so by one amount."""
    differing = deltas != 0
    if not value or np.ptp(deltas[differing]):
        return 0.0
    # The examples or the seeds, whichever are more: the test may be too lenient, and never too strict.
    p = min(0.5, 2.0 ** (1 - max(differing.any(axis=0).sum(), differing.any(axis=1).sum())))
    return abs(value) / t_quantile(1 - p / 2, freedom) if p > _SMALLEST_P else 0.0


def _variances(deltas: NDArray[np.float64], counts: Int64) -> tuple[float, float]:
    """Return the parts of the squared standard error that come from the examples and from the seeds."""
    seeds, examples = deltas.shape
    mean, total = deltas.mean(axis=0), counts.sum()
    residuals = mean - counts * (mean.sum() / total)  # of a ratio of sums, linear in each example
    by_example = examples * residuals.var(ddof=1) / total**2 if examples > 1 else 0.0
    by_seed = (deltas.sum(axis=1) / total).var(ddof=1) / seeds if seeds > 1 else 0.0
    return float(by_example), float(by_seed)


def _degrees_of_freedom(by_example: float, by_seed: float, shape: tuple[int, ...]) -> float:
    """Return those of the standard error: near ``seeds - 1`` where seeds differ more than examples do."""
    seeds, examples = shape
    both = by_example**2 / max(1, examples - 1) + by_seed**2 / max(1, seeds - 1)
    return (by_example + by_seed) ** 2 / both if both else np.inf


def _resampled(deltas: NDArray[np.float64], counts: Int64, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return float64 ``[resamples]``, the mean difference of each resample."""
    seeds, examples = deltas.shape
    draws = np.empty(min(_RESAMPLES, max(_FEWEST_RESAMPLES, _DRAWS // examples)))
    step = max(1, _DRAWS_AT_ONCE // examples)
    for start in range(0, len(draws), step):
        size = min(step, len(draws) - start)
        picked = generator.integers(0, examples, (size, examples))
        by_seed = generator.multinomial(seeds, [1 / seeds] * seeds, size) / seeds
        sums = np.stack([row[picked].sum(axis=1) for row in deltas], axis=1)
        draws[start : start + size] = (by_seed * sums).sum(axis=1) / counts[picked].sum(axis=1)
    return draws
