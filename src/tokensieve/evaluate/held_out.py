"""Loss and perplexity over the response tokens of held-out data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokensieve.data.prepare import ExampleStore
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.intervals import bootstrap_ratio
from tokensieve.measure.forward import Forward
from tokensieve.measure.measure import measure_shard
from tokensieve.ops.ragged import segment_counts
from tokensieve.types import IGNORE_INDEX, LOSS, check_finite

# exp of a float64 beyond this overflows, and JSON has no infinity.
_LARGEST_EXPONENT = 700.0


@dataclass(frozen=True)
class HeldOut:
    """The mean loss of the response tokens of held-out data.

    Attributes:
        loss: mean over all response tokens, in nats.
        perplexity: exp of the loss.
        tokens: response tokens.
        examples: examples with a response.
        low: lower end of the loss's 95 % interval (bootstrap over examples).
        high: upper end of it.
    """

    loss: float
    perplexity: float
    tokens: int
    examples: int
    low: float
    high: float


def held_out_loss(model: Any, examples: ExampleStore, token_budget: int, on_tokens: Callable[[int], None]) -> HeldOut:
    """Measure the mean loss of response tokens.

    Args:
        model: a loaded `transformers` model.
        examples: the held-out data.
        token_budget: tokens of one batch at most.
        on_tokens: told the number of tokens after each batch.

    Raises:
        TokensieveError: a loss that is NaN or infinite (with its examples), or data without a response.
    """
    sums, counts = [], []
    with Forward(model, [LOSS]) as forward:
        for shard in examples:
            trainable = shard.labels != IGNORE_INDEX
            losses = measure_shard(forward, shard, token_budget, on_tokens)[LOSS.key]
            check_finite(losses, trainable, shard.cu_seqlens, "held-out loss")
            sums.append(np.add.reduceat(losses.astype(np.float64), shard.cu_seqlens[:-1]))
            counts.append(segment_counts(trainable, shard.cu_seqlens))
    answered = np.concatenate(counts) > 0 if counts else np.zeros(0, dtype=bool)
    if not answered.any():
        raise TokensieveError("the held-out data has no response tokens", where=str(examples.folder))
    total, tokens = np.concatenate(sums)[answered], np.concatenate(counts)[answered]
    loss = float(total.sum() / tokens.sum())
    low, high = bootstrap_ratio(total, tokens)
    perplexity = float(np.exp(min(loss, _LARGEST_EXPONENT)))
    return HeldOut(loss, perplexity, int(tokens.sum()), len(tokens), low, high)
