"""The figures that a trainer sums up while it trains, kept in its checkpoints.

The Trainer starts its mean loss, and TRL its count of tokens, from nothing when a training goes on. With these totals
a training that was interrupted logs what one without an interruption does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tokensieve.models.transformers_private import restore_running_loss, running_loss
from tokensieve.store.atomic import read_json, write_json
from tokensieve.train.trl_private import restore_running_counts, running_counts


class RunningTotals(TrainerCallback):
    """Writes the totals of this process beside each checkpoint, and takes them up where the training goes on.

    Args:
        trainer: the trainer; a checkpoint of another folder than its output has no totals, and they start from 0.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take up the totals of the checkpoint that the training goes on from."""
        path = self._file(args, state)
        if state.global_step and path.is_file():
            found = read_json(path)
            restore_running_loss(self._trainer, found["loss"])
            restore_running_counts(self._trainer, found["counts"])

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the totals into the folder of the checkpoint."""
        totals = {"loss": running_loss(self._trainer), "counts": running_counts(self._trainer)}
        write_json(self._file(args, state), totals)

    @staticmethod
    def _file(args: Any, state: Any) -> Path:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        return folder / f"running_totals-{args.process_index}.json"
