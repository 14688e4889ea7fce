"""`tokensieve search`: probes of every candidate within a budget, and an answer that held-out rows confirm.

A probe is a run of the recipe with one method and fraction, beside `full` and `random`, in a folder of its own. The
store shares tokenised data, statistics, models and evaluations between them. The search itself keeps only its plan: the
rest is read back from the probes, so that an interrupted search goes on to the same table.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tokensieve.containers import Int64
from tokensieve.data.datasets_private import offline
from tokensieve.data.repeats import shared
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.settings import EvaluateSettings
from tokensieve.pipeline.candidates import candidates, for_one_method, is_automatic, searched_methods
from tokensieve.pipeline.inputs import Inputs, data_sets, prepare_inputs
from tokensieve.pipeline.leaks import HELD_OUT
from tokensieve.pipeline.plan import make_plan
from tokensieve.pipeline.recipe import Recipe, RoleSettings, recipe_values
from tokensieve.pipeline.search_rows import SearchRows, search_rows
from tokensieve.pipeline.stages import run as run_recipe
from tokensieve.pipeline.trainings import planned_trainings
from tokensieve.progress import StageProgress
from tokensieve.runs.folder import RunFolder
from tokensieve.runs.outcomes import MEASURES, Measure, Outcomes, read_outcomes
from tokensieve.search.halving import FEWEST_STEPS, ONE_A_PROBE, Candidate, Price, SearchPlan, plan_search
from tokensieve.search.report import SearchReport, plan_of
from tokensieve.search.search import Entry, Probe, run_search
from tokensieve.store import fingerprint
from tokensieve.store.atomic import locked, read_object, write_json
from tokensieve.train.record import last_step, read_record

_AGAIN = "delete this folder and search again: trained models are found in the store"


def run(recipe: Recipe, until: str = "report", progress: StageProgress | bool = True) -> Path:
    """Carry out a recipe as `stages.run` does; with ``fraction: auto``, search for the fraction first.

    Where the search finds that no fraction pays, the method keeps the best fraction that was tried, with a warning: the
    run then shows both the method and `full`, which is to be used.

    Args:
        recipe: the settings.
        until: last stage to carry out, one of `stages.STAGES`.
        progress: where progress and warnings are shown; True for the error stream, False for nowhere.

    Returns:
        The run folder.

    Raises:
        TokensieveError: input that cannot be used.
    """
    if isinstance(progress, bool):
        progress = StageProgress(shown=progress)
    if not is_automatic(recipe):
        return run_recipe(recipe, until, progress)
    report = search(for_one_method(recipe), progress)
    assert report.method is not None
    found = dataclasses.replace(recipe, method=report.method)
    if report.result is not None and report.result.recommended:
        progress.note(f"search: {report.sentence}")
        return run_recipe(found, until, progress)
    kept = f"the method keeps fraction {report.method['fraction']:g}, the best that was tried"
    return run_recipe(found, until, progress, [f"search: {report.sentence} Here {kept}."])


def search(recipe: Recipe, progress: StageProgress) -> SearchReport:
    """Find the method and fraction that pay, or that none does.

    Args:
        recipe: the settings; its `method` and `controls` do not count, `search` says what is tried.
        progress: where progress is shown, and each line of the table as it comes.

    Raises:
        TokensieveError: input that cannot be used, before any model is loaded; a budget in minutes that does not pay,
            after the first training, which tells how long one takes.
    """
    work = prepare_search(recipe, progress)
    with locked(work.folder):
        report = work.planned(progress)
        table = _Table(work, report, progress)
        result = run_search(
            report.plan,
            recipe.seed,
            work.rows.confirming,
            work.measure.lower_is_better,
            table.probe,
            table.add,
        )
        report = dataclasses.replace(table.report, result=result)
        write_json(work.file, report.to_json())
    return report


def search_lines(recipe: Recipe, progress: StageProgress) -> list[str]:
    """Check a recipe, and return what a search would do, line by line; errors as for `prepare_search`."""
    with offline():
        work = prepare_search(recipe, progress)
    probes = recipe.search.probes
    plan = work.plan_for(ONE_A_PROBE, np.inf if probes is None else probes)
    report = work.report_of(plan)
    lines = [f"candidates: {', '.join(one.name for one in plan.candidates)}", *report.plan_lines, *report.notes]
    if probes is None:
        lines.append(f"at most that, as far as {_minutes(recipe.search.seconds)} pay for it")
    return [*lines, "ok: everything but the weights was checked"]


def prepare_search(recipe: Recipe, progress: StageProgress) -> SearchWork:
    """Check everything that can be known before a model is loaded.

    Raises:
        TokensieveError: the first thing that would make the search fail.
    """
    methods = searched_methods(recipe)
    measure = _measure(recipe)
    if recipe.train is None:
        raise TokensieveError("a search trains, and train is null", where="recipe: train", hint="leave train out")
    if recipe.select.threshold is not None:
        raise TokensieveError(
            "a threshold decides in place of every fraction",
            where="recipe: select.threshold",
            hint="leave it out, to search for a fraction",
        )
    first, *others = ({**choice, "fraction": recipe.search.fractions[0]} for choice in methods.values())
    everything = dataclasses.replace(
        _measured_alone(recipe),
        output=str(RunFolder(Path(recipe.output)).search / "statistics"),
        method=first,
        controls=tuple(others),
    )
    inputs = prepare_inputs(make_plan(everything), progress)
    _refuse_overlap(inputs)
    rows = search_rows(inputs, recipe.search.measure)
    work = SearchWork(recipe, everything, inputs, methods, measure, rows)
    if recipe.search.probes is not None:
        work.plan_for(ONE_A_PROBE, recipe.search.probes)
    return work


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
        return RunFolder(Path(self.recipe.output)).search

    @property
    def file(self) -> Path:
        """The table, with the plan and the answer."""
        return self.folder / "search.json"

    @property
    def candidates(self) -> list[Candidate]:
        """All that could be tried."""
        return candidates(self.methods, self.recipe.search.fractions)

    @cached_property
    def steps(self) -> int:
        """Optimizer steps of the training that the recipe asks for."""
        return next(one for one in planned_trainings(self.inputs) if one.section == "train").steps[0]

    @property
    def made_from(self) -> dict[str, Any]:
        """What the results depend on, as JSON values."""
        left_out = ("output", "store", "method", "controls", "report", "measure", "seeds")
        values = recipe_values(_measured_alone(self.recipe))
        values = {key: value for key, value in values.items() if key not in left_out}
        return fingerprint.jsonable(
            {
                "recipe": {**values, "seed": self.recipe.seed},
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
        settings = self.recipe.search
        in_words = _minutes if price.step else _probes
        return plan_search(self.candidates, settings.rungs, settings.seeds, self.steps, price, budget, in_words)

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
        write_json(self.file, report.to_json())
        return report

    def probe_recipe(self, folder: Path, method: Mapping[str, Any], steps: int, seeds: Sequence[int]) -> Recipe:
        """Return the recipe of a probe, without controls."""
        assert self.recipe.train is not None
        train = self.recipe.train
        return dataclasses.replace(
            _measured_alone(self.recipe),
            output=str(folder),
            method=dict(method),
            controls=(),
            models={role: _as_it_is_made(settings, self.recipe) for role, settings in self.recipe.models.items()},
            seed=seeds[0],
            seeds=tuple(seeds),
            select=dataclasses.replace(self.recipe.select, jsonl=False),
            train=dataclasses.replace(train, arguments={**train.arguments, "max_steps": steps}),
        )

    def _found_plan(self) -> SearchPlan:
        found = read_object(self.file, "", _AGAIN)
        fingerprint.check_same(
            found.get("made_from"), self.made_from, where=str(self.file), hint=f"give another output, or {_AGAIN}"
        )
        try:
            return plan_of(found["plan"])
        except (KeyError, TypeError) as error:
            raise TokensieveError(
                f"the plan of the search is garbled: {type(error).__name__}: {error}", where=str(self.file), hint=_AGAIN
            ) from error

    def _price(self, progress: StageProgress) -> Price:
        """Return what a training costs in seconds, by a short one with every token."""
        steps = min(self.steps, FEWEST_STEPS)
        folder = RunFolder(self.folder / "timing")
        start = time.perf_counter()
        with progress.stage("search: how long a training takes", 1, "trainings") as advance:
            recipe = self.probe_recipe(folder.path, {"name": "full"}, steps, [self.recipe.seed])
            run_recipe(recipe, "evaluate", progress=False)
            advance(1)
        seconds = time.perf_counter() - start
        record = read_record(folder.arm("full").model) or {}
        trained = float(record["metrics"]["train_runtime"])
        return Price(max(0.0, seconds - trained), trained / max(1, last_step(record)))


class _Table:
    """The table of a search as it fills, and what fills it.

    Args:
        work: the search.
        report: its plan.
        progress: where each line is shown.
    """

    def __init__(self, work: SearchWork, report: SearchReport, progress: StageProgress) -> None:
        self._work, self._progress = work, progress
        self.report = dataclasses.replace(report, entries=())

    def probe(self, label: str, candidate: Candidate, steps: int, seeds: Sequence[int], /) -> Probe:
        """Train and evaluate a candidate with its controls, as far as that is not done."""
        folder = RunFolder(self._work.folder / "probes" / label.replace(" ", "-") / candidate.name)
        if (found := self._read(folder, candidate, seeds)) is not None:
            return found
        # In a rung all methods share one random control at a fraction; what is confirmed has one of exactly its size.
        exact = label == "confirmation"
        random = {"name": "random"} if exact else {"name": "random", "fraction": candidate.fraction}
        method = {**self._work.methods[candidate.method], "fraction": candidate.fraction}
        recipe = self._work.probe_recipe(folder.path, method, steps, seeds)
        recipe = dataclasses.replace(recipe, controls=({"name": "full"}, random))
        try:
            run_recipe(recipe, "evaluate", progress=False)
        except TokensieveError as error:
            raise TokensieveError(
                error.what, where=f"{label}, {candidate.name}; {error.where}".removesuffix("; "), hint=error.hint
            ) from error
        found = self._read(folder, candidate, seeds)
        assert found is not None
        return found

    def add(self, entry: Entry) -> None:
        """Add a line to the table, write it and show it."""
        self.report = dataclasses.replace(self.report, entries=(*self.report.entries, entry))
        write_json(self._work.file, self.report.to_json())
        self._progress.note(
            f"{entry.stage}, {entry.candidate.name}: {self.report.measure} {entry.own:.4f}, full {entry.full:.4f}, "
            f"random {entry.random:.4f} ({entry.steps:,} steps, {len(entry.seeds)} seed"
            f"{'s' if len(entry.seeds) > 1 else ''})"
        )

    def _read(self, folder: RunFolder, candidate: Candidate, seeds: Sequence[int]) -> Probe | None:
        """Return the results of a probe; None where it is not finished."""
        name = str(self._work.methods[candidate.method]["name"])
        arms: list[Outcomes] = []
        for arm in (name, "full", "random"):
            found = read_outcomes(folder.arm(arm), self._work.recipe.search.measure, seeds[0])
            if found is None or set(found.seeds) != set(seeds):
                return None
            arms.append(found)
        own, full, random = (one.sums for one in arms)
        counts: Int64 = arms[0].counts
        if len(counts) != len(self._work.rows.confirming) or len({one.identity for one in arms}) > 1:
            raise TokensieveError(
                "a probe was evaluated on other rows than those of the search", where=str(folder.path), hint=_AGAIN
            )
        return Probe(own, full, random, counts)


def _as_it_is_made(settings: RoleSettings, recipe: Recipe) -> RoleSettings:
    """Return a model whose warm-up, if it has one, does not change with the steps and seeds of a probe."""
    warm_up = settings.warm_up
    if warm_up is None or recipe.train is None:
        return settings
    own = {"max_steps": recipe.train.arguments.get("max_steps", -1), **warm_up.train}
    seed = recipe.seed if warm_up.seed is None else warm_up.seed
    return dataclasses.replace(settings, warm_up=dataclasses.replace(warm_up, train=own, seed=seed))


def _measured_alone(recipe: Recipe) -> Recipe:
    """Return the recipe with the one measure that decides, without what else takes time."""
    measure, evaluate = recipe.search.measure, recipe.evaluate
    alone: dict[str, Any] = {measure: getattr(evaluate, measure), "batch_size": evaluate.batch_size}
    return dataclasses.replace(recipe, store=str(recipe.store_folder), evaluate=EvaluateSettings(**alone))


def _measure(recipe: Recipe) -> Measure:
    name, evaluate = recipe.search.measure, recipe.evaluate
    configured = {"held_out": bool(evaluate.held_out.files), "exact_match": evaluate.exact_match is not None}
    if name not in configured:
        raise TokensieveError(
            f"a search cannot decide by '{name}'",
            where="recipe: search.measure",
            hint=f"one of: {', '.join(configured)}",
        )
    if not configured[name]:
        ready = [other for other, there in configured.items() if there]
        raise TokensieveError(
            f"a search decides by {name}, and the recipe has no evaluate.{name}",
            where=f"recipe: evaluate.{name}",
            hint=f"give rows that are not trained on: evaluate.{name}: [FILE]"
            + (f"; or search.measure: {ready[0]}" if ready else ""),
        )
    return MEASURES[name]


def _refuse_overlap(inputs: Inputs) -> None:
    """Refuse held-out rows that are trained on: they would reward whatever learns them by heart."""
    if inputs.held_out is None:
        return
    tested = inputs.held_out.hashed(data_sets(inputs.plan.recipe)[HELD_OUT])
    trained = {"data": inputs.examples, **{f"models.{role}.warm_up": one for role, one in inputs.warm_ups.items()}}
    for key, examples in trained.items():
        if len(both := shared(tested.hashes, examples.hashes)):
            raise TokensieveError(
                f"{len(both):,} of {len(tested.hashes):,} held-out examples are in {key}.files too, token by token "
                f"({tested.places(both)})",
                where="recipe: evaluate.held_out",
                hint="leave them out of one of both",
            )


def _minutes(seconds: float) -> str:
    return f"{np.ceil(seconds / 6) / 10:g} minutes"


def _probes(count: float) -> str:
    return f"{count:g} probes"
