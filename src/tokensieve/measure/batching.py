"""Batches by length under a token budget."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Int64


def plan_batches(lengths: Int64, token_budget: int) -> list[NDArray[np.int64]]:
    """Cut examples, sorted by length, into batches of at most ``token_budget`` padded tokens.

    The longest come first, so that a batch that does not fit into memory shows at once.

    Args:
        lengths: int64 ``[examples]``, tokens to pass through the model.
        token_budget: longest example times examples of a batch, at most. An example that is longer makes
            a batch of its own.

    Returns:
        Example numbers of each batch; every example with a length above 0 is in exactly one.
    """
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    batches, start = [], 0
    while start < len(order):
        count = max(1, token_budget // int(lengths[order[start]]))
        batches.append(order[start : start + count])
        start += count
    return batches
