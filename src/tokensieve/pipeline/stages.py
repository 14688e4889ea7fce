"""The stages of a run in order; what is done is skipped.

A run folder:

    recipe.yaml                     the resolved recipe
    run.json                        where data and statistics are, seconds and tokens of each stage, versions
    arms/<arm>/scores/              score and decision of every token
    arms/<arm>/selection.json       counts, rule and what they were made from
    arms/<arm>/cleaned/data/        cleaned data, for any trainer; cleaned/jsonl/ the same as JSON lines
    arms/<arm>/cleaned/README.md    its card
    arms/<arm>/training/data/       data with specs, where tokens are chosen or weighed while the model trains
    arms/<arm>/rounds/<t>/          rounds of an arm that selects with the model that it trains (`train.self_evolving`)
    arms/<arm>/model/               adapter or model fine-tuned on it
    arms/<arm>/evaluation.json       with predictions.jsonl, the answers of exact match, and held_out.jsonl, losses
    exports/                        what an arm chose, as other trainers read it (`export`)
    report.html

Folders in ``arms/`` whose method is `imported` are not of the recipe (`imported`).
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from tokensieve.containers import StatisticSpec
from tokensieve.data.prepare import ExampleStore
from tokensieve.data.settings import DEFAULT_MAX_LENGTH
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.evaluate import evaluate_model
from tokensieve.evaluate.held_out import held_out_loss
from tokensieve.measure.measure import Measurement, locate, measure
from tokensieve.methods._base import Method
from tokensieve.methods.self_evolving import SelfEvolving
from tokensieve.methods.toss_pro import TossPro
from tokensieve.models.loading import ModelPool, model_identity, pick_device
from tokensieve.models.settings import ModelSettings
from tokensieve.pipeline.arms import Loader, select_arm, training_method
from tokensieve.pipeline.plan import Arm, Plan, check, check_recipe
from tokensieve.pipeline.recipe import Recipe, dump_recipe, recipe_values, train_settings
from tokensieve.progress import StageProgress
from tokensieve.select.cleaned import data_files, write_subset
from tokensieve.select.streaming import LoadStatistics
from tokensieve.store import fingerprint
from tokensieve.store.atomic import atomic_folder, locked, read_json, write_json, write_text
from tokensieve.train.schedules.refined_reference import Added, refine
from tokensieve.train.schedules.self_evolving import SelfEvolution
from tokensieve.train.settings import WarmUp
from tokensieve.train.trainer import on_steps, train, trained_model

STAGES = ("measure", "select", "train", "evaluate", "report")
_FREE_TO_CHANGE = ("evaluate", "report", "measure", "store")


def run(recipe: Recipe, until: str = "report", progress: StageProgress | None = None) -> Path:
    """Carry out a recipe, or what of it is not done yet.

    Args:
        recipe: the settings.
        until: last stage to carry out, one of `STAGES`.
        progress: where progress is shown.

    Returns:
        The run folder.

    Raises:
        TokensieveError: input that cannot be used; before any model is loaded, where it can be known.
    """
    progress = progress or StageProgress()
    folder = Path(recipe.output)
    plan = check_run(recipe, progress)
    with locked(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "recipe.yaml", dump_recipe(recipe))
        stages = _Stages(plan, folder, progress)
        stages.measure()
        for stage in STAGES[1 : STAGES.index(until) + 1]:
            getattr(stages, stage)()
    return folder


def check_run(recipe: Recipe, progress: StageProgress) -> Plan:
    """Check everything about a run but the weights.

    Raises:
        TokensieveError: the first thing that would make the run fail.
    """
    check_recipe(recipe)  # validate first, so that a typo is reported as a typo
    check_folder(recipe)
    return check(recipe, progress)


def check_folder(recipe: Recipe) -> None:
    """Refuse a folder that belongs to another recipe, and show the difference.

    What is measured on the models, how, and what the page shows may change between calls.
    """
    path = Path(recipe.output) / "recipe.yaml"
    if Path(recipe.output).exists() and not Path(recipe.output).is_dir():
        raise TokensieveError("the output is a file", where=recipe.output, hint="give a folder that is new or empty")
    if not path.is_file():
        if Path(recipe.output).is_dir() and any(Path(recipe.output).iterdir()):
            raise TokensieveError(
                "the output folder is not empty and holds no run", where=recipe.output, hint="give another output"
            )
        return
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    wanted = recipe_values(recipe)
    for values in (found, wanted):
        for name in (*_FREE_TO_CHANGE, "output"):
            values.pop(name, None)
    fingerprint.check_same(
        found, wanted, where=str(path), hint="give another output; statistics are shared through the store"
    )


class _Stages:
    """The stages of one run, with what they hand to each other."""

    def __init__(self, plan: Plan, folder: Path, progress: StageProgress) -> None:
        self.plan, self.recipe, self.folder, self.progress = plan, plan.recipe, folder, progress
        self.store = plan.recipe.store_folder
        self.device = pick_device(plan.recipe.measure.device)
        self.pool = ModelPool(self.device)
        self.models = dict(plan.models)
        self.measurements: dict[str, Measurement] = {}
        state = folder / "run.json"
        noted = read_json(state) if state.is_file() else {}
        self.seconds: dict[str, float] = noted.get("seconds", {})
        self.tokens: dict[str, int] = noted.get("tokens", {})

    def measure(self) -> None:
        """Make the models that are to be made, and measure every role's statistics."""
        refined = {arm.method.refines: arm.method for arm in self.plan.arms if arm.method.refines is not None}
        for role, settings in self.recipe.models.items():
            if settings.warm_up is not None and role in self.plan.needs and role not in refined:
                self.models[role] = self._make(role, settings.warm_up)
        # Refining a model takes the statistics of the others.
        for role in sorted(self.plan.needs, key=lambda role: role in refined):
            if role in refined:
                self.models[role] = self._refine(role, refined[role])
            self.measurements[role] = self._measure(role, self.models[role], self.plan.needs[role])
        self.measurements = {role: self.measurements[role] for role in self.plan.needs}
        self._write_state()

    def select(self) -> None:
        """Score and choose tokens for every arm, and write its cleaned data."""
        kept = None
        for arm in self.plan.arms:
            folder = self._arm(arm.name)
            if arm.method.schedule == "self-evolving":
                self._evolve(arm, kept)
            done = (folder / "selection.json").is_file()
            with self._timed(f"select {arm.name}", done, self.plan.examples.counts.tokens):
                selection = select_arm(self.plan, arm, kept, self.measurements, folder, self.progress)
            kept = kept if kept is not None else selection["kept"]
        self._write_state()

    def train(self) -> None:
        """Fine-tune the base on every arm's cleaned data."""
        if self.recipe.train is None:
            return
        self.pool = ModelPool(self.device)  # frees what measuring held
        for arm in self.plan.arms:
            folder = self._arm(arm.name)
            if (folder / "model" / "training.json").is_file():
                continue
            in_training = self.plan.selects_in_training(arm.method)
            files = data_files(folder / ("training" if in_training else "cleaned"))
            method = training_method(self.plan, arm.method) if in_training else None
            self._train(f"train {arm.name}", files, self.plan.train, folder / "model", method)
        self._write_state()

    def evaluate(self) -> None:
        """Evaluate the base, the reference and every arm's model on the same data."""
        settings = self.recipe.evaluate
        if not (settings.held_out or settings.exact_match or settings.tasks):
            return
        models = {role: self.models[role] for role in ("base", "reference") if role in self.models}
        if self.recipe.train is not None:
            base = self.plan.base
            for arm in self.plan.arms:
                models[arm.name] = trained_model(base, self.plan.train, self._arm(arm.name) / "model")
        for name, model in models.items():
            self._evaluate(name, model)
        self._write_state()

    def report(self) -> None:
        """Write the page."""
        from tokensieve.report.html.page import write_page
        from tokensieve.runs.view import load_run

        write_page(load_run(self.folder), self.folder / "report.html", self.recipe.report.examples)

    def _measure(
        self, role: str, model: ModelSettings, specs: Sequence[StatisticSpec], description: str | None = None
    ) -> Measurement:
        """Measure a role's specs over the pool, as far as they are missing."""
        examples, description = self.plan.examples, description or f"measure {role}"
        done = locate(examples, model, self.store).complete(specs)
        with (
            self._timed(description, done, examples.counts.tokens),
            self.progress.stage(description, examples.counts.tokens, "tokens") as advance,
        ):
            return measure(examples, model, specs, self.recipe.measure, self.store, self.pool, advance)

    def _make(self, role: str, warm_up: WarmUp, rounds: Sequence[Added] = ()) -> ModelSettings:
        """Fine-tune the base on a warm-up subset, once for the same base, subset and settings.

        Args:
            role: for the description.
            warm_up: the subset.
            rounds: examples of the pool that join it, round by round.
        """
        examples, pool = self.plan.warm_ups.get(role, self.plan.examples), self.plan.examples
        settings = train_settings(self.plan.train, warm_up.train)
        identity = {
            "base": model_identity(self.plan.base),
            "examples": examples.fingerprint,
            "rows": warm_up.rows,
            "pick": warm_up.pick,
            "train": dataclasses.asdict(settings),
            "seed": self.recipe.seed,
        }
        added = sorted(example for one in rounds for example in one.examples)
        if added:
            identity["added"] = {"examples": pool.fingerprint, "numbers": added}
        folder = self.store / "models" / fingerprint.of_value(identity)[:16]
        if not (folder / "manifest.json").is_file():
            with locked(folder):
                parts = {"warm-up": (examples, _pick(examples, warm_up, self.recipe.seed))}
                if added:
                    parts["added"] = (pool, np.isin(np.arange(pool.counts.examples), added))
                    write_json(folder / "added.json", {"rounds": [dataclasses.asdict(one) for one in rounds]})
                for name, (source, picked) in parts.items():
                    with atomic_folder(folder / name) as subset:
                        write_subset(source, picked, subset)
                files = [path for name in parts for path in data_files(folder / name)]
                description = f"make {role}, round {len(rounds)}" if rounds else f"make {role}"
                self._train(description, files, settings, folder / "model")
                write_json(folder / "manifest.json", {"identity": identity, "versions": fingerprint.versions()})
        return trained_model(self.plan.base, settings, folder / "model")

    def _refine(self, role: str, method: Method) -> ModelSettings:
        """Make the model of a role, and make it again in each round with what it found in the pool."""
        warm_up = self.recipe.models[role].warm_up  # type: ignore[index]
        assert isinstance(method, TossPro)
        assert warm_up is not None
        specs = [spec for _, source, spec in self.plan.reads(method) if source == role]

        def make(rounds: Sequence[Added]) -> ModelSettings:
            self.pool = ModelPool(self.device)  # frees what measuring held
            return self._make(role, warm_up, rounds)

        def load(done: int, model: ModelSettings) -> LoadStatistics:
            found = self._measure(role, model, specs, f"measure {role}, round {done + 1}")
            return Loader(self.plan, method, {**self.measurements, role: found}).read

        return refine(method, self.plan.examples.shards, make, load)

    def _evolve(self, arm: Arm, kept: int | None) -> None:
        """Carry out the rounds of an arm that selects with the model that it trains."""
        plan, method = self.plan, arm.method
        assert isinstance(method, SelfEvolving)
        self.pool = ModelPool(self.device)  # frees what measuring held
        budget, held_out = self.recipe.measure.batch_tokens(self.device.type), plan.held_out

        def stage(description: str, total: int | None, unit: str) -> Any:
            return self.progress.stage(f"{arm.name}: {description}", total, unit)

        def held_out_of(model: Any) -> float:
            assert held_out is not None
            with stage("held-out loss", held_out.counts.tokens, "tokens") as advance:
                return held_out_loss(model, held_out, budget, advance).loss

        folder = self._arm(arm.name)
        with self._timed(f"train {arm.name}", (folder / "model" / "training.json").is_file()):
            SelfEvolution(
                method,
                plan.rule(arm, kept),
                plan.examples,
                Loader(plan, method, self.measurements).read,
                plan.base,
                plan.encoder.tokenizer,
                plan.train,
                self.recipe.data.max_length or DEFAULT_MAX_LENGTH,
                self.recipe.seed,
                self.device,
                budget,
                stage,
                held_out_of if held_out is not None else None,
            ).run(folder)

    def _train(
        self,
        description: str,
        files: list[Path],
        settings: Any,
        output: Path,
        method: Method | None = None,
    ) -> None:
        with self._timed(description, False), self.progress.stage(description, None, "steps") as advance:
            train(
                self.plan.base,
                files,
                self.plan.encoder.tokenizer,
                settings,
                output,
                max_length=self.recipe.data.max_length or DEFAULT_MAX_LENGTH,
                seed=self.recipe.seed,
                device=self.device,
                on_step=on_steps(advance),
                method=method,
                turn_end_ids=self.plan.encoder.turn_end_ids if self.recipe.select.keep_turn_end else (),
            )
        # Counted by the trainer: every epoch, prompts and dropped tokens included.
        if (tokens := read_json(output / "training.json")["metrics"].get("num_tokens")) is not None:
            self.tokens[description] = int(tokens)

    def _evaluate(self, name: str, model: ModelSettings) -> None:
        path = self._arm(name) / "evaluation.json"
        held_out, questions = self.plan.held_out, fingerprint.jsonable([vars(one) for one in self.plan.questions])
        identity = {
            "settings": fingerprint.jsonable(dataclasses.asdict(self.recipe.evaluate)),
            "model": model_identity(model),
            "data": {
                "held_out": held_out.fingerprint if held_out else None,
                "questions": fingerprint.of_value(questions) if questions else None,
            },
        }
        if path.is_file() and {key: read_json(path).get(key) for key in identity} == identity:
            return

        def stage(description: str, total: int | None, unit: str) -> Any:
            return self.progress.stage(f"evaluate {name}: {description}", total, unit)

        with self._timed(f"evaluate {name}", False), self.pool.use(model) as loaded:
            plan, settings = self.plan, self.recipe.evaluate
            budget = self.recipe.measure.batch_tokens(self.pool.device.type)
            results, details = evaluate_model(
                loaded, plan.encoder, settings, plan.held_out, plan.questions, budget, stage
            )
        for what, rows in details.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_text(self._arm(name) / f"{what}.jsonl", lines)
        write_json(path, {**identity, **results})

    def _arm(self, name: str) -> Path:
        return self.folder / "arms" / name

    @contextmanager
    def _timed(self, description: str, skipped: bool, tokens: int | None = None) -> Iterator[None]:
        """Note the seconds of a stage, and the tokens that went through it where they are given."""
        start = time.perf_counter()
        yield
        if not skipped:
            self.seconds[description] = round(time.perf_counter() - start, 2)
            if tokens is not None:
                self.tokens[description] = tokens

    def _write_state(self) -> None:
        state = {
            "name": self.folder.name,
            "examples": str(self.plan.examples.folder),
            "statistics": {role: str(m.folder) for role, m in self.measurements.items()},
            "arms": [arm.name for arm in self.plan.arms],
            "method": self.plan.arms[0].name,
            "seconds": self.seconds,
            "tokens": self.tokens,
            "versions": fingerprint.versions(),
        }
        write_json(self.folder / "run.json", state)


def _pick(examples: ExampleStore, warm_up: WarmUp, seed: int) -> NDArray[np.bool_]:
    """Return bool ``[examples]``, the warm-up subset."""
    count = examples.counts.examples
    rows = count if warm_up.rows is None else warm_up.rows
    if not 0 < rows <= count:
        raise TokensieveError(
            f"a warm-up of {rows} rows from {count} examples",
            where="recipe: warm_up.rows",
            hint=f"warm_up.rows: 1 to {count}",
        )
    picked = np.zeros(count, dtype=bool)
    if warm_up.pick == "first":
        picked[:rows] = True
    else:
        picked[np.random.default_rng(seed).choice(count, rows, replace=False)] = True
    return picked
