"""A search that was checked: what it depends on, its plan, and the recipe of each probe."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tokensieve.errors import TokensieveError
from tokensieve.evaluate.settings import EvaluateSettings
from tokensieve.pipeline.candidates import candidates
from tokensieve.pipeline.disk import check_search_disk
from tokensieve.pipeline.inputs import Inputs
from tokensieve.pipeline.recipe import Recipe, RoleSettings, recipe_values
from tokensieve.pipeline.same_recipe import without_license
from tokensieve.pipeline.search_rows import SearchRows
from tokensieve.pipeline.stages import run as run_recipe
from tokensieve.pipeline.trainings import planned_trainings
from tokensieve.places import told
from tokensieve.progress import StageProgress
from tokensieve.runs.folder import RunFolder
from tokensieve.runs.outcomes import MEASURES, Measure
from tokensieve.search.halving import FEWEST_STEPS, ONE_A_PROBE, Candidate, Price, SearchPlan, plan_search
from tokensieve.search.report import SearchReport, plan_of
from tokensieve.store import fingerprint
from tokensieve.store.atomic import read_object, remove, write_json
from tokensieve.train.record import TIMES, last_step, read_record, read_times

TRUE_MASK = "marked"
"""The method that keeps what is not marked: the ceiling, and never a candidate."""
AGAIN = "delete this folder and search again: trained models are found in the store"


@dataclass(frozen=True, eq=False)
class SearchWork:
    """A search that was checked.

    Attributes:
        recipe: the settings.
        everything: a recipe with every method, which measures all statistics in one pass of each model.
        inputs: data and models.
        methods: the methods by label, without fractions.
        measure: what decides.
        rows: the held-out rows, parted.
    """

    recipe: Recipe
    everything: Recipe
    inputs: Inputs
    methods: Mapping[str, Mapping[str, Any]]
    measure: Measure
    rows: SearchRows

    @property
    def folder(self) -> Path:
        """Holds the table and the probes."""
        return RunFolder(self.recipe.output_folder).search

    @property
    def file(self) -> Path:
        """The table, with the plan and the answer."""
        return self.folder / "search.json"

    @property
    def candidates(self) -> list[Candidate]:
        """All that could be tried."""
        return candidates(self.methods, self.recipe.search.fractions)

    @property
    def marked(self) -> tuple[int, int] | None:
        """Rows of the data that are marked, and all of them; None without marks."""
        counts = self.inputs.examples.counts
        return (counts.marked["rows"], counts.examples) if self.true_mask is not None else None

    @property
    def true_mask(self) -> Candidate | None:
        """What the marks of the data leave, with its share of the tokens; None without marks."""
        counts = self.inputs.examples.counts
        left = 1 - counts.marked.get("tokens", 0) / counts.trainable_tokens
        return Candidate(TRUE_MASK, round(left, 3)) if 0 < left < 1 else None

    @cached_property
    def steps(self) -> int:
        """Optimizer steps of the training that the recipe asks for."""
        return next(one for one in planned_trainings(self.inputs) if one.section == "train").steps[0]

    @property
    def made_from(self) -> dict[str, Any]:
        """What the results depend on, as JSON values."""
        left_out = ("output", "store", "method", "controls", "report", "engine", "measure", "seeds")
        values = recipe_values(measured_alone(self.recipe))
        values = {key: value for key, value in values.items() if key not in left_out}
        return fingerprint.jsonable(
            {
                "recipe": {**values, "data": without_license(values["data"]), "seed": self.recipe.seed},
                "methods": self.methods,
                "data": self.inputs.examples.fingerprint,
                "rows": self.rows.fingerprint,
            }
        )

    def plan_for(self, price: Price, budget: float) -> SearchPlan:
        """Return what is trained within a budget.

        Raises:
            TokensieveError: a budget that does not pay for two candidates.
        """
        settings, words = self.recipe.search, in_minutes if price.step else _probes
        rungs, seeds, mask = settings.rungs, settings.seeds, self.true_mask
        return plan_search(self.candidates, rungs, seeds, self.steps, price, budget, words, mask)

    def check_disk(self, plan: SearchPlan) -> None:
        """Refuse to start a search that the disk cannot hold; one that has begun goes on in the room that it has.

        Raises:
            TokensieveError: less is free than the search needs.
        """
        if not self.file.is_file():
            check_search_disk(self.inputs.plan, plan, self.inputs.examples)

    def report_of(self, plan: SearchPlan) -> SearchReport:
        """Return a report without results."""
        return SearchReport(
            self.made_from,
            plan,
            tuple(self.candidates[len(plan.candidates) :]),
            self.measure.title,
            self.measure.unit,
            int((~self.rows.confirming).sum()),
            int(self.rows.confirming.sum()),
            self.steps,
            self.methods,
            self.marked,
        )

    def planned(self, progress: StageProgress) -> SearchReport:
        """Return a report with the plan: that of an interrupted search, or one for the budget, with all measured.

        Raises:
            TokensieveError: the folder has another search, or the budget does not pay.
        """
        if self.file.is_file():
            return self.report_of(self._found_plan())
        start = time.perf_counter()
        run_recipe(self.everything, "measure", progress)
        probes = self.recipe.search.probes
        if probes is not None:
            report = self.report_of(self.plan_for(ONE_A_PROBE, probes))
        else:
            price = self._price(progress)
            left = self.recipe.search.seconds - (time.perf_counter() - start)
            report = self.report_of(self.plan_for(price, max(0.0, left)))
            self.check_disk(report.plan)
        write_json(self.file, report.to_json())
        return report

    def choice(self, candidate: Candidate) -> dict[str, Any]:
        """Return the method of a recipe that a candidate stands for."""
        if candidate.method == TRUE_MASK:
            return {"name": TRUE_MASK}
        fraction = {} if candidate.fraction is None else {"fraction": candidate.fraction}
        return {**self.methods[candidate.method], **fraction}

    def probe_recipe(self, folder: Path, method: Mapping[str, Any], steps: int, seeds: Sequence[int]) -> Recipe:
        """Return the recipe of a probe, without controls."""
        assert self.recipe.train is not None
        train = self.recipe.train
        return dataclasses.replace(
            measured_alone(self.recipe),
            output=told(folder),
            method=dict(method),
            controls=(),
            models={role: _as_it_is_made(settings, self.recipe) for role, settings in self.recipe.models.items()},
            seed=seeds[0],
            seeds=tuple(seeds),
            select=dataclasses.replace(self.recipe.select, jsonl=False),
            train=dataclasses.replace(train, arguments={**train.arguments, "max_steps": steps}),
        )

    def _found_plan(self) -> SearchPlan:
        found = read_object(self.file, "", AGAIN)
        fingerprint.check_same(
            found.get("made_from"), self.made_from, where=str(self.file), hint=f"give another output, or {AGAIN}"
        )
        try:
            return plan_of(found["plan"])
        except (KeyError, TypeError) as error:
            raise TokensieveError(
                f"the plan of the search is garbled: {type(error).__name__}: {error}", where=str(self.file), hint=AGAIN
            ) from error

    def _price(self, progress: StageProgress) -> Price:
        """Return what a training costs in seconds, by a short one with every token.

        Its seed is drawn, so that the store has neither its model nor its evaluation: finding them takes no time.
        """
        steps, seed = min(self.steps, FEWEST_STEPS), secrets.randbelow(2**32)
        folder = RunFolder(self.folder / "timing")
        remove(folder.path)  # of a search that was interrupted before it had a plan
        start = time.perf_counter()
        with progress.stage("search: how long a training takes", 1, "trainings") as advance:
            recipe = self.probe_recipe(folder.path, {"name": "full"}, steps, [seed])
            run_recipe(recipe, "evaluate", progress=False)
            advance(1)
        seconds = time.perf_counter() - start
        model = folder.arm("full").model
        trained = read_times(model).get("train_runtime")
        if trained is None:
            raise TokensieveError("the time of the training is missing", where=str(model / TIMES), hint=AGAIN)
        return Price(max(0.0, seconds - trained), trained / max(1, last_step(read_record(model) or {})))


def measured_alone(recipe: Recipe) -> Recipe:
    """Return the recipe with the one measure that decides, without what else takes time."""
    evaluate = recipe.evaluate
    section = MEASURES[recipe.search.measure].section(recipe.search.measure)
    alone: dict[str, Any] = {section: getattr(evaluate, section), "batch_size": evaluate.batch_size}
    if section == "unwanted":  # whose texts follow held-out prompts
        alone["held_out"] = evaluate.held_out
    return dataclasses.replace(recipe, store=told(recipe.store_folder), evaluate=EvaluateSettings(**alone))


def _as_it_is_made(settings: RoleSettings, recipe: Recipe) -> RoleSettings:
    """Return a model whose warm-up, if it has one, does not change with the steps and seeds of a probe."""
    warm_up = settings.warm_up
    if warm_up is None or recipe.train is None:
        return settings
    own = {"max_steps": recipe.train.arguments.get("max_steps", -1), **warm_up.train}
    seed = recipe.seed if warm_up.seed is None else warm_up.seed
    return dataclasses.replace(settings, warm_up=dataclasses.replace(warm_up, train=own, seed=seed))


def in_minutes(seconds: float) -> str:
    """Return seconds in words, rounded up to a tenth of a minute."""
    return f"{np.ceil(seconds / 6) / 10:g} minutes"


def _probes(count: float) -> str:
    return f"{count:g} probes"
