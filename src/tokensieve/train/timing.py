"""What a step of a training takes: a few steps of the very trainer, timed batch by batch."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tokensieve.train.trainer import TrainingSetup, make_trainer

_FEWEST = 4
_TIMED_ALONE = {
    "gradient_accumulation_steps": 1,  # the optimizer is timed by itself
    "max_steps": 1_000,
    "save_strategy": "no",
    "logging_strategy": "no",
    "report_to": "none",
}


@dataclass(frozen=True)
class StepTimes:
    """What the parts of a training took.

    Attributes:
        start: seconds before the first batch.
        shapes: rows and padded length of each batch.
        batches: seconds of the forward and backward pass of each batch.
        optimizer: median seconds of an optimizer step.
    """

    start: float
    shapes: tuple[tuple[int, int], ...]
    batches: tuple[float, ...]
    optimizer: float


def time_steps(model: Any, setup: TrainingSetup, data_files: list[Path], seconds: float) -> StepTimes:
    """Train a loaded model for a while, with an optimizer step after each batch; nothing is written.

    The first batch, which allocates memory, does not count. At least four do, however long they take.

    Args:
        model: trained in place; random weights do as well as any.
        setup: tokenizer and settings; its base is not loaded.
        data_files: Parquet with ``input_ids`` and ``labels``, rows for several batches.
        seconds: no further batch begins after these.

    Raises:
        TokensieveError: as `train.trainer.fit`.
    """
    began = time.perf_counter()
    settings = dataclasses.replace(setup.settings, arguments={**setup.settings.arguments, **_TIMED_ALONE})
    clock = _clock(setup.device, seconds)
    with tempfile.TemporaryDirectory() as folder:
        alone = dataclasses.replace(setup, settings=settings)
        trainer = make_trainer(model, alone, data_files, Path(folder) / "checkpoints", clock, adapt=True)
        collate, shapes = trainer.data_collator, list[tuple[int, int]]()

        def noted(rows: Any) -> Any:
            batch = collate(rows)
            shapes.append(tuple(batch["input_ids"].shape))
            return batch

        trainer.data_collator = noted
        trainer.train()
    batches = [done - begun for begun, done in zip(clock.begun, clock.done, strict=True)]
    optimizer = [stepped - done for done, stepped in zip(clock.done, clock.stepped, strict=True)]
    # The loader reads ahead, so that more batches may be collated than trained on.
    return StepTimes(
        clock.begun[0] - began, tuple(shapes[1 : len(batches)]), tuple(batches[1:]), statistics.median(optimizer[1:])
    )


def _clock(device: torch.device, seconds: float) -> Any:
    """Return a callback that notes when each part of a step ends, and ends the training in time."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.begun: list[float] = []
            self.done: list[float] = []
            self.stepped: list[float] = []

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            # What lies between two steps, such as making the next batch, belongs to the batch.
            self.begun.append(self.stepped[-1] if self.stepped else _now(device))

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.done.append(_now(device))

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.stepped.append(_now(device))
            spent = self.stepped[-1] - self.begun[0]
            control.should_training_stop = len(self.stepped) > _FEWEST and spent > seconds

    return Clock()


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
