"""What an arm of a run trains on, shard by shard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokensieve.data.prepare import ExampleStore
from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.export._base import Shard
from tokensieve.methods import get_method
from tokensieve.runs.view import RunView
from tokensieve.select.cleaned import cleaned_rows, data_files, examples_with_kept
from tokensieve.select.streaming import read_selection
from tokensieve.store.shards import column_names, read_shard

_WEIGHTS = "weights"


@dataclass(frozen=True)
class ArmData:
    """The tokens that an arm trains, with their weights.

    Attributes:
        name: of the arm.
        store: the run's examples.
        scores: folder of the arm's decisions.
        weights: files of the weights, one a shard; empty where every trained token weighs the same.
        note: how its training differs from that of a trainer that averages over trained tokens; empty where it does
            not.
    """

    name: str
    store: ExampleStore
    scores: Path
    weights: tuple[Path, ...]
    note: str

    def __iter__(self) -> Iterator[Shard]:
        """Read shard after shard; those without a trained token are left out."""
        for number, examples in enumerate(self.store):
            _, kept = read_selection(self.scores, number)
            weights = {}
            if self.weights:  # a method of another package may give a weight to what is not trained
                found = read_shard(self.weights[number])[1][_WEIGHTS]
                weights[_WEIGHTS] = np.where(kept, found, np.float32(0))
            cu_seqlens, columns = cleaned_rows(examples, kept, weights)
            if len(cu_seqlens) > 1:
                yield Shard(
                    number,
                    self.store.shards,
                    cu_seqlens,
                    columns["input_ids"],
                    columns["labels"],
                    columns.get(_WEIGHTS),
                    examples.rows[examples_with_kept(examples, kept)],
                )


def open_arm(view: RunView, name: str) -> ArmData:
    """Open what an arm trains on.

    Raises:
        TokensieveError: no such arm, one whose choice is made while the model trains, or one that weighs tokens by a
            method that is not installed.
    """
    if name not in view.arms:
        raise TokensieveError(
            f"the run has no arm '{name}'{did_you_mean(name, view.arms)}",
            where=str(view.folder),
            hint=f"one of: {', '.join(view.arms)}",
        )
    selection = view.row(name).selection
    assert selection is not None
    training = view.folder / "arms" / name / "training"
    files = tuple(data_files(training)) if training.is_dir() else ()
    # Without files for the trainer, the labels say all of it, and what made them need not be installed.
    method = get_method(selection.method, **selection.parameters) if files else None
    weights = files if files and _WEIGHTS in column_names(files[0]) else ()
    if selection.online or (method is not None and method.weighted and not weights):
        does = "chooses" if selection.online else "weighs"
        fixed = (
            "; or give models.current, a fixed model in the place of the one in training" if selection.online else ""
        )
        raise TokensieveError(
            f"arm '{name}' {does} tokens while the model trains: no file holds what it decides, so none can be "
            "exported",
            where=str(view.folder / "arms" / name),
            hint="train it with `tokensieve train`, or with TokenSelectionTrainer in a script of your own "
            f"(docs/trainer.md){fixed}",
        )
    note = ""
    if method is not None and method.divide_by == "trainable":
        note = (
            f"{selection.method} divides the loss of a step by all trainable tokens, other trainers by the trained "
            f"ones: the same learning rate takes steps about {1 / max(selection.share, 1e-9):.2g} times as large there"
        )
    return ArmData(name, view.store, view.folder / "arms" / name / "scores", weights, note)
