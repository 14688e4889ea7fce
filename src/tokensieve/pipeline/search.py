"""`tokensieve search`: probes of every candidate within a budget, and an answer that held-out rows confirm.

A probe is a run of the recipe with one method and fraction, beside `full` and `random`, in a folder of its own. The
store shares tokenised data, statistics, models and evaluations between them. The search itself keeps only its plan: the
rest is read back from the probes, so that an interrupted search goes on to the same table.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from tokensieve.data.datasets_private import offline
from tokensieve.data.encode import hash_examples
from tokensieve.data.repeats import shared
from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.measure.share import ALL, Share
from tokensieve.pipeline.candidates import for_one_method, fraction_of, is_automatic, searched_methods
from tokensieve.pipeline.disk import search_disk_line
from tokensieve.pipeline.inputs import Inputs, data_sets, prepare_inputs
from tokensieve.pipeline.judged import measures_set_up
from tokensieve.pipeline.leaks import EVALUATED, HELD_OUT
from tokensieve.pipeline.plan import make_plan
from tokensieve.pipeline.probes import Table
from tokensieve.pipeline.recipe import Recipe
from tokensieve.pipeline.search_rows import search_rows
from tokensieve.pipeline.search_work import SearchWork, in_minutes, measured_alone
from tokensieve.pipeline.stages import run as run_recipe
from tokensieve.places import told
from tokensieve.progress import StageProgress
from tokensieve.runs.folder import RunFolder
from tokensieve.runs.outcomes import MEASURES, Measure
from tokensieve.search.halving import ONE_A_PROBE
from tokensieve.search.report import SearchReport
from tokensieve.search.search import run_search
from tokensieve.store.atomic import locked, write_json


def run(recipe: Recipe, until: str = "report", progress: StageProgress | bool = True, share: Share = ALL) -> Path:
    """Carry out a recipe as `stages.run` does; with ``fraction: auto``, search for the fraction first.

    Where the search finds that no fraction pays, the method keeps the best fraction that was tried, with a warning: the
    run then shows both the method and `full`, which is to be used.

    Args:
        recipe: the settings.
        until: last stage to carry out, one of `stages.STAGES`.
        progress: where progress and warnings are shown; True for the error stream, False for nowhere.
        share: which shards are measured here, where several processes measure.

    Returns:
        The run folder.

    Raises:
        TokensieveError: input that cannot be used.
    """
    if isinstance(progress, bool):
        progress = StageProgress(shown=progress)
    if not is_automatic(recipe):
        return run_recipe(recipe, until, progress, share=share)
    if not share.is_all:
        raise TokensieveError(
            "a fraction is searched for in one process",
            where="recipe: method.fraction",
            hint="give a fraction, or run the command once",
        )
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
        table = Table(work, report, progress)
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
    disk = search_disk_line(work.inputs.plan, plan, work.inputs.examples)
    lines = [f"candidates: {', '.join(one.name for one in plan.candidates)}", *report.plan_lines, disk, *report.notes]
    if probes is None:
        lines.append(f"at most that, as far as {in_minutes(recipe.search.seconds)} pay for it")
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
    first, *others = ({**choice, **fraction_of(choice, recipe.search.fractions[0])} for choice in methods.values())
    everything = dataclasses.replace(
        measured_alone(recipe),
        output=told(RunFolder(recipe.output_folder).search / "statistics"),
        method=first,
        controls=tuple(others),
    )
    inputs = prepare_inputs(make_plan(everything), progress, "measure")  # the probes are what is trained
    _refuse_overlap(inputs)
    rows = search_rows(inputs, recipe.search.measure)
    work = SearchWork(recipe, everything, inputs, methods, measure, rows)
    if recipe.search.probes is not None:
        work.check_disk(work.plan_for(ONE_A_PROBE, recipe.search.probes))
    return work


def _measure(recipe: Recipe) -> Measure:
    name, evaluate = recipe.search.measure, recipe.evaluate
    if name not in MEASURES:
        raise TokensieveError(
            f"a search cannot decide by '{name}'{did_you_mean(name, MEASURES)}",
            where="recipe: search.measure",
            hint=f"one of: {', '.join(MEASURES)}",
        )
    ready = measures_set_up(evaluate)
    if name not in ready:
        section = MEASURES[name].section(name)
        raise TokensieveError(
            f"a search decides by {name}, and the recipe has no evaluate.{section}",
            where=f"recipe: evaluate.{section}",
            hint=f"give rows that are not trained on: evaluate.{section}: [FILE]"
            + (f"; or search.measure: {ready[0]}" if ready else ""),
        )
    return MEASURES[name]


def _refuse_overlap(inputs: Inputs) -> None:
    """Refuse rows that a search decides by and trains on: they would reward whatever learns them by heart.

    A run warns of them, since its user reads the warning beside the result; a search would decide by them.
    """
    trained = {"data": inputs.examples, **{f"models.{role}.warm_up": one for role, one in inputs.warm_ups.items()}}
    for key, settings in data_sets(inputs.plan.recipe).items():
        if key not in EVALUATED:
            continue
        held_out = inputs.held_out if key == HELD_OUT else None
        tested = held_out.hashed(settings) if held_out is not None else hash_examples(settings, inputs.encoder)
        for name, examples in trained.items():
            if len(both := shared(tested.hashes, examples.hashes)):
                raise TokensieveError(
                    f"{len(both):,} of {len(tested.hashes):,} {EVALUATED[key]} are in {name}.files too, token by token "
                    f"({tested.places(both)})",
                    where=f"recipe: {key}",
                    hint="leave them out of one of both",
                )
