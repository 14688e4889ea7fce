"""The self-evolving schedule of Token Cleaning (Pang et al., ICML 2025, arXiv 2502.01968, section 4.2).

The pool is split into consecutive parts of equal size, in whole examples. Round 0 fine-tunes the base on part 0 with
every token. Round t scores part t against the model as it then is, keeps what the rule keeps within the part, and
trains that same model on it, with a fresh optimizer and learning-rate schedule. The result is the model of the last
round.

The model stays in memory from round to round. What each round leaves behind, whole or not at all:

    rounds/<t>/model/            adapter or weights after round t
    rounds/<t>/tokens.arrow      ``row``, ``score`` and ``kept`` of the part's tokens
    rounds/<t>/round.json        counts, losses and seconds
    rounds/<t>/training.json     loss curve

A killed run loads the weights of the last complete round, once, and goes on. Full weights of a round are removed when
the next has its own; adapters stay. Rounds and model belong to one identity: the pipeline gives each its own folder.
"""

from __future__ import annotations

import dataclasses
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tokensieve.containers import Bool, Float32, Role
from tokensieve.errors import TokensieveError
from tokensieve.measure.forward import Forward, measure_shard
from tokensieve.methods._base import Method
from tokensieve.methods.self_evolving import SelfEvolving
from tokensieve.models.loading import load_model, local_folder
from tokensieve.progress import ProgressCallback
from tokensieve.select.cleaned import cleaned_rows, data_files, write_data
from tokensieve.select.streaming import (
    MODELS_DIFFER,
    Stage,
    all_tied,
    refuse_ties,
)
from tokensieve.store.atomic import atomic_folder, remove
from tokensieve.store.manifest import write_manifest
from tokensieve.store.sealed import read_sealed, write_sealed
from tokensieve.store.shards import write_shard
from tokensieve.train.record import last_step, read_record, write_record
from tokensieve.train.schedules._base import Intent, Job, Schedule
from tokensieve.train.schedules._parts import Part, part_bounds, read_part
from tokensieve.train.schedules._recorded import TOKENS, round_folders, write_round_scores
from tokensieve.train.trainer import checkpoints_of, fit, trained_model, write_model


class SelfEvolvingSchedule(Schedule):
    """Part by part of the data, each scored with the model that was trained on the earlier parts."""

    name: ClassVar[str] = "self-evolving"
    provides: ClassVar[frozenset[Role]] = frozenset({"reference"})
    trains: ClassVar[bool] = True

    def check(self, method: Method, intent: Intent) -> None:
        """Check that the recipe trains.

        Raises:
            TokensieveError: it does not.
        """
        if not intent.trains:
            raise TokensieveError(
                f"method '{method.name}' trains as it selects, and the recipe trains nothing",
                where="recipe: train",
                hint="give a train section, or use method token-cleaning",
            )

    def check_examples(self, method: Method, examples: int) -> None:
        """Check that the data can be split.

        Raises:
            TokensieveError: more parts than examples.
        """
        subsets = _subsets(method)
        if subsets > examples:
            raise TokensieveError(
                f"method '{method.name}' splits the data into {subsets} subsets, and it has {examples} examples",
                where="recipe: method.subsets",
                hint=f"method.subsets: {examples} at most" if examples > 1 else "more data",
            )

    def trainings(self, method: Method, examples: int) -> list[int]:
        """Return the number of examples of each part: each is a training of its own."""
        return [stop - first for first, stop in part_bounds(examples, _subsets(method))]

    def train(self, job: Job) -> None:
        """Carry out the rounds that are not done, and write the last model."""
        _Rounds(job).run()

    def select(self, job: Job, folder: Path, stage: Stage) -> dict[str, Any]:
        """Write what the rounds decided, by the shards of the pool."""
        del stage
        return write_round_scores(job.workbench.examples, job.rounds, folder)

    def round_records(self, job: Job) -> list[dict[str, Any]]:
        """Return the ``round.json`` of every round, in order."""
        missing, hint = "a round lacks its record", "delete the folder of the arm and run the same command again"
        return [read_sealed(path / "round.json", missing, hint) for path in round_folders(job.rounds)]


class _Rounds:
    """The rounds of one arm.

    Args:
        job: the arm.
    """

    def __init__(self, job: Job) -> None:
        self._job, self._bench = job, job.workbench
        self._setup, self._examples = job.training, job.workbench.examples
        self._subsets = _subsets(job.method)

    def run(self) -> None:
        """Carry out the rounds that are not done, and write the last model.

        Raises:
            TokensieveError: a round keeps no token, or all its scores are the same.
        """
        rounds, output, setup = self._job.rounds, self._job.model, self._setup
        self._bench.free_models()
        parts = part_bounds(self._examples.counts.examples, self._subsets)
        done = 0
        while done < len(parts) and (rounds / str(done) / "round.json").is_file():
            done += 1
        model = self._start(rounds / str(done - 1) / "model" if done else None)
        starts = np.cumsum([0, *(len(shard) for shard in self._examples)])
        for number in range(done, len(parts)):
            part = read_part(self._examples, self._job.load, starts, *parts[number])
            model = self._round(number, part, parts[number][0], model, rounds)
            if number and setup.settings.lora is None:
                remove(rounds / str(number - 1) / "model")
        records = [read_record(rounds / str(number)) or {} for number in range(len(parts))]
        log, before = [], 0
        for number, one in enumerate(records):
            log += [{"round": number, **entry, "step": before + entry["step"]} for entry in one["log"]]
            before += last_step(one)
        with atomic_folder(output) as partial:
            write_model(model, setup.tokenizer, setup.settings, partial)
            write_record(partial, {"metrics": records[-1]["metrics"], "log": log})
        for left in rounds.glob(".*"):  # of a round that was killed after its folder was whole
            shutil.rmtree(left, ignore_errors=True)
        if setup.settings.lora is None:
            remove(rounds / str(len(parts) - 1) / "model")

    def _round(self, number: int, part: Part, first: int, model: Any, rounds: Path) -> Any:
        """Score a part, train on what is kept of it and write both down; return the trained model."""
        folder, name = rounds / str(number), f"round {number + 1} of {self._subsets}"
        trainable = part.statistics.trainable
        scores, kept = np.zeros(len(trainable), dtype=np.float32), trainable
        if number:
            with self._bench.timed(f"{self._job.name}: {name}: score", False):
                scores, kept = self._select(part, model, name)
        if not kept.any():
            raise TokensieveError(
                f"{name} keeps none of {int(trainable.sum())} tokens", where="recipe: method", hint="fewer subsets"
            )
        data, checkpoints = rounds / f".{number}.data", checkpoints_of(folder)
        write_data(data, lambda _: cleaned_rows(part.examples, kept), 1)
        description = f"{self._job.name}: {name}: train"
        with self._bench.timed(description, False), self._bench.steps(description) as on_step:
            fitted = fit(
                model,
                self._setup,
                data_files(data),
                checkpoints,
                on_step=on_step,
                adapt=number == 0,
            )
        model = fitted.model
        inner = _as_before_training(model)
        held_out = self._bench.held_out_loss
        dropped = trainable & ~kept
        record = {
            "round": number,
            "first_example": first,
            "examples": len(part.examples),
            "trainable": int(trainable.sum()),
            "kept": int(kept.sum()),
            "kept_share": float(kept.sum() / trainable.sum()),
            "mean_score_kept": float(scores[kept].mean(dtype=np.float64)) if number else None,
            "mean_score_dropped": float(scores[dropped].mean(dtype=np.float64)) if dropped.any() else None,
            "training_loss": fitted.loss,
            "held_out_loss": held_out(inner) if held_out else None,
        }
        with atomic_folder(folder) as partial:
            columns = {"score": scores, "kept": kept}
            rows = {"row": part.examples.rows}
            written = write_shard(partial / TOKENS, part.examples.cu_seqlens, columns, rows)
            write_manifest(partial, {TOKENS: written})
            model.save_pretrained(partial / "model")  # PEFT looks for the base by its path when training goes on
            write_record(partial, fitted.record)
            write_sealed(partial / "round.json", record)
        shutil.rmtree(data)
        shutil.rmtree(checkpoints, ignore_errors=True)
        return model

    def _select(self, part: Part, model: Any, name: str) -> tuple[Float32, Bool]:
        """Return float32 ``[tokens]`` scores of a part, 0 where not trainable, and bool ``[tokens]``, what is kept."""
        inner = _as_before_training(model)
        specs = self._job.specs
        tokens = len(part.examples.input_ids)
        with (
            self._stage(f"{name}: score", tokens, "tokens") as advance,
            Forward(inner, sorted(set(specs.values()), key=lambda spec: spec.key)) as forward,
        ):
            found = measure_shard(forward, part.examples, self._bench.token_budget, advance)
        values = {**part.statistics.values, **{key: found[spec.key] for key, spec in specs.items()}}
        statistics = dataclasses.replace(part.statistics, values=values)
        scores = np.where(statistics.trainable, self._job.method.score(statistics), np.float32(0)).astype(np.float32)
        rule = self._job.rule
        kept = rule.keep(scores, self._job.method.offered(statistics))
        dropped = int((statistics.trainable & ~kept).sum())
        tie = all_tied(scores, statistics)
        refuse_ties(f"{self._job.name}, {name}", rule, tie, dropped, "recipe: method", MODELS_DIFFER)
        return scores, kept

    def _stage(self, description: str, total: int | None, unit: str) -> AbstractContextManager[ProgressCallback]:
        return self._bench.stage(f"{self._job.name}: {description}", total, unit)

    def _start(self, weights: Path | None) -> Any:
        """Load the base, or the model of the last complete round."""
        if weights is None:
            return load_model(self._setup.base, self._setup.device).requires_grad_(True)
        model = trained_model(self._setup.base, self._setup.settings, weights)
        loaded = load_model(model, self._setup.device)
        loaded.add_model_tags(["trl", "sft"])  # as trainers do; after the last round, none sees the model
        if model.adapter is None:
            return loaded.requires_grad_(True)
        from peft import PeftModel

        return PeftModel.from_pretrained(loaded, local_folder(model.adapter, weights=True), is_trainable=True)


def _subsets(method: Method) -> int:
    if not isinstance(method, SelfEvolving):
        raise TokensieveError(
            f"method '{method.name}' has the schedule 'self-evolving', which needs the subsets of self-evolving",
            hint="derive the method from tokensieve's SelfEvolving",
        )
    return method.subsets


def _as_before_training(model: Any) -> Any:
    """Take off what a trainer puts on a model, so that the next one finds it bare; return it without PEFT's wrapper.

    TRL's fused head and accelerate's mixed precision replace `forward` on the instance, and would be put on twice.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    for module in (model, inner):
        for name in ("forward", "_original_forward"):
            module.__dict__.pop(name, None)
    inner.disable_input_require_grads()
    model.eval()
    return inner
