"""Hidden states and a language-model head to per-token loss, entropy and top-1, in chunks.

The logits of all positions together never exist: a chunk of rows is projected, reduced and dropped, so
memory is bounded by the chunk, whatever the vocabulary or the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

LOSS_STATISTICS = ("loss", "entropy", "top1")
"""What one pass through the head yields: loss and entropy in nats, top1 as 0 or 1."""

# Logits of a chunk, in elements: enough rows to keep every core in one matrix product (docs/log.md).
_CHUNK_ELEMENTS = {"cpu": 2**24, "cuda": 2**27}


def token_statistics(
    hidden: Tensor,
    project: Callable[[Tensor], Tensor],
    targets: Tensor,
    names: Iterable[str],
    vocabulary: int,
) -> dict[str, Tensor]:
    """Compute statistics of predicted tokens from the hidden states that predict them.

    Args:
        hidden: ``[n, hidden]``, any float dtype; row ``i`` is the state that predicts ``targets[i]``.
        project: the language-model head with everything that follows it: ``[m, hidden]`` to logits
            ``[m, vocabulary]``.
        targets: int64 ``[n]``, the tokens that follow.
        names: which of `LOSS_STATISTICS` to compute.
        vocabulary: number of logits, to choose the chunk.

    Returns:
        float32 ``[n]`` per name. ``loss`` is ``-log p(target)`` and ``entropy`` that of the predictive
        distribution, both in nats; ``top1`` is 1 where no token is likelier than the target.
    """
    names = tuple(names)
    result = {name: torch.empty(len(targets), dtype=torch.float32, device=hidden.device) for name in names}
    rows = max(1, _CHUNK_ELEMENTS.get(hidden.device.type, 2**24) // vocabulary)
    for start in range(0, len(targets), rows):
        part = slice(start, start + rows)
        logits = project(hidden[part])
        # The head's output is ours to overwrite; only a cast makes a copy.
        logits = logits.float() if logits.dtype != torch.float32 else logits
        logits -= logits.amax(dim=-1, keepdim=True)
        target = logits.gather(-1, targets[part, None]).squeeze(-1)
        if "top1" in result:
            result["top1"][part] = (target >= 0).float()
        if "entropy" in result:
            probability = logits.exp()
            total = probability.sum(dim=-1)
            # 0 * -inf would be NaN where a head masks tokens with -inf
            weighted = probability.mul_(logits.clamp_(min=torch.finfo(torch.float32).min)).sum(dim=-1)
            result["entropy"][part] = total.log() - weighted / total
        else:
            total = logits.exp_().sum(dim=-1)
        if "loss" in result:
            result["loss"][part] = total.log() - target
    return result
