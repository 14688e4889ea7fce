"""Decisions on spans of tokens in place of single tokens."""

from __future__ import annotations

import numpy as np

from tokensieve.containers import Bool, Float32, Int64

_MOST = 60.0  # nats; beyond it nothing changes, and its exponential is far from overflowing


def chain_odds(ratio: Float32, trainable: Bool, cu_seqlens: Int64, switch: float) -> Float32:
    """Return the log odds of the second of two states at each token, given all ratios of its answer.

    The posterior of a Markov chain that begins in either state and changes it with the same probability at every token
    (the forward-backward algorithm; Rabiner, Proceedings of the IEEE, 1989). A chain runs over consecutive trainable
    tokens of an example, and all chains advance together, one token a step.

    Args:
        ratio: float32 ``[tokens]``, log likelihood of each token in the second state minus that in the first, in nats;
            what stands at other than trainable tokens is ignored.
        trainable: bool ``[tokens]``.
        cu_seqlens: int64 ``[examples + 1]``, offsets of the examples.
        switch: probability of a change at each token, in (0, 0.5].

    Returns:
        float32 ``[tokens]``, in nats; 0 where a token is not trainable.
    """
    starts, lengths = _runs(trainable, cu_seqlens)
    likelihood = np.exp(np.clip(ratio, -_MOST, _MOST, dtype=np.float64))
    first, last = starts, starts + lengths - 1
    odds = np.zeros(len(trainable), dtype=np.float64)
    odds[trainable] = np.log(likelihood[trainable])
    for begin, step in ((first, 1), (last, -1)):
        carried = np.ones(len(starts))
        for at in range(int(lengths[0]) if len(lengths) else 0):
            active = int(np.searchsorted(-lengths, -at))  # the longest runs come first
            places = begin[:active] + step * at
            odds[places] += np.log(carried[:active])
            here = likelihood[places] * carried[:active]
            carried[:active] = (switch + (1 - switch) * here) / ((1 - switch) + switch * here)
    return odds.astype(np.float32)


def _runs(trainable: Bool, cu_seqlens: Int64) -> tuple[Int64, Int64]:
    """Return where runs of trainable tokens of one example start, and their lengths, the longest first."""
    before = np.concatenate([[False], trainable[:-1]])
    before[cu_seqlens[:-1][np.diff(cu_seqlens) > 0]] = False
    starts = np.flatnonzero(trainable & ~before)
    behind = np.concatenate([trainable[1:], [False]])
    behind[cu_seqlens[1:][np.diff(cu_seqlens) > 0] - 1] = False
    lengths = np.flatnonzero(trainable & ~behind) - starts + 1
    order = np.argsort(-lengths, kind="stable")
    return starts[order], lengths[order]
