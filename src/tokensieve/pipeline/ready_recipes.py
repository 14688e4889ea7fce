"""The recipes that come with tokensieve: one for each method, and one for each paper."""

from __future__ import annotations

import re
from pathlib import Path

from tokensieve.errors import TokensieveError, did_you_mean

FOLDER = Path(__file__).parents[1] / "recipes"


def ready_recipes() -> dict[str, Path]:
    """Return the file of each recipe by name, such as ``xtf``; those of the papers come last, as ``papers/xtf``."""
    files = [*sorted(FOLDER.glob("*.yaml")), *sorted(FOLDER.glob("papers/*.yaml"))]
    return {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in files}


def ready_recipe(name: str) -> str:
    """Return the text of a recipe.

    Raises:
        TokensieveError: there is none of this name.
    """
    recipes = ready_recipes()
    path = recipes.get(name.removesuffix(".yaml"))
    if path is None:
        raise TokensieveError(
            f"there is no recipe '{name}'{did_you_mean(name, recipes)}",
            where="command line",
            hint="`tokensieve recipes` lists them",
        )
    return path.read_text(encoding="utf-8")


def about(recipe: str) -> str:
    """Return the comment on top of a recipe, on one line, without the command that runs it."""
    comment = re.match(r"(#.*\n)*", recipe)
    assert comment is not None
    lines = (line.removeprefix("#").strip() for line in comment[0].splitlines())
    return " ".join(lines).partition("tokensieve run ")[0].strip()
