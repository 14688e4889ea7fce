"""Statistics of a token selection in the log of a plain TRL trainer that trains on cleaned data."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle
from transformers import TrainerCallback

from tokensieve.containers import IGNORE_INDEX
from tokensieve.train.trl_private import training_metrics

_LABELLED, _TOKENS, _EMPTY, _ROWS = range(4)


class TokenSelectionCallback(TrainerCallback):
    """Logs what an `SFTTrainer` trains on, to whatever its ``report_to`` names.

        trainer = SFTTrainer(...)
        trainer.add_callback(TokenSelectionCallback(trainer))

    Each log entry of the training gets, over all processes: ``selection/trained_share``, tokens with a label of all
    tokens since the last entry, padding aside; ``selection/trained_tokens``, tokens with a label since the training
    began; ``selection/empty_rows``, share of the rows since the last entry that have no label at all, so that the model
    learns nothing from them; ``selection/trained_tokens_per_second``.

    They are counted on the device from the batches that enter the model; only a log entry waits for the device.
    `TokenSelectionTrainer`, which knows what it drops, logs more by itself.

    Args:
        trainer: TRL's `SFTTrainer`, or one derived from it.

    Raises:
        TokensieveError: a trainer without TRL's metrics.
    """

    def __init__(self, trainer: Any) -> None:
        training_metrics(trainer)
        self._trainer = trainer
        self._hook: RemovableHandle | None = None
        self._trained = 0
        self._restart()

    def on_train_begin(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        """Begin to count what enters the model."""
        self._stop()
        self._trained = 0
        self._restart()
        self._hook = keywords["model"].register_forward_pre_hook(self._count, with_kwargs=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        """Leave the model as it was."""
        self._stop()

    def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        """Add the statistics to the metrics of the step, where it will be logged."""
        if control.should_log:
            self._add()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        """Add the statistics to the metrics of the epoch, where it will be logged."""
        if control.should_log:
            self._add()

    @torch.no_grad()
    def _count(self, model: Any, arguments: Any, inputs: dict[str, Any]) -> None:
        """Count a micro-batch on its device."""
        labels = inputs.get("labels")
        if not model.training or labels is None:
            return
        labelled = labels != IGNORE_INDEX
        labelled[:, 0] = False  # nothing predicts the first token
        mask = inputs.get("attention_mask")
        real = torch.ones_like(labelled) if mask is None or mask.dim() != 2 else mask != 0
        counted = torch.stack(
            [labelled.sum(), real.sum(), (~labelled.any(1)).sum(), torch.tensor(len(labels), device=labels.device)]
        )
        self._counts = counted if self._counts is None else self._counts + counted

    def _add(self) -> None:
        if self._counts is None:
            return
        counts = self._trainer.accelerator.reduce(self._counts, "sum").tolist()
        self._trained += counts[_LABELLED]
        values = {
            "trained_share": counts[_LABELLED] / max(1, counts[_TOKENS]),
            "trained_tokens": float(self._trained),
            "empty_rows": counts[_EMPTY] / max(1, counts[_ROWS]),
            "trained_tokens_per_second": counts[_LABELLED] / (time.perf_counter() - self._start),
        }
        for name, value in values.items():
            training_metrics(self._trainer)[f"selection/{name}"] = [value]
        self._restart()

    def _restart(self) -> None:
        self._counts: Tensor | None = None
        self._start = time.perf_counter()

    def _stop(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
