"""Trains the models of a run, or takes those of the store that are made from the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tokensieve.data.settings import DEFAULT_MAX_LENGTH
from tokensieve.methods._base import Method
from tokensieve.pipeline.inputs import Inputs
from tokensieve.pipeline.model_store import MODEL, ROUNDS, make_once, place, training_identity
from tokensieve.pipeline.stage_log import StageLog
from tokensieve.select.cleaned import data_files
from tokensieve.select.selection import SelectionIdentity
from tokensieve.store import fingerprint
from tokensieve.store.manifest import is_complete
from tokensieve.train.processes import Processes
from tokensieve.train.record import read_record, tokens_of
from tokensieve.train.schedules._base import Job, Schedule
from tokensieve.train.trainer import TrainingSetup, train


class TrainingBench:
    """Where the models of one run are trained.

    Args:
        inputs: data and models of the run.
        log: shows and notes the stages.
        device: to train on.
        processes: those that train together.

    Attributes:
        setup: what every training of the run shares, with the first of its seeds.
        processes: those that train together.
    """

    def __init__(self, inputs: Inputs, log: StageLog, device: torch.device, processes: Processes) -> None:
        self._inputs, self._log, self.processes = inputs, log, processes
        recipe = inputs.plan.recipe
        self.setup = TrainingSetup(
            inputs.plan.base,
            inputs.encoder.tokenizer,
            inputs.plan.train,
            recipe.data.max_length or DEFAULT_MAX_LENGTH,
            recipe.seed,
            device,
        )

    def train_arm(self, description: str, data: Path, output: Path, method: Method | None, seed: int) -> None:
        """Put the model of an arm into its folder: one of the store that is made from the same, or a new one.

        Args:
            description: of the stage.
            data: folder of what the arm trains on, as `select.cleaned` writes it.
            output: folder of the model, which stays when the store is deleted.
            method: selects or weights tokens as the model trains; None trains on every label.
            seed: of the training.

        Raises:
            TokensieveError: data, or a model in the store, that is damaged.
        """
        files, setup = data_files(data), dataclasses.replace(self.setup, seed=seed)
        identity = training_identity(setup, self._inputs.encoder, files, method, self._turn_end_ids, self.processes)

        def make(folder: Path) -> dict[str, Any]:
            self.train(description, files, folder / MODEL, setup, method)
            return {}

        folder = self._made(description, identity, make)
        if self.processes.is_main:
            place(folder, output)
        self.processes.wait()

    def train_rounds(self, schedule: Schedule, job: Job, identity: SelectionIdentity, selected: bool) -> None:
        """Put rounds and model of an arm that trains as it selects into its folder: those of the store, or new ones.

        Args:
            schedule: trains.
            job: the arm; its folders of rounds and model stay when the store is deleted.
            identity: what its selection is made from.
            selected: whether a selection of this identity is there, so that the rounds beside it are its own.

        Raises:
            TokensieveError: a file in the store that is damaged, or what the schedule raises.
        """
        if selected and read_record(job.model) is not None and all(map(is_complete, job.rounds.glob("*/"))):
            return
        held_out = self._inputs.held_out  # each round tells its loss
        made_from = {
            **training_identity(job.training, self._inputs.encoder, [], None, ()),
            "selection": fingerprint.jsonable(dataclasses.asdict(identity)),
            "held_out": held_out.fingerprint if held_out else None,
        }

        def make(folder: Path) -> dict[str, Any]:
            schedule.train(dataclasses.replace(job, rounds=folder / ROUNDS, model=folder / MODEL))
            return {}

        folder = self._made(f"train {job.name}", made_from, make)
        place(folder, job.rounds, ROUNDS)
        place(folder, job.model)

    def _made(self, description: str, identity: Mapping[str, Any], make: Callable[[Path], dict[str, Any]]) -> Path:
        """Return the folder in the store of what is made from an identity, and say where it was there already."""
        folder, made = make_once(self._inputs.plan.recipe.store_folder, identity, make, self.processes)
        if not made:
            self._log.progress.note(f"{description}: the model in {folder} is made from the same, and is reused")
        return folder

    def train(
        self, description: str, files: list[Path], output: Path, setup: TrainingSetup, method: Method | None = None
    ) -> None:
        """Fine-tune the base, where the output does not hold its model already.

        Args:
            description: of the stage.
            files: the data.
            output: folder of the model.
            setup: how to train.
            method: selects or weights tokens as the model trains; None trains on every label.
        """
        if self.processes.agree(read_record(output)) is not None:
            return
        with self._log.timed(description, False), self._log.steps(description) as on_step:
            train(
                setup,
                files,
                output,
                on_step=on_step,
                method=method,
                turn_end_ids=self._turn_end_ids,
                processes=self.processes,
            )

    def note_tokens(self, description: str, output: Path) -> None:
        """Note the tokens that went through the training of a model, whenever that was."""
        record = read_record(output)
        if record is not None and (tokens := tokens_of(record)) is not None:
            self._log.tokens[description] = tokens

    @property
    def _turn_end_ids(self) -> Sequence[int]:
        """The ids that a method keeps whatever their score, as it selects while the model trains."""
        return tuple(self._inputs.encoder.turn_end_ids) if self._inputs.plan.recipe.select.keep_turn_end else ()
