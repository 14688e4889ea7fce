"""The likelihood of a ranking, by which scores of answers are learned (Xia et al., ICML 2008)."""

from __future__ import annotations

import torch
from torch import Tensor


def list_mle(scores: Tensor, there: Tensor) -> Tensor:
    """Return the negative log-likelihood of each ranking under the Plackett-Luce model, in nats.

    The best answer is drawn with the softmax of the scores, then the next best of those that are left, and so on. Of
    two answers that is the Bradley-Terry model: ``-log sigmoid(best - other)``.

    Args:
        scores: floats ``[lists, answers]``, the best answer of each list first.
        there: bool ``[lists, answers]``, False behind the last answer of a list, where scores are not read.

    Returns:
        ``[lists]`` of the dtype of the scores, through which gradients flow.
    """
    # The smallest finite number and not -inf, through which no gradient would be finite.
    known = scores.masked_fill(~there, torch.finfo(scores.dtype).min)
    left = known.flip(-1).logcumsumexp(-1).flip(-1)
    return (left - known).masked_fill(~there, 0).sum(-1)
