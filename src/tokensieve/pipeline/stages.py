"""The stages of a run in order; what is done is skipped. `runs.folder` says what they leave in the run folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tokensieve.containers import Role
from tokensieve.engines import Engine, start_engine
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.evaluate import evaluate_model, needs_model
from tokensieve.measure.measurement import Measurement
from tokensieve.measure.share import ALL, Share
from tokensieve.models.identity import model_identity
from tokensieve.models.loading import pick_device
from tokensieve.models.settings import ModelSettings
from tokensieve.pipeline.arms import ArmSelection, Training, imported_trainings, replicates, trainings
from tokensieve.pipeline.evaluation_store import Evaluated, evaluate_once, told_settings
from tokensieve.pipeline.inputs import Inputs, prepare_inputs
from tokensieve.pipeline.plan import Plan, make_plan
from tokensieve.pipeline.recipe import Recipe, dump_recipe, recipe_values
from tokensieve.pipeline.same_recipe import check_folder, fixed_settings
from tokensieve.pipeline.shares import check_share
from tokensieve.pipeline.trainings import planned_trainings
from tokensieve.pipeline.workbench import RunWorkbench
from tokensieve.places import told
from tokensieve.progress import StageProgress
from tokensieve.runs.arm_folder import ArmFolder
from tokensieve.runs.folder import RunFolder, RunState
from tokensieve.runs.view import check_data
from tokensieve.store import fingerprint
from tokensieve.store.atomic import locked
from tokensieve.train.processes import ALONE, Processes
from tokensieve.train.record import check_model
from tokensieve.train.trainer import trained_model

STAGES = ("measure", "select", "train", "evaluate", "report")


def run(
    recipe: Recipe,
    until: str = "report",
    progress: StageProgress | bool = True,
    warnings: Sequence[str] = (),
    share: Share = ALL,
) -> Path:
    """Carry out a recipe, or what of it is not done yet.

    Args:
        recipe: the settings.
        until: last stage to carry out, one of `STAGES`.
        progress: where progress and warnings are shown; True for the error stream, or the output of a notebook, False
            for nowhere. Warnings are on the page in any case.
        warnings: what came out before, and is to stand with the warnings of the run.
        share: which of several processes this is; `measure` is then the only stage, each with its share of the shards,
            or `train`, all of them together.

    Returns:
        The run folder.

    Raises:
        TokensieveError: input that cannot be used; before any model is loaded, where it can be known.
    """
    if isinstance(progress, bool):
        progress = StageProgress(shown=progress)
    progress.warnings.clear()  # those of another run
    for warning in warnings:
        progress.warn(warning)
    folder = RunFolder(recipe.output_folder)
    plan = make_plan(recipe)
    check_share(share, plan, until)
    check_folder(plan)
    if until == "train" and not share.is_all:
        return _train_together(plan, progress, Processes(share.number, share.of), share)
    with start_engine(recipe.engine) as engine:
        inputs = prepare_inputs(plan, progress, until, engine=engine)
        for training in planned_trainings(inputs):
            reached = training.section != "train" or STAGES.index(until) >= STAGES.index("train")
            if training.warning and reached:
                progress.note(f"warning: {training.warning}")
        with locked(folder.path) if share.is_all else nullcontext():
            check_folder(plan)  # another process may have written to it since
            folder.sweep()
            stages = _Stages(recipe, inputs, folder, progress, engine, share)
            stages.measure()
            for stage in STAGES[1 : STAGES.index(until) + 1]:
                getattr(stages, stage)()
    return folder.path


def _train_together(plan: Plan, progress: StageProgress, processes: Processes, share: Share) -> Path:
    """Train every arm in several processes; the main one of them holds the run folder, and shows progress."""
    if not processes.is_main:
        progress = StageProgress(shown=False)
    folder, recipe = RunFolder(plan.recipe.output_folder), plan.recipe
    inputs = prepare_inputs(plan, progress, "train")
    device = pick_device(share.device_name(recipe.measure.device))
    with processes.connected(device), processes.locked(folder.path), start_engine(recipe.engine) as engine:
        _Stages(recipe, inputs, folder, progress, engine, share, processes).train()
    return folder.path


class _Stages:
    """The stages of one run, with what they hand to each other.

    Args:
        recipe: the settings as they were given.
        inputs: data and models of the run.
        folder: the run folder, held by this process alone.
        progress: where progress is shown.
        engine: maps workers over shards.
        share: which shards are measured here.
        processes: those that train together.

    Raises:
        TokensieveError: the folder holds selections of other data.
    """

    def __init__(
        self,
        recipe: Recipe,
        inputs: Inputs,
        folder: RunFolder,
        progress: StageProgress,
        engine: Engine,
        share: Share = ALL,
        processes: Processes = ALONE,
    ) -> None:
        self._recipe, self._inputs, self._plan, self._folder = recipe, inputs, inputs.plan, folder
        for arm in folder.selected_arms():
            check_data(arm.selection(), inputs.examples, arm)
        goes_on = folder.has_results or (
            folder.recipe_file.is_file() and fixed_settings(folder.recipe()) == fixed_settings(recipe_values(recipe))
        )
        state = folder.state() if goes_on and folder.state_file.is_file() else None
        self._measured = state.statistics if state else {}
        self._bench = RunWorkbench(
            inputs,
            progress,
            engine,
            folder.seconds() if goes_on else {},
            state.tokens if state else {},
            folder.write_seconds if share.is_all else lambda _: None,  # those of several processes are of no one run
            share,
            processes,
        )
        if not goes_on:
            self._write_recipe()

    def measure(self) -> None:
        """Make the models that are to be made, and measure the statistics of every role."""
        bench, plan = self._bench, self._plan
        folded: dict[Role, list[ModelSettings]] = {}
        for role, settings in plan.recipe.models.items():
            if settings.warm_up is None or role not in plan.statistics or role in plan.refined:
                continue
            if settings.warm_up.folds > 1:
                folded[role] = [bench.make_model(role, fold=fold) for fold in range(settings.warm_up.folds)]
            else:
                bench.models[role] = bench.make_model(role)
        if self._inputs.preferences is not None and "reward" in plan.statistics:
            bench.models["reward"] = bench.make_reward_model(self._inputs.preferences)
        self._check_distinct()
        measured: dict[Role, Measurement] = {}
        # Refining a model takes the statistics of the others.
        for role in sorted(plan.statistics, key=lambda role: role in plan.refined):
            if role in plan.refined:
                arm = plan.refined[role]
                bench.models[role] = arm.schedule.refine(arm.method, bench)
            specs = plan.statistics[role]
            if role in folded:
                found = bench.measure_folds(role, folded[role], specs)
            else:
                found = bench.measure(role, bench.models[role], specs)
            if found is not None and (bench.share.is_all or found.complete(specs)):
                bench.measurements[role] = measured[role] = found
        if left := plan.statistics.keys() - measured.keys():
            bench.progress.note(f"shards {bench.share} are measured; of {', '.join(sorted(left))}, others are not yet")
            return
        bench.measurements = {role: measured[role] for role in plan.statistics}
        self._check_selections()
        if not self._grows():
            self._write_recipe()  # what may change between calls
            self._write_state()

    def select(self) -> None:
        """Score and select tokens for every arm, and write its cleaned data."""
        kept = None
        for selection in self._selections():
            selection = dataclasses.replace(selection, kept=kept)
            done = selection.folder.selected
            with self._bench.timed(f"select {selection.arm.name}", done, self._bench.examples.counts.tokens):
                made = selection.make()
            if selection.arm == self._plan.leader:
                for warning in made.warnings():
                    self._bench.progress.warn(warning)
            kept = made.kept if kept is None else kept
        self._write_recipe()
        self._write_state()

    def train(self) -> None:
        """Fine-tune the base on every arm's cleaned data, imported arms too."""
        if self._plan.recipe.train is None:
            return
        self._bench.free_models()
        for one in self._trainings():
            if not self._bench.trainings.processes.agree(one.folder.trained):
                self._bench.trainings.train_arm(f"train {one.name}", one.data, one.folder.model, one.method, one.seed)
            self._bench.trainings.note_tokens(f"train {one.name}", one.folder.model)
        self._write_state()

    def evaluate(self) -> None:
        """Evaluate the base, the reference and every arm's model on the same data."""
        settings, plan = self._plan.recipe.evaluate, self._plan
        if not settings.measures:
            return
        roles: tuple[Role, ...] = ("base", "reference")
        known = self._bench.models
        for role in roles:
            if role in known:
                self._evaluate(role, self._folder.arm(role), known[role])
        if plan.recipe.train is not None:
            for one in self._trainings():
                self._evaluate(one.name, one.folder, trained_model(plan.base, plan.train, one.folder.model))
        self._write_state()

    def report(self) -> None:
        """Write the page."""
        from tokensieve.report.html.page import write_page
        from tokensieve.runs.view import load_run

        write_page(load_run(self._folder.path), self._folder.page, self._plan.recipe.report.examples)

    def _grows(self) -> bool:
        """Whether arms are about to join others: until they are selected, the run stays what it is."""
        selected = [self._folder.arm(arm.name).selected for arm in self._plan.arms]
        return any(selected) and not all(selected)

    def _check_distinct(self) -> None:
        """Refuse to compare a model with itself: every score would be the same."""
        for arm in self._plan.arms:
            models = {
                role: model
                for role, model in self._bench.models.items()
                if any(one.source == role for one in arm.reads)
            }
            roles, identities = list(models), [model_identity(model) for model in models.values()]
            for place, role in enumerate(roles):
                if identities[place] in identities[:place]:
                    other = roles[identities.index(identities[place])]
                    raise TokensieveError(
                        f"models.{role} and models.{other} are the same model, so '{arm.name}' would compare it with "
                        "itself",
                        where=f"recipe: models.{role}",
                        hint=f"name another model, or have one made with models.{role}.warm_up: {{rows: 1000}}",
                    )

    def _check_selections(self) -> None:
        """Refuse selections of other data, models or settings, before anything is written."""
        kept = None
        for selection in self._selections():
            if selection.arm.rule is None and kept is None:
                continue  # it follows the method's selection, which is yet to be made
            found = dataclasses.replace(selection, kept=kept).check()
            if selection.arm == self._plan.leader and found is not None:
                kept = found.kept

    def _selections(self) -> Iterator[ArmSelection]:
        """Yield the selections of the run, the method's first; of each arm one, or one a seed where this decides."""
        seeds = self._plan.recipe.training_seeds
        for arm in self._plan.arms:
            own = self._folder.arm(arm.name)
            for name, folder, seed in replicates(arm.name, own, seeds if arm.by_seed else seeds[:1]):
                yield ArmSelection(arm.with_seed(name, seed), folder, self._bench, None, seed)

    def _trainings(self) -> Iterator[Training]:
        """Yield the models of the run, those of imported arms last."""
        seeds = self._plan.recipe.training_seeds
        for arm in self._plan.arms:
            yield from trainings(arm, self._folder.arm(arm.name), seeds)
        for name in self._folder.imported_arms():
            yield from imported_trainings(self._folder.arm(name), seeds)

    def _evaluate(self, name: str, arm: ArmFolder, model: ModelSettings) -> None:
        inputs, bench = self._inputs, self._bench
        settings = self._plan.recipe.evaluate
        identity = {
            "settings": told_settings(settings),
            "model": model_identity(model),
            "data": inputs.evaluation.fingerprints,
        }
        found = arm.evaluation()
        if {key: found.get(key) for key in identity} == identity:
            return

        def stage(description: str, total: int | None, unit: str) -> Any:
            return bench.stage(f"evaluate {name}: {description}", total, unit)

        def evaluated() -> Evaluated:
            data = inputs.evaluation
            if arm.trained:
                check_model(arm.model)
            with bench.timed(f"evaluate {name}", False):
                losses = bench.held_out_losses(model, f"evaluate {name}: held-out loss")
                with bench.pool.use(model) if needs_model(settings, data) else nullcontext() as loaded:
                    return evaluate_model(loaded, inputs.encoder, settings, data, bench.token_budget, stage, losses)

        evaluate_once(self._plan.recipe.store_folder, identity, arm, evaluated)

    def _write_recipe(self) -> None:
        self._folder.write_recipe(dump_recipe(self._recipe))

    def _write_state(self) -> None:
        bench = self._bench
        if not bench.trainings.processes.is_main:
            return
        state = RunState(
            name=self._folder.path.name,
            examples=told(bench.examples.folder),
            statistics={**self._measured, **{role: told(one.folder) for role, one in bench.measurements.items()}},
            arms=[arm.name for arm in self._plan.arms],
            method=self._plan.leader.name,
            tokens=bench.tokens,
            versions=fingerprint.versions(),
            seeds=self._plan.recipe.training_seeds,
            warnings=bench.progress.warnings,
        )
        self._folder.write_state(state)
        self._folder.write_seconds(bench.seconds)
