"""What the stages of a run and the schedules work with: models that are made, statistics that are measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tokensieve.containers import Role, StatisticSpec
from tokensieve.data.example_store import ExampleStore
from tokensieve.engines import Engine
from tokensieve.evaluate.held_out import ExampleLosses, held_out_loss, held_out_losses_on
from tokensieve.measure.folds import cut_parts, join_parts
from tokensieve.measure.hidden_states import store_hidden_states
from tokensieve.measure.measure import locate, measure, tokens_of
from tokensieve.measure.measurement import Measurement
from tokensieve.measure.share import ALL, Share
from tokensieve.methods._base import Method
from tokensieve.models.identity import model_identity
from tokensieve.models.loading import pick_device
from tokensieve.models.pool import ModelPool
from tokensieve.models.settings import ModelSettings
from tokensieve.pipeline.inputs import Inputs
from tokensieve.pipeline.loader import Loader, Measurements
from tokensieve.pipeline.model_store import (
    LAYOUT,
    MODEL,
    make_once,
    settings_identity,
)
from tokensieve.pipeline.plan import Arm, Plan, Reading
from tokensieve.pipeline.recipe import train_settings
from tokensieve.pipeline.reward import HeadResult, Preferences
from tokensieve.pipeline.stage_log import StageLog
from tokensieve.pipeline.training_bench import TrainingBench
from tokensieve.pipeline.warm_up import WarmUpResult, pick_examples, sample_of, warm_up_result
from tokensieve.progress import StageProgress
from tokensieve.select.cleaned import data_files, write_subset
from tokensieve.select.streaming import LoadStatistics
from tokensieve.store import fingerprint
from tokensieve.store.atomic import atomic_folder, write_json
from tokensieve.store.manifest import open_manifest
from tokensieve.train.processes import ALONE, Processes
from tokensieve.train.record import last_step, read_record
from tokensieve.train.schedules._base import Added
from tokensieve.train.trainer import TrainingSetup, trained_model


class RunWorkbench(StageLog):
    """The models and statistics of one run, made as they are asked for and kept in the store.

    Args:
        inputs: data and models of the run.
        progress: where progress is shown.
        engine: maps workers over shards.
        seconds: what each stage took so far; goes on here.
        tokens: how many went through each stage so far; goes on here.
        keep: called with all seconds after each stage.
        share: which shards are measured here.
        processes: those that train together.

    Attributes:
        models: the models that exist, by role; those that are made join them.
        measurements: the statistics that are measured, by role of the recipe.
        pool: where models are loaded.
        engine: maps workers over shards.
        trainings: where models are trained.
    """

    def __init__(
        self,
        inputs: Inputs,
        progress: StageProgress,
        engine: Engine,
        seconds: Mapping[str, float],
        tokens: Mapping[str, int],
        keep: Callable[[Mapping[str, float]], None],
        share: Share = ALL,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(progress, seconds, tokens, keep)
        self.inputs, self.engine, self.share = inputs, engine, share
        self._device_name = share.device_name(self.plan.recipe.measure.device)
        self.device = pick_device(self._device_name)
        self.pool = ModelPool(self._device_name)
        self.models: dict[Role, ModelSettings] = dict(inputs.models)
        self.measurements: dict[Role, Measurement] = {}
        self.trainings = TrainingBench(inputs, self, self.device, processes)

    @property
    def plan(self) -> Plan:
        """What the recipe means."""
        return self.inputs.plan

    @property
    def examples(self) -> ExampleStore:
        """The pool."""
        return self.inputs.examples

    @property
    def token_budget(self) -> int:
        """Tokens of one batch of measuring at most."""
        return self.plan.recipe.measure.batch_tokens(self.device.type)

    @property
    def training(self) -> TrainingSetup:
        """What every training of the run shares, with the first of its seeds."""
        return self.trainings.setup

    @property
    def held_out_loss(self) -> Callable[[Any], float] | None:
        """A loaded model to its mean loss on held-out data, in nats; None where there is none."""
        held_out = self.inputs.held_out
        if held_out is None:
            return None

        def loss(model: Any) -> float:
            with self.stage("held-out loss", held_out.counts.tokens, "tokens") as advance:
                return held_out_loss(model, held_out, self.token_budget, advance).loss

        return loss

    def held_out_losses(self, model: ModelSettings, description: str) -> ExampleLosses | None:
        """Measure the losses of a model on held-out data, on the engine; None where there is none."""
        held_out = self.inputs.held_out
        if held_out is None:
            return None
        with self.stage(description, held_out.counts.tokens, "tokens") as advance:
            return held_out_losses_on(self.engine, model, held_out, self.plan.recipe.measure, self.pool, advance)

    def free_models(self) -> None:
        """Let go of the models that measuring holds, so that there is room to train."""
        self.pool = ModelPool(self._device_name)

    def measure(
        self,
        role: Role,
        model: ModelSettings,
        specs: Sequence[StatisticSpec],
        label: str = "",
        examples: ExampleStore | None = None,
    ) -> Measurement:
        """Measure statistics of a model, as far as they are missing.

        Args:
            role: of the model, for the description.
            model: what to measure with.
            specs: which statistics.
            label: what to add to the description.
            examples: what to measure over; the pool where not given.
        """
        labels = [label] if label else []
        if not self.share.is_all:
            labels.append(f"shards {self.share}")
        description = ", ".join([f"measure {role}", *labels])
        examples, recipe = examples or self.examples, self.plan.recipe
        tokens, done = tokens_of(examples, self.share), locate(examples, model, recipe.store_folder).complete(specs)
        with self.timed(description, done, tokens), self.stage(description, tokens, "tokens") as advance:
            found = measure(
                examples,
                model,
                specs,
                recipe.measure,
                recipe.store_folder,
                self.pool,
                self.engine,
                advance,
                self.share,
            )
        if others := found.other_versions:
            self.progress.warn(
                f"{description}: these statistics were measured with other libraries ({'; '.join(others)}); delete "
                f"{found.folder} to measure them again"
            )
        return found

    def measure_folds(
        self, role: Role, models: Sequence[ModelSettings], specs: Sequence[StatisticSpec]
    ) -> Measurement | None:
        """Measure statistics over the pool, each part of it by the model that was made without it.

        Args:
            role: of the models.
            models: the model of each part.
            specs: which statistics.

        Returns:
            Where they are, or None while other shares are not complete.
        """
        parts = [
            self.measure(role, model, specs, f"part {part.part + 1} of {part.parts}", part)
            for model, part in zip(models, cut_parts(self.examples, len(models)), strict=True)
        ]
        whole = all(part.complete(specs) for part in parts)
        return join_parts(self.examples, parts, specs, self.plan.recipe.store_folder) if whole else None

    def load_with(self, method: Method, role: Role, model: ModelSettings, label: str) -> LoadStatistics:
        """Measure the pool with a model in a role; return what reads one shard of all that a method needs."""
        arm = next(arm for arm in self.plan.arms if arm.method == method)
        specs = [one.spec for one in arm.reads if one.source == role]
        measured = self.measure(role, model, specs, label)
        return self._loader(arm.reads, {**self.measurements, role: measured}).read

    def loader(self, arm: Arm) -> Loader:
        """Return what reads the statistics of an arm."""
        return self._loader(arm.reads, self.measurements)

    def _loader(self, reads: Sequence[Reading], measurements: Measurements) -> Loader:
        return Loader(self.examples, tuple(reads), measurements, self.plan.recipe.select.keep_turn_end)

    def make_model(self, role: Role, rounds: Sequence[Added] = (), fold: int = 0) -> ModelSettings:
        """Fine-tune the base on the warm-up data of a role, once for the same base, data and settings.

        Args:
            role: whose `warm_up` says how.
            rounds: examples of the pool that join the data, round by round.
            fold: the part of the pool that is left out, where the warm-up has several folds.
        """
        recipe = self.plan.recipe
        warm_up = recipe.models[role].warm_up
        assert warm_up is not None
        examples = self.inputs.warm_ups.get(role, self.examples)
        settings = train_settings(self.plan.train, warm_up.train)
        seed = recipe.seed if warm_up.seed is None else warm_up.seed
        setup = dataclasses.replace(self.training, settings=settings, seed=seed)
        added = sorted(example for one in rounds for example in one.examples)
        identity = {
            "layout": LAYOUT,
            "base": model_identity(self.plan.base),
            "examples": examples.fingerprint,
            "rows": warm_up.rows,
            "pick": warm_up.pick,
            "train": settings_identity(settings),
            "seed": seed,
            "device": self.device.type,
            "versions": fingerprint.versions(),
        }
        if warm_up.folds > 1:
            identity["fold"] = [fold, warm_up.folds]
        if added:
            identity["added"] = {"examples": self.examples.fingerprint, "numbers": added}

        description = f"make {role}, round {len(rounds)}" if rounds else f"make {role}"
        if warm_up.folds > 1:
            description += f", without part {fold + 1} of {warm_up.folds}"

        def make(folder: Path) -> dict[str, Any]:
            picked = pick_examples(examples, warm_up, role, seed, fold)
            parts = {"warm-up": (examples, picked)}
            if added:
                parts["added"] = (self.examples, np.isin(np.arange(self.examples.counts.examples), added))
                write_json(folder / "added.json", {"rounds": [dataclasses.asdict(one) for one in rounds]})
            for name, (source, subset) in parts.items():
                with atomic_folder(folder / name) as partial:
                    write_subset(source, subset, partial, self.engine)
            files = [path for name in parts for path in data_files(folder / name)]
            self.trainings.train(description, files, folder / MODEL, setup)
            steps = last_step(read_record(folder / MODEL) or {})
            made = trained_model(self.plan.base, settings, folder / MODEL)
            result = warm_up_result(
                self.pool, self.plan.base, made, steps, sample_of(examples, picked), self.token_budget
            )
            return {"result": result.to_json()}

        folder, _ = make_once(recipe.store_folder, identity, make)
        self.trainings.note_tokens(description, folder / MODEL)
        for warning in WarmUpResult(**open_manifest(folder).about["result"]).warnings(role):
            self.progress.warn(warning)
        return trained_model(self.plan.base, settings, folder / MODEL)

    def make_reward_model(self, preferences: Preferences) -> ModelSettings:
        """Train a head on the hidden states of a model to rank answers, once for the same model, answers and settings.

        Raises:
            TokensieveError: a head that orders held-out answers no better than chance.
        """
        recipe, backbone = self.plan.recipe, self.inputs.models["reward"]
        settings, tokens = recipe.models["reward"].preferences, preferences.examples.counts.tokens
        assert settings is not None

        def make(folder: Path) -> dict[str, Any]:
            with (
                self.timed("make reward", False),
                self.stage("make reward: hidden states", tokens, "tokens") as advance,
            ):
                states = store_hidden_states(
                    preferences.examples,
                    backbone,
                    recipe.measure,
                    recipe.store_folder,
                    self.pool,
                    self.engine,
                    advance,
                )
                head, result = preferences.train(states, settings, self.device)
            self.progress.note(f"make reward: {result.line}")
            result.check()
            with atomic_folder(folder / MODEL) as partial:
                head.save(partial)
            return {"result": result.to_json()}

        identity = {
            "layout": LAYOUT,
            "device": self.device.type,
            "versions": fingerprint.versions(),
            **preferences.identity(backbone, settings),
        }
        folder, made = make_once(recipe.store_folder, identity, make)
        if not made:
            self.progress.note(f"make reward: {HeadResult(**open_manifest(folder).about['result']).line}")
        return dataclasses.replace(backbone, reward_head=str(folder / MODEL))
