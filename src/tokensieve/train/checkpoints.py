"""Checkpoints that count only when they are whole.

The Trainer writes a checkpoint file by file, and takes the newest folder when it resumes, whole or not. Here a
checkpoint is complete when it holds a record of all its files, written last. Older checkpoints are removed only then,
so that a stop at any moment leaves one to resume from.
"""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tokensieve.store.atomic import read_json, sync, write_json

RECORD = "complete.json"
"""The size of each file of a checkpoint, in bytes, by its path in the folder."""
_STATE = "trainer_state.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def record_complete(folder: Path) -> None:
    """Bring all files of a checkpoint to the disk, then record their sizes."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files.pop(RECORD, None)
    for path in [*files.values(), *(path for path in folder.rglob("*") if path.is_dir()), folder]:
        sync(path)
    write_json(folder / RECORD, {name: path.stat().st_size for name, path in files.items()})


def is_complete(folder: Path) -> bool:
    """Whether a checkpoint has its record and every file in it, with the size that was recorded."""
    try:
        sizes = read_json(folder / RECORD)
        return bool(sizes) and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, complete or not, the newest first."""
    if not folder.is_dir():
        return []
    steps = {
        path: int(match[1]) for path in folder.iterdir() if path.is_dir() and (match := _NAME.fullmatch(path.name))
    }
    return sorted(steps, key=steps.__getitem__, reverse=True)


def last_complete(folder: Path) -> Path | None:
    """Return the newest complete checkpoint in a folder; None where there is none."""
    return next((path for path in checkpoints_in(folder) if is_complete(path)), None)


def remove_broken(folder: Path, *, unrecorded: bool) -> None:
    """Remove what a stop has left behind of checkpoints.

    Args:
        folder: holds the checkpoints.
        unrecorded: also remove those that the Trainer finished and that have no record. In a folder that is not
            tokensieve's own they may be another trainer's: they are left there, with a warning.
    """
    for path in checkpoints_in(folder):
        if is_complete(path):
            continue
        if not unrecorded and (path / _STATE).is_file() and not (path / RECORD).exists():
            warnings.warn(f"{path} has no record that it is complete, and is not resumed", stacklevel=3)
            continue
        shutil.rmtree(path)


class CompleteCheckpoints(TrainerCallback):
    """Records each checkpoint when all processes have written it, and only then removes older ones.

    It takes over ``save_total_limit``, which the Trainer applies before a checkpoint is complete.

    Args:
        trainer: the trainer. Whatever else is to be in a checkpoint must be written by callbacks before this one.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._limit: int | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keep the Trainer from removing checkpoints."""
        if args.save_total_limit is not None:
            self._limit, args.save_total_limit = args.save_total_limit, None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the record off a checkpoint that is about to be written over."""
        if control.should_save:
            self._forget(args, state)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the record off a checkpoint that is about to be written over."""
        if control.should_save:
            self._forget(args, state)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the record off a checkpoint that may be written over, as the evaluation decides."""
        self._forget(args, state)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Record the checkpoint of this step, and remove the oldest beyond the limit."""
        self._trainer.accelerator.wait_for_everyone()
        if not args.should_save:
            return
        written = _folder(args, state)
        record_complete(written)
        spared = {written.name, Path(state.best_model_checkpoint or written).name}
        others = [path for path in checkpoints_in(written.parent) if path.name not in spared]
        # By time, as the Trainer does: an earlier training may have left checkpoints of later steps.
        others.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        if self._limit is not None and self._limit > 0:
            for path in others[max(0, self._limit - len(spared)) :]:
                shutil.rmtree(path)

    def _forget(self, args: Any, state: Any) -> None:
        if args.should_save:
            (_folder(args, state) / RECORD).unlink(missing_ok=True)


def _folder(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"
