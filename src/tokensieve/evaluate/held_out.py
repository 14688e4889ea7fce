"""Loss and perplexity over the response tokens of held-out data.

The losses of a shard depend on no other, so that an engine (`engines`) maps over the shards; they are joined in the
order of the shards, and the mean is the same to the last bit wherever they were computed.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import IGNORE_INDEX, LOSS, Examples, Int64, check_finite
from tokensieve.data.example_store import ExampleStore
from tokensieve.engines import Done, Engine, OnTokens
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.intervals import bootstrap_ratio, perplexity
from tokensieve.measure.forward import Forward, measure_shard
from tokensieve.measure.settings import MeasureSettings
from tokensieve.models.pool import ModelPool
from tokensieve.models.settings import ModelSettings
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


def held_out_loss(model: Any, examples: ExampleStore, token_budget: int, on_tokens: OnTokens) -> HeldOut:
    """Measure the mean loss of response tokens; arguments and errors as for `held_out_losses`."""
    return held_out_losses(model, examples, token_budget, on_tokens, str(examples.folder)).mean()


def held_out_losses(
    model: Any, shards: Iterable[Examples], token_budget: int, on_tokens: OnTokens, where: str = ""
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
    with Forward(model, [LOSS]) as forward:
        return _joined((_of_shard(forward, shard, token_budget, on_tokens) for shard in shards), where)


def held_out_losses_on(
    engine: Engine,
    model: ModelSettings,
    examples: ExampleStore,
    settings: MeasureSettings,
    pool: ModelPool,
    on_tokens: OnTokens,
) -> ExampleLosses:
    """Measure the loss of response tokens, example by example, wherever an engine puts the shards.

    Args:
        engine: maps over the shards.
        model: what to measure with.
        examples: the held-out data.
        settings: batches.
        pool: where the model is loaded. In another process, it is an empty one.
        on_tokens: told the number of tokens as they are done.

    Raises:
        TokensieveError: as `held_out_losses`, or a model that cannot be loaded.
    """
    make = partial(_Worker, model, examples, settings, pool)
    parts = {done.shard: done.value for done in engine.map(make, range(examples.shards), on_tokens)}
    return _joined((parts[number] for number in range(examples.shards)), str(examples.folder))


class _Worker:
    """Holds the model while the block lasts. The value of a shard is what `_of_shard` returns."""

    def __init__(
        self, model: ModelSettings, examples: ExampleStore, settings: MeasureSettings, pool: ModelPool
    ) -> None:
        self._examples, self._budget = examples, settings.batch_tokens(pool.device.type)
        self._stack, self._model, self._pool = ExitStack(), model, pool

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._forward = stack.enter_context(Forward(stack.enter_context(self._pool.use(self._model)), [LOSS]))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def do(self, shard: int, on_tokens: OnTokens) -> Done:
        examples = self._examples.read(shard)
        losses = _of_shard(self._forward, examples, self._budget, on_tokens)
        return Done(shard, len(examples.input_ids), {}, losses)


_Part = tuple[Int64, NDArray[np.float64], Int64]
"""Source rows, losses and numbers of response tokens of the examples of a shard."""


def _of_shard(forward: Forward, shard: Examples, token_budget: int, on_tokens: OnTokens) -> _Part:
    trainable = shard.labels != IGNORE_INDEX
    losses = measure_shard(forward, shard, token_budget, on_tokens)[LOSS.key]
    check_finite(losses, trainable, shard.cu_seqlens, "held-out loss")
    sums = np.add.reduceat(losses.astype(np.float64), shard.cu_seqlens[:-1])
    return shard.rows, sums, segment_counts(trainable, shard.cu_seqlens)


def _joined(parts: Iterable[_Part], where: str) -> ExampleLosses:
    found = list(parts)
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    answered = columns[-1] > 0 if columns else np.zeros(0, dtype=bool)
    if not answered.any():
        raise TokensieveError(
            "the held-out data has no response tokens",
            where=where,
            hint="rows with an assistant's answer within data.max_length",
        )
    return ExampleLosses(*(column[answered] for column in columns))
