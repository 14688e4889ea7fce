"""Hidden states and a language-model head to per-token loss, entropy and top-1, block by block.

The logits of all positions never exist together, nor do all logits of one position: a block of rows and
vocabulary is projected, reduced while it lies in cache, and dropped. Memory is bounded by the block, whatever
the vocabulary or the batch.

A new statistic of the logits is an entry of `_STATISTICS` and nothing else: it can then be measured, named in recipes,
read by methods, and read from the model in training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

Logits = Callable[[Tensor, slice, Tensor], Tensor]
"""The head with everything that follows it: ``[m, hidden]`` and a slice of the vocabulary to its logits
``[m, columns]``, which may be written into the third argument, and are the caller's to overwrite."""


@dataclass(frozen=True, eq=False)
class _Reduced:
    """What one pass over the vocabulary leaves of the logits of some rows.

    Attributes:
        target: float32 ``[n]``, the logit of the token that follows.
        top: float32 ``[n]``, the largest logit.
        total: float32 ``[n]``, the sum of ``exp(logit - top)``.
        weighted: float32 ``[n]``, the sum of ``exp(logit - top) * (logit - top)``; 0 where no statistic asks for it.
        squared: float32 ``[n]``, the sum of ``exp(logit - top) ** 2``; 0 where no statistic asks for it.
        largest: float32 ``[n, k]``, the largest logits in descending order: as many as a statistic asks for, or all of
            a smaller vocabulary.
    """

    target: Tensor
    top: Tensor
    total: Tensor
    weighted: Tensor
    squared: Tensor
    largest: Tensor


@dataclass(frozen=True)
class _Statistic:
    """How a statistic follows from `_Reduced`, and what it needs of it.

    Attributes:
        finish: the statistic, float32 ``[n]``.
        weighted: whether it reads `_Reduced.weighted`.
        squared: whether it reads `_Reduced.squared`.
        largest: how many of `_Reduced.largest` it reads.
    """

    finish: Callable[[_Reduced], Tensor]
    weighted: bool = False
    squared: bool = False
    largest: int = 0


def _entropy_of(logits: Tensor) -> Tensor:
    """Return the entropy of the softmax of some logits ``[n, k]``."""
    log_share = logits.log_softmax(dim=-1)
    # 0 * -inf would be NaN where a head masks tokens with -inf
    return -(log_share.exp() * log_share.clamp(min=torch.finfo(torch.float32).min)).sum(dim=-1)


_STATISTICS = {
    "loss": _Statistic(lambda r: r.total.log() - (r.target - r.top)),
    "entropy": _Statistic(lambda r: r.total.log() - r.weighted / r.total, weighted=True),
    "concentration": _Statistic(lambda r: r.squared / r.total.square(), squared=True),
    "top1": _Statistic(lambda r: (r.target >= r.top).float()),
    "entropy_top20": _Statistic(lambda r: _entropy_of(r.largest[:, :20]), largest=20),
}

LOGIT_STATISTICS = tuple(_STATISTICS)
"""What one pass through the head yields: loss and entropies in nats, concentration in (0, 1], top1 as 0 or 1."""

# Rows and vocabulary of a block: 8 MB of logits stay in a CPU's cache; a GPU wants large products (docs/log.md).
_BLOCK = {"cpu": (1024, 2048), "cuda": (8192, 16384)}


def block_bytes(device_type: str, vocabulary: int, itemsize: int) -> int:
    """Return the bytes of one block of logits, as the head gives them and in float32.

    Args:
        device_type: such as ``cpu``.
        vocabulary: number of logits of a row.
        itemsize: bytes of a logit as the head gives it.
    """
    rows, columns = _BLOCK.get(device_type, _BLOCK["cpu"])
    return rows * min(columns, vocabulary) * (itemsize + 4)


def token_statistics(
    hidden: Tensor, logits: Logits, targets: Tensor, names: Iterable[str], vocabulary: int
) -> dict[str, Tensor]:
    """Compute statistics of predicted tokens from the hidden states that predict them.

    Args:
        hidden: ``[n, hidden]``, any float dtype; row ``i`` is the state that predicts ``targets[i]``.
        logits: the head.
        targets: int64 ``[n]``, the tokens that follow.
        names: which of `LOGIT_STATISTICS` to compute.
        vocabulary: number of logits of a row.

    Returns:
        float32 ``[n]`` per name. ``loss`` is ``-log p(target)`` and ``entropy`` that of the predictive
        distribution, both in nats; ``concentration`` is the sum of its squared probabilities; ``top1`` is 1 where no
        token is likelier than the target; ``entropy_top20`` is the entropy of the 20 likeliest tokens, renormalised
        among themselves.
    """
    names = tuple(names)
    result = {name: torch.empty(len(targets), dtype=torch.float32, device=hidden.device) for name in names}
    rows, columns = _BLOCK.get(hidden.device.type, _BLOCK["cpu"])
    # One buffer for every block: a fresh one each time costs a fifth of the time in page faults.
    buffer = hidden.new_empty(min(rows, len(targets)) * min(columns, vocabulary))
    blocks = [slice(first, min(first + columns, vocabulary)) for first in range(0, vocabulary, columns)]
    for start in range(0, len(targets), rows):
        part = slice(start, start + rows)
        reduced = _reduce(hidden[part], logits, targets[part], names, blocks, buffer)
        for name in names:
            result[name][part] = _STATISTICS[name].finish(reduced)
    return result


def _reduce(
    hidden: Tensor, logits: Logits, targets: Tensor, names: tuple[str, ...], blocks: list[slice], buffer: Tensor
) -> _Reduced:
    """Reduce the logits of some rows by one pass over the vocabulary, with a running maximum."""
    weigh = any(_STATISTICS[name].weighted for name in names)
    square = any(_STATISTICS[name].squared for name in names)
    keep = max((_STATISTICS[name].largest for name in names), default=0)
    floor = torch.finfo(torch.float32).min
    top = torch.full((len(targets),), floor, device=hidden.device)
    target, total, weighted, squared = (torch.zeros_like(top) for _ in range(4))
    largest = top.new_empty(len(targets), 0)
    for columns in blocks:
        width = columns.stop - columns.start
        out = buffer[: len(targets) * width].view(len(targets), width)
        block = logits(hidden, columns, out).float()
        found = block.gather(-1, (targets - columns.start).clamp(0, width - 1)[:, None]).squeeze(-1)
        target = torch.where((targets >= columns.start) & (targets < columns.stop), found, target)
        if keep:
            largest = torch.cat([largest, block], dim=-1)
            largest = largest.topk(min(keep, largest.shape[-1]), dim=-1).values
        before, top = top, torch.maximum(top, block.amax(dim=-1))
        block -= top[:, None]
        # Sums so far were taken relative to a lower maximum.
        shift = before - top
        scale = shift.exp()
        probability = _exp(block, out=torch.empty_like(block) if weigh else block)
        if weigh:
            # 0 * -inf would be NaN where a head masks tokens with -inf
            here = probability.mul(block.clamp_(min=floor)).sum(dim=-1)
            weighted = scale * (weighted + shift * total) + here
        total = scale * total + probability.sum(dim=-1)
        if square:
            squared = scale.square() * squared + probability.square_().sum(dim=-1)
    return _Reduced(target, top, total, weighted, squared, largest)


def _exp(values: Tensor, out: Tensor) -> Tensor:
    """Return ``exp`` of float32 values, written into ``out``, which may be the values themselves."""
    if values.device.type != "cpu":
        return torch.exp(values, out=out)
    # PyTorch's exp on a CPU is MKL's, which takes three times as long as its own exp2 on AMD (docs/log.md).
    return torch.mul(values, math.log2(math.e), out=out).exp2_()
