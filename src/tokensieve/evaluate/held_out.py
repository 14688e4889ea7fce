"""Loss and perplexity over the response tokens of held-out data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX, LOSS, Examples, Int64, check_finite
from tokensieve.data.example_store import ExampleStore
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.intervals import bootstrap_ratio, perplexity
from tokensieve.measure.forward import Forward, measure_shard
from tokensieve.ops.ragged import segment_counts


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


@dataclass(frozen=True, eq=False)
class ExampleLosses:
    """The loss of each held-out example that has a response.

    Attributes:
        rows: int64 ``[examples]``, numbers of the source rows.
        losses: float64 ``[examples]``, summed over the response tokens, in nats.
        tokens: int64 ``[examples]``, response tokens.
    """

    rows: Int64
    losses: NDArray[np.float64]
    tokens: Int64

    def mean(self) -> HeldOut:
        """Return the mean over all response tokens, with its interval."""
        loss = float(self.losses.sum() / self.tokens.sum())
        low, high = bootstrap_ratio(self.losses, self.tokens)
        return HeldOut(loss, perplexity(loss), int(self.tokens.sum()), len(self.tokens), low, high)

    def by_example(self) -> list[dict[str, Any]]:
        """Return one dictionary an example, ready for JSON."""
        columns = {name: value.tolist() for name, value in vars(self).items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def held_out_loss(model: Any, examples: ExampleStore, token_budget: int, on_tokens: Callable[[int], None]) -> HeldOut:
    """Measure the mean loss of response tokens; arguments and errors as for `held_out_losses`."""
    return held_out_losses(model, examples, token_budget, on_tokens, str(examples.folder)).mean()


def held_out_losses(
    model: Any, shards: Iterable[Examples], token_budget: int, on_tokens: Callable[[int], None], where: str = ""
) -> ExampleLosses:
    """Measure the loss of response tokens, example by example.

    Args:
        model: a loaded `transformers` model.
        shards: the held-out data, from an `ExampleStore` or made in memory.
        token_budget: tokens of one batch at most.
        on_tokens: told the number of tokens after each batch.
        where: of the data, for messages.

    Raises:
        TokensieveError: a loss that is NaN or infinite (with its examples), or data without a response.
    """
    rows, sums, counts = [], [], []
    with Forward(model, [LOSS]) as forward:
        for shard in shards:
            trainable = shard.labels != IGNORE_INDEX
            losses = measure_shard(forward, shard, token_budget, on_tokens)[LOSS.key]
            check_finite(losses, trainable, shard.cu_seqlens, "held-out loss")
            rows.append(shard.rows)
            sums.append(np.add.reduceat(losses.astype(np.float64), shard.cu_seqlens[:-1]))
            counts.append(segment_counts(trainable, shard.cu_seqlens))
    answered = np.concatenate(counts) > 0 if counts else np.zeros(0, dtype=bool)
    if not answered.any():
        raise TokensieveError(
            "the held-out data has no response tokens",
            where=where,
            hint="rows with an assistant's answer within data.max_length",
        )
    return ExampleLosses(*(np.concatenate(parts)[answered] for parts in (rows, sums, counts)))
