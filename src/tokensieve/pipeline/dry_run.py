"""`tokensieve run --dry-run`: what a run would do, checked as far as this machine allows.

Nothing is fetched and no weights are read. A model or data set that is not on this machine is named, with the checks
that were left out for it; what a recipe says by itself is checked in any case.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from tokensieve.data.bad_rows import BadRows
from tokensieve.data.counts import Counts
from tokensieve.data.datasets_private import offline
from tokensieve.data.encode import converted_rows
from tokensieve.data.settings import DataSettings
from tokensieve.data.sources import sources_elsewhere
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.settings import EvaluateSettings
from tokensieve.models.loading import check_model, is_here
from tokensieve.pipeline.candidates import is_automatic
from tokensieve.pipeline.inputs import (
    Inputs,
    check_adapters,
    data_sets,
    prepare_inputs,
    recipe_encoder,
    with_max_length,
)
from tokensieve.pipeline.plan import Plan, base_model, make_plan, role_model
from tokensieve.pipeline.recipe import Recipe, RoleSettings
from tokensieve.pipeline.reward import PREFERENCES, preference_data
from tokensieve.pipeline.same_recipe import check_folder
from tokensieve.pipeline.trainings import planned_trainings
from tokensieve.progress import StageProgress

_OF_MODEL = "its context against data.max_length, its embedding against the token ids, its tokenizer"


def dry_run(recipe: Recipe, progress: StageProgress) -> list[str]:
    """Check a recipe and return what it would do, line by line.

    With every model and data set on this machine it makes all the checks of a run before the weights, which tokenise
    the data into the store.

    Args:
        recipe: the settings.
        progress: where progress and warnings are shown.

    Raises:
        TokensieveError: the first thing that would make the run fail.
    """
    lines = []
    if is_automatic(recipe):
        fractions = ", ".join(f"{one:g}" for one in recipe.search.fractions)
        lines = [f"search: the fraction of {recipe.method.get('name')}, among {fractions}; what follows has the first"]
        recipe = dataclasses.replace(recipe, method={**recipe.method, "fraction": recipe.search.fractions[0]})
    with offline():
        return [*lines, *_checked(recipe, progress)]


def _checked(recipe: Recipe, progress: StageProgress) -> list[str]:
    plan = make_plan(recipe)
    check_folder(plan)
    tasks = _tasks_elsewhere(recipe.evaluate)
    models, sets = _models(recipe), data_sets(recipe)
    ranked = preference_data(recipe)
    away = {**_models_elsewhere(models), **_data_elsewhere(sets if ranked is None else sets | {PREFERENCES: ranked})}
    lines = [*_arm_lines(plan), *_statistic_lines(plan)]
    if away:
        lines += _check_what_is_here(recipe, models, sets, away, progress)
    else:
        without_tasks = dataclasses.replace(recipe, evaluate=dataclasses.replace(recipe.evaluate, tasks=()))
        inputs = prepare_inputs(dataclasses.replace(plan, recipe=without_tasks), progress)
        lines += [*_data_lines(inputs), *_training_lines(inputs, progress)]
    if not away and not tasks:
        return [*lines, "ok: everything but the weights was checked"]
    for name, (use, left_out) in {**away, **tasks}.items():
        lines += [f"not here: {name} ({use})", f"  not checked: {left_out}"]
    if away:
        lines.append("also not checked: free disk space, the number of optimizer steps")
    return [*lines, "ok, as far as it was checked"]


def _models(recipe: Recipe) -> dict[str, tuple[str, str | None]]:
    """Return Hub id or folder and revision of each model, adapter and tokenizer, by its key in the recipe."""
    found: dict[str, tuple[str, str | None]] = {}
    for role, settings in recipe.models.items():
        if settings.warm_up is not None:
            continue
        if settings.path is not None:
            found[f"models.{role}"] = settings.path, settings.revision
        if settings.adapter is not None:
            found[f"models.{role}.adapter"] = settings.adapter, None
    if recipe.data.tokenizer is not None:
        found["data.tokenizer"] = recipe.data.tokenizer, None
    return found


def _models_elsewhere(models: Mapping[str, tuple[str, str | None]]) -> dict[str, tuple[str, str]]:
    """Return what is not on this machine, with its keys and what cannot be checked for it."""
    found: dict[str, tuple[str, str]] = {}
    for key, (path, revision) in models.items():
        if not is_here(path, revision):
            left_out = "that it is an adapter" if key.endswith(".adapter") else _OF_MODEL
            found[path] = (f"{found[path][0]}, {key}" if path in found else key), left_out
    return found


def _tasks_elsewhere(settings: EvaluateSettings) -> dict[str, tuple[str, str]]:
    """Check the tasks of lm-evaluation-harness; return those whose data is not on this machine."""
    found: dict[str, tuple[str, str]] = {}
    if settings.tasks:
        from tokensieve.evaluate.harness import check_task_names, check_tasks

        check_task_names(settings.tasks, settings.task_folder)
        for task in settings.tasks:
            try:
                check_tasks([task], settings.task_folder)
            except TokensieveError as error:
                if not isinstance(error.__cause__, ConnectionError):
                    raise
                found[task] = "evaluate.tasks", "its data"
    return found


def _data_elsewhere(sets: Mapping[str, DataSettings]) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for key, settings in sets.items():
        for source in sources_elsewhere(settings):
            found[source] = (f"{found[source][0]}, {key}" if source in found else key), "its rows"
    return found


def _check_what_is_here(
    recipe: Recipe,
    models: Mapping[str, tuple[str, str | None]],
    sets: Mapping[str, DataSettings],
    away: Mapping[str, object],
    progress: StageProgress,
) -> Iterator[str]:
    """Check models and data one by one, where they cannot be checked against each other."""
    base = base_model(recipe)
    if base.path not in away:
        with_max_length(recipe.data, base)
        check_adapters(recipe, base)
    tokenizer = recipe.data.tokenizer or base.path
    if tokenizer not in away:
        recipe_encoder(recipe, base)
    for role, settings in recipe.models.items():
        given = [f"models.{role}", f"models.{role}.adapter"]
        paths = [models[key][0] for key in given if key in models]
        if settings.warm_up is None and not {*paths, settings.path or base.path} & set(away):
            check_model(role_model(settings, base), 0, "", 0)
    for key, settings in sets.items():
        if sources_elsewhere(settings):
            continue
        with progress.stage(f"read {key}", None, "rows") as advance:
            rows = 0
            for _, count in converted_rows(settings, BadRows(settings)):
                rows += count
                advance(count)
        yield f"{key}: {rows:,} rows"


def _arm_lines(plan: Plan) -> Iterator[str]:
    for arm in plan.arms:
        yield f"arm {arm.name}: {arm.share}; selects {'online' if arm.online else 'offline'}"
    if plan.recipe.train is not None and (seeds := plan.recipe.seeds):
        models = len(plan.arms) * len(seeds)
        yield f"train each arm with seeds {', '.join(map(str, seeds))}: {models} models, less those that the store has"


def _statistic_lines(plan: Plan) -> Iterator[str]:
    for role, settings in plan.recipe.models.items():
        names = ", ".join(spec.name for spec in plan.statistics.get(role, ()))
        if names:
            yield f"measure {role}: {names}{_to_be_made(settings)}"
    if not plan.statistics:
        yield "measure: nothing"


def _to_be_made(settings: RoleSettings) -> str:
    if settings.warm_up is None and settings.preferences is None:
        return ""
    folds = settings.warm_up.folds if settings.warm_up is not None else 1
    return f", of {folds} models to be made" if folds > 1 else ", of a model to be made"


def _data_lines(inputs: Inputs) -> Iterator[str]:
    sets = {"data": inputs.examples}
    sets |= {f"models.{role}.warm_up": examples for role, examples in inputs.warm_ups.items()}
    sets |= {"evaluate.held_out": inputs.held_out} if inputs.held_out is not None else {}
    for key, examples in sets.items():
        yield f"{key}: {_counted(examples.counts)}"
        if examples.counts.unused_columns:
            yield f"  {examples.counts.unused_in_words()}"
    if (preferences := inputs.preferences) is not None:
        answers = preferences.examples.counts.examples
        yield f"{PREFERENCES}: {len(preferences.rankings):,} rankings of {answers:,} answers"
    evaluation = inputs.evaluation
    if evaluation.questions:
        yield f"evaluate.exact_match: {len(evaluation.questions):,} questions"
    if (unwanted := evaluation.unwanted) is not None:
        yield (
            f"evaluate.unwanted: {len(unwanted.texts):,} texts, {unwanted.after_held_out:,} of them after held-out "
            f"prompts; {len(unwanted.questions):,} prompts to answer"
        )
    if evaluation.corrected is not None:
        yield f"evaluate.corrected: {len(evaluation.corrected.corrections):,} corrected answers"


def _training_lines(inputs: Inputs, progress: StageProgress) -> Iterator[str]:
    for training in planned_trainings(inputs):
        if training.warning:
            progress.note(f"warning: {training.warning}")
        yield training.line


def _counted(counts: Counts) -> str:
    return f"{counts.examples:,} examples, {counts.trainable_tokens:,} trainable tokens of {counts.tokens:,}"
