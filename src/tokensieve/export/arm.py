"""The training data of an arm, shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tokensieve.data.example_store import ExampleStore
from tokensieve.engines import Done, Engine, each
from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.export._base import Shard
from tokensieve.methods import get_method
from tokensieve.runs.view import RunView
from tokensieve.select.cleaned import cleaned_rows, data_files, examples_with_kept
from tokensieve.select.streaming import read_selection
from tokensieve.store.shards import column_names, read_shard

_WEIGHTS, _MARKS = "weights", "marks"


@dataclass(frozen=True)
class ArmData:
    """The tokens that an arm trains, with their weights.

    Attributes:
        name: name of the arm.
        store: the run's examples.
        scores: folder of the arm's decisions.
        weights: weight files, one per shard; empty if every trained token has the same weight.
        note: how its loss differs from that of a trainer that averages over trained tokens; empty if it does not.
    """

    name: str
    store: ExampleStore
    scores: Path
    weights: tuple[Path, ...]
    note: str

    def shard(self, number: int) -> Shard | None:
        """Read a shard; None where no token of it is trained."""
        examples, (_, kept) = self.store.read(number), read_selection(self.scores, number)
        weights = {}
        if self.weights:  # a method of another package may weight tokens that are not trained
            found = read_shard(self.weights[number])[1][_WEIGHTS]
            weights[_WEIGHTS] = np.where(kept, found, np.float32(0))
        marks = {_MARKS: self.store.marks(number) * kept} if self.store.mark_types else {}
        cu_seqlens, columns = cleaned_rows(examples, kept, {**weights, **marks})
        if len(cu_seqlens) == 1:
            return None
        return Shard(
            number,
            self.store.shards,
            cu_seqlens,
            columns["input_ids"],
            columns["labels"],
            columns.get(_WEIGHTS),
            examples.rows[examples_with_kept(examples, kept)],
            columns.get(_MARKS),
            self.store.mark_types,
        )


@dataclass(frozen=True)
class ArmShards:
    """The shards of an arm on an engine, as `Shards` says.

    Attributes:
        data: of the arm.
        engine: maps over them.
    """

    data: ArmData
    engine: Engine

    def __iter__(self) -> Iterator[Shard]:
        """Read the shards in order, except those without a trained token."""
        found = (self.data.shard(number) for number in range(self.data.store.shards))
        return (shard for shard in found if shard is not None)

    def map(self, work: Callable[[Shard], Any]) -> Iterator[int]:
        """Do work for each shard, and yield the numbers of all in any order."""
        for done in each(self.engine, partial(_do, self.data, work), self.data.store.shards):
            yield done.shard


def _do(data: ArmData, work: Callable[[Shard], Any], number: int) -> Done:
    if (shard := data.shard(number)) is not None:
        work(shard)
    return Done(number, 0, {})


def open_arm(view: RunView, name: str) -> ArmData:
    """Open the training data of an arm.

    Raises:
        TokensieveError: the arm does not exist, it selects or weights tokens while the model trains, or its weights
            need a method that is not installed.
    """
    if name not in view.arms:
        raise TokensieveError(
            f"the run has no arm '{name}'{did_you_mean(name, view.arms)}",
            where=str(view.folder),
            hint=f"one of: {', '.join(view.arms)}",
        )
    selection = view.row(name).selection
    assert selection is not None
    arm = view.folders[name]
    files = tuple(data_files(arm.training)) if arm.training.is_dir() else ()
    # Without weight files the labels are sufficient, and the method need not be installed.
    method = get_method(selection.method, **selection.parameters) if files else None
    weights = files if files and _WEIGHTS in column_names(files[0]) else ()
    if selection.online or (method is not None and method.weighted and not weights):
        does = "selects" if selection.online else "weights"
        fixed = "; or set models.current to a fixed model" if selection.online else ""
        raise TokensieveError(
            f"arm '{name}' {does} tokens while the model trains, so there is no file of its decisions to export",
            where=str(arm.path),
            hint="train it with `tokensieve train`, or with TokenSelectionTrainer in your own script; "
            f"`python -c 'import tokensieve; help(tokensieve.TokenSelectionTrainer)'` explains it{fixed}",
        )
    if method is not None and method.anchor:
        raise TokensieveError(
            f"arm '{name}' is held near the base while it trains, which no file can say",
            where=str(arm.path),
            hint="train it with `tokensieve train`, or export an arm of the method dft",
        )
    note = ""
    if method is not None and method.divide_by == "trainable":
        note = (
            f"{selection.method} divides the loss of a step by all trainable tokens, other trainers by the trained "
            f"tokens: with the same learning rate, their steps are about {1 / max(selection.share, 1e-9):.2g} times "
            "as large"
        )
    return ArmData(name, view.store, arm.scores, weights, note)
