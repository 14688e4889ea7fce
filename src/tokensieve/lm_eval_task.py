"""`tokensieve lm-eval`: the questions of a run as a task of lm-evaluation-harness."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

from tokensieve.config import Recipe
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.task_export import write_task
from tokensieve.plan import base_model, recipe_encoder, recipe_questions, with_max_length


def write_recipe_task(recipe: Recipe, output: Path, name: str) -> tuple[Path, str]:
    """Write the exact-match questions of a recipe, and return the task's file and the command that runs it.

    Raises:
        TokensieveError: a recipe without exact match, questions that cannot be read, or what `write_task` refuses.
    """
    match = recipe.evaluate.exact_match
    if match is None:
        raise TokensieveError(
            "the recipe asks no questions",
            where="recipe: evaluate.exact_match",
            mend="give the run's recipe evaluate.exact_match.files: prompts with reference answers",
        )
    base = base_model(recipe)
    recipe = dataclasses.replace(recipe, data=with_max_length(recipe.data, base))
    encoder = recipe_encoder(recipe, base)
    path = write_task(recipe_questions(recipe, encoder), encoder, match, output, name)
    model = "pretrained=MODEL,add_bos_token=False"
    return path, f"lm_eval --model hf --model_args {model} --tasks {name} --include_path {shlex.quote(str(output))}"
