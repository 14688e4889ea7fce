"""Area under the ROC curve: how well scores tell two groups apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokensieve.containers import Float32


def auroc(low: Sequence[float] | Float32, high: Sequence[float] | Float32) -> float:
    """Return the probability that a random member of ``low`` is below one of ``high``; ties count half.

    >>> auroc([1, 2], [2, 3])
    0.875
    """
    from scipy.stats import mannwhitneyu

    # In float32 the sum of many ranks would be rounded.
    above, below = (np.asarray(values, dtype=np.float64) for values in (high, low))
    return float(mannwhitneyu(above, below, method="asymptotic").statistic / (len(above) * len(below)))
