"""Floating-point operations of passes over tokens, and the tokens that pass, from the lengths of the examples.

A product with a matrix of ``P`` parameters takes ``2 P`` operations a token (Kaplan et al. 2020, arXiv 2001.08361,
section 2.1). Attention adds ``4 L H Q T`` a token, for ``L`` layers, ``H`` heads of width ``Q`` and ``T`` tokens of its
sequence, without a discount for causal masks (Chowdhery et al. 2022, PaLM, arXiv 2204.02311, appendix B). The backward
pass takes twice the operations of the forward pass. What takes no matrix product is not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tokensieve.containers import IGNORE_INDEX, Examples, Int64
from tokensieve.measure.batching import plan_batches
from tokensieve.measure.forward import needed_lengths
from tokensieve.models.size import ModelSize
from tokensieve.ops.ragged import segment_counts
from tokensieve.train.steps import packed_rows


@dataclass(frozen=True, eq=False)
class Lengths:
    """What the work on some examples depends on.

    Attributes:
        tokens: int64 ``[examples]``.
        trainable: int64 ``[examples]``, tokens with a label.
        needed: int64 ``[examples]``, tokens before the last trainable one.
    """

    tokens: Int64
    trainable: Int64
    needed: Int64

    @classmethod
    def of(cls, shards: Iterable[Examples]) -> Lengths:
        """Read the lengths of all examples of some shards."""
        found = [
            (
                shard.lengths,
                segment_counts(shard.labels != IGNORE_INDEX, shard.cu_seqlens),
                needed_lengths(shard, False),
            )
            for shard in shards
        ]
        return cls(*(np.concatenate(column).astype(np.int64) for column in zip(*found, strict=True)))

    def __getitem__(self, chosen: object) -> Lengths:
        """Return the lengths of some of the examples, chosen as of an array."""
        return Lengths(self.tokens[chosen], self.trainable[chosen], self.needed[chosen])  # type: ignore[index]

    def __add__(self, other: Lengths) -> Lengths:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Lengths(*(np.concatenate(pair) for pair in pairs))

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Passed:
    """Tokens that pass through a model.

    Attributes:
        tokens: padding included.
        squares: sum of the squared lengths of the sequences, padding included.
        predicted: positions that the head is applied to.
    """

    tokens: float
    squares: float
    predicted: float

    def times(self, number: float) -> Passed:
        """Return so many times as many."""
        return Passed(number * self.tokens, number * self.squares, number * self.predicted)

    def __add__(self, other: Passed) -> Passed:
        return Passed(self.tokens + other.tokens, self.squares + other.squares, self.predicted + other.predicted)


def padded(batches: Iterable[Int64], predicted: float) -> Passed:
    """Return what passes in batches that are padded to their longest; of each the int64 lengths of its sequences."""
    sizes = [(len(lengths), int(lengths.max())) for lengths in batches]
    return Passed(sum(n * longest for n, longest in sizes), sum(n * longest**2 for n, longest in sizes), predicted)


def measured_tokens(lengths: Lengths, token_budget: int, whole: bool) -> Passed:
    """Return what passes as examples are measured, in batches of similar length.

    Args:
        lengths: of the examples.
        token_budget: padded tokens of a batch at most.
        whole: whether all tokens must pass, as for attention; the logits need those before the last trainable one.
    """
    needed = np.where(lengths.needed > 0, lengths.tokens if whole else lengths.needed, 0)
    batches = plan_batches(needed, token_budget)
    return padded((needed[batch] for batch in batches), int(lengths.trainable.sum()))


def trained_tokens(lengths: Lengths, batch_size: int, packed: int | None, every_position: bool) -> Passed:
    """Return what passes in one epoch of training, in batches of random order.

    Args:
        lengths: of the examples.
        batch_size: rows of a batch.
        packed: tokens of a packed row; None where examples are not packed.
        every_position: whether the head is applied to every position, as TRL does where it has no Triton, instead of to
            those with a label alone.
    """
    if packed is not None:
        rows = packed_rows(int(lengths.tokens.sum()), packed)
        passed = Passed(rows * packed, rows * packed**2, int(lengths.trainable.sum()))
    else:
        order = np.random.default_rng(0).permutation(len(lengths))
        starts = range(0, len(order), batch_size)
        batches = (lengths.tokens[order[start : start + batch_size]] for start in starts)
        passed = padded(batches, int(lengths.trainable.sum()))
    return Passed(passed.tokens, passed.squares, passed.tokens) if every_position else passed


def blocks_flops(size: ModelSize, passed: Passed, adapter: int = 0) -> float:
    """Return the operations of a forward pass without the head; ``adapter`` is the parameters of one on the blocks."""
    return 2 * (size.active + adapter) * passed.tokens + _attention(size, passed)


def head_flops(size: ModelSize, passed: Passed) -> float:
    """Return the operations of the head."""
    return 2 * size.head * passed.predicted


def forward_flops(size: ModelSize, passed: Passed, adapter: int = 0) -> float:
    """Return the operations of a forward pass, with the head at the predicted positions."""
    return blocks_flops(size, passed, adapter) + head_flops(size, passed)


def attention_statistic_flops(size: ModelSize, passed: Passed) -> float:
    """Return what attention statistics add to a pass: the scores of one layer, a second time."""
    return _attention(size, passed) / 2 / max(1, size.layers)


def training_flops(size: ModelSize, passed: Passed, adapter: int | None, checkpointing: bool) -> float:
    """Return the operations of forward and backward passes.

    Each matrix takes as many operations for the gradient of its input as forward, and as many again for its own
    gradient where it is trained: the matrices that an adapter is put on are not. TRL's head computes the logits a
    second time in the backward pass.

    Args:
        size: of the model.
        passed: what passes.
        adapter: parameters of the adapter that is trained; None where all weights are.
        checkpointing: whether the blocks run forward a second time, in place of keeping their activations.
    """
    forward = blocks_flops(size, passed, adapter or 0)
    own_gradients = 2 * size.active * passed.tokens
    backward = 2 * forward - (own_gradients if adapter is not None else 0)
    head = head_flops(size, passed) * (3 if adapter is not None else 4)
    return forward * (2 if checkpointing else 1) + backward + head


def generation_flops(size: ModelSize, prompts: Sequence[int], new_tokens: int, adapter: int = 0) -> float:
    """Return the operations of answers to prompts of some lengths, each of ``new_tokens`` tokens."""
    lengths = np.asarray(prompts, dtype=np.float64) + new_tokens
    # Each new token attends to those before it, which is about half the square of what is new.
    read = (lengths**2).sum() / 2 + (np.asarray(prompts, dtype=np.float64) ** 2).sum() / 2
    return forward_flops(size, Passed(float(lengths.sum()), float(read), len(prompts) * (new_tokens + 1.0)), adapter)


def _attention(size: ModelSize, passed: Passed) -> float:
    return 4 * size.layers * size.attention * passed.squares
