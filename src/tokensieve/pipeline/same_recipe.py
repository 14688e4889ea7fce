"""Keeps a run folder to one recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokensieve.errors import TokensieveError
from tokensieve.pipeline.plan import Plan
from tokensieve.pipeline.recipe import is_dumped, recipe_values
from tokensieve.runs.folder import RunFolder
from tokensieve.store import fingerprint
from tokensieve.store.mirror import sync
from tokensieve.store.paths import check_folder_path

_FREE_TO_CHANGE = ("evaluate", "report", "engine", "measure", "store", "search")


def check_folder(plan: Plan) -> None:
    """Refuse a folder that holds the results of another recipe, and show the difference.

    What is measured on the models, how, what the page shows, and the licence that cards name may change between calls.
    Controls and seeds may join those that are there, at the end, controls with the models that they need. A folder
    without results, such as that of a run that failed early, takes any recipe.

    Raises:
        TokensieveError: another recipe, a folder that holds something else, or a control with the name of an arm that
            was imported.
    """
    recipe = plan.recipe
    folder = RunFolder(recipe.output_folder)
    sync(folder.path)
    check_folder_path(folder.path, "recipe: output")
    check_folder_path(recipe.store_folder, "recipe: store")
    if not folder.recipe_file.is_file():
        if not folder.is_unused:
            raise TokensieveError(
                "the output folder is not empty and holds no run", where=str(folder.path), hint="give another output"
            )
        return
    if not folder.has_results:
        if not is_dumped(folder.recipe_file):
            raise TokensieveError(
                "the output folder holds a recipe that no run wrote, and a run would overwrite it",
                where=str(folder.recipe_file),
                hint="give another output",
            )
        return
    found, wanted = fixed_settings(folder.recipe()), fixed_settings(recipe_values(recipe))
    fingerprint.check_same(
        _with_additions(found, wanted),
        wanted,
        where=str(folder.recipe_file),
        hint="give another output: statistics and trained models are shared through the store; or add what is new at "
        "the end of controls or seeds",
    )
    for arm in plan.arms:
        if (there := folder.arm(arm.name)).selected and there.selection().imported:
            raise TokensieveError(
                f"the run has an imported arm named '{arm.name}'",
                where=str(there.path),
                hint="delete this folder, and import it under another --name",
            )


def _with_additions(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe of a run with what another one adds and what leaves the arms that are there as they are."""
    added = dict(found)
    before, now = (values.get("seeds") or [values.get("seed")] for values in (found, wanted))
    if now[: len(before)] == before:
        written = {name: wanted[name] for name in ("seed", "seeds") if name in wanted}
        added = {name: value for name, value in found.items() if name not in ("seed", "seeds")} | written
    if (controls := found.get("controls")) == wanted["controls"][: len(controls or ())]:
        added["controls"] = wanted["controls"]
    models = found.get("models") or {}
    # Arms that read these roles have the base in their place where the recipe names no model for them.
    fixed = ("history", "current")
    new = {role: model for role, model in wanted["models"].items() if role not in models and role not in fixed}
    return {**added, "models": {**models, **new}}


def fixed_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Return those values of a recipe that cannot change once there are results."""
    fixed = {name: value for name, value in values.items() if name not in (*_FREE_TO_CHANGE, "output")}
    return {**fixed, "data": without_license(fixed["data"])}


def without_license(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of a recipe without the licence: no result depends on it, and cards name it as it is now."""
    return {name: value for name, value in data.items() if name != "license"}
