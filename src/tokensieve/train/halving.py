"""A training whose batches are trained in parts where they do not fit into memory.

The loss of a step is a sum over its tokens, divided by the number of labels in the whole step. Parts of a batch
therefore give the same gradient, up to rounding: neither the number of steps nor what a step averages over changes.
transformers' `auto_find_batch_size` begins again with smaller batches, and with weights that have moved already, so
that a smaller device would train another model.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor
from trl import SFTTrainer

from tokensieve.errors import TokensieveError
from tokensieve.models.memory import free_unused, out_of_memory
from tokensieve.train.trl_private import restore_running_counts, running_counts

Inputs = dict[str, Tensor]
"""A batch: ``input_ids``, ``labels`` and ``attention_mask``, each ``[B, S]``."""


class HalvingSFTTrainer(SFTTrainer):
    """An `SFTTrainer` that trains a batch in parts where it does not fit into memory.

    It does so in one process, with batches of padded rows: several processes must take as many passes each, packed rows
    cannot be told apart, and the loss that balances a mixture of experts is a mean over a batch.

    Args:
        arguments: as for `SFTTrainer`.
        keywords: likewise.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._rows: int | None = None  # that are trained together; None for whole batches
        self._step: list[Inputs] = []  # the batches of the optimizer step at hand
        self._counts: dict[str, Any] = {}  # before that step

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Train a batch; where it does not fit into memory, train the whole step again, in parts.

        Raises:
            TokensieveError: one example alone does not fit into memory.
        """
        if not self._divides(inputs, num_items_in_batch):
            return super().training_step(model, inputs, num_items_in_batch)
        if not self._step:
            self._counts = running_counts(self)
        self._step.append(inputs)
        loss = self._train(model, [inputs], num_items_in_batch)
        while loss is None:  # outside of an `except` block, which would hold what did not fit
            model.zero_grad()
            restore_running_counts(self, self._counts)
            free_unused()
            loss = self._train(model, self._step, num_items_in_batch)
        if self.accelerator.sync_gradients:
            self._step = []
        return loss

    def _divides(self, inputs: Inputs, num_items_in_batch: Any) -> bool:
        alone = self.accelerator.num_processes == 1 and self.args.n_gpu <= 1
        by_rows = all(value.shape == inputs["input_ids"].shape for value in inputs.values())
        return (
            alone
            and num_items_in_batch is not None
            and not self.aux_loss_enabled
            and "attention_mask" in inputs
            and by_rows
        )

    def _train(self, model: Any, batches: Sequence[Inputs], num_items_in_batch: Any) -> Tensor | None:
        """Train batches, in parts where that is needed; return the loss of the last, or None where one does not fit."""
        losses: list[Tensor] = []
        part: Inputs = {}
        try:
            for batch in batches:
                losses = []
                for part in _parts(batch, self._rows):
                    losses.append(super().training_step(model, dict(part), num_items_in_batch))
            return sum(losses[1:], losses[0])
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if len(part["input_ids"]) == 1:
                raise self._too_large(part) from error
        self._rows = len(part["input_ids"]) // 2
        warnings.warn(
            f"a batch does not fit into memory and is trained in parts of {self._rows}: the steps are the same up to "
            "rounding, and a lower train.per_device_train_batch_size with more train.gradient_accumulation_steps "
            "takes less time",
            stacklevel=2,
        )
        return None

    def _too_large(self, example: Inputs) -> TokensieveError:
        ids = example["input_ids"][0].tolist()
        data: Any = self.train_dataset
        row = next((number for number, found in enumerate(data["input_ids"]) if list(found) == ids), None)
        return TokensieveError(
            f"{'one row' if row is None else f'row {row}'} of the training data, with {len(ids)} tokens, does not fit "
            "into memory",
            where="recipe: train",
            hint="lower data.max_length, set train.gradient_checkpointing: true, or models.base.dtype: bfloat16",
        )


def _parts(batch: Inputs, rows: int | None) -> Iterator[Inputs]:
    """Yield so many rows of a batch at a time, without the padding that none of them needs; None for all of it."""
    if rows is None:
        yield batch
        return
    for start in range(0, len(batch["input_ids"]), rows):
        part = {name: value[start : start + rows] for name, value in batch.items()}
        filled = part["attention_mask"].any(0).nonzero()
        first, last = int(filled.min()), int(filled.max())
        yield {name: value[:, first : last + 1] for name, value in part.items()}
