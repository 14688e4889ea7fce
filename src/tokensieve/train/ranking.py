"""Ranking the tokens of a batch that is spread over processes as those of one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from tokensieve.containers import Bool, Float32, Int64, Statistics, check_finite
from tokensieve.ops.cutoff import Cutoff, count_lower, count_upper, find_cutoff
from tokensieve.ops.ragged import order_keys
from tokensieve.ops.rules import Rule, TopFraction, forced_tokens

if TYPE_CHECKING:
    from accelerate import Accelerator


def keep_of_all(rule: Rule, scores: Float32, statistics: Statistics, processes: Accelerator) -> Bool:
    """Decide upon the tokens of this process by their rank among those of all processes.

    Every process must call it. Equal scores are decided by position: the lower process, then the earlier example, then
    the earlier token comes first, so that the decisions are those of one process with the joined batch. A rule that
    looks at single tokens or examples, or chooses examples, decides by itself.

    Args:
        rule: what decides.
        scores: float32 ``[tokens]``; how many there are may differ between processes.
        statistics: the tokens of this process.
        processes: gathers and adds over all processes.

    Returns:
        bool ``[tokens]``, which tokens of this process are kept.

    Raises:
        TokensieveError: a score that is NaN or infinite.
    """
    if processes.num_processes == 1 or not isinstance(rule, TopFraction) or rule.scope == "example":
        return rule.keep(scores, statistics)
    trainable, forced = statistics.trainable, forced_tokens(statistics)
    check_finite(scores, trainable, statistics.cu_seqlens, "score")
    values, free = rule.values(scores), trainable & ~forced
    keys = order_keys(values[free])

    def total(counts: NDArray[np.int64]) -> Int64:
        added: Any = processes.reduce(torch.from_numpy(counts).to(processes.device), "sum")
        return added.cpu().numpy()

    count = rule.picks(*total(np.array([trainable.sum(), forced.sum()])).tolist())
    cutoff = find_cutoff(total(count_upper(keys)), lambda bucket: total(count_lower(keys, bucket)), count)
    ties = torch.tensor([int((values[free] == cutoff.value).sum())], device=processes.device)
    before = int(processes.gather(ties)[: processes.process_index].sum())
    picked = Cutoff(cutoff.value, max(0, cutoff.ties - before)).keep(values, free)
    return rule.decide(picked, trainable, forced)
