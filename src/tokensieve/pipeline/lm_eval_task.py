"""`tokensieve lm-eval`: the questions of a run as a task of lm-evaluation-harness."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

from tokensieve.errors import TokensieveError
from tokensieve.evaluate.task_export import write_task
from tokensieve.pipeline.inputs import recipe_encoder, recipe_questions, with_max_length
from tokensieve.pipeline.plan import base_model
from tokensieve.pipeline.recipe import Recipe
from tokensieve.runs.folder import RunFolder
from tokensieve.store.mirror import fetched, sync
from tokensieve.train.settings import TrainSettings
from tokensieve.train.trainer import trained_model


def write_recipe_task(recipe: Recipe, output: Path, name: str) -> tuple[Path, str]:
    """Write the exact-match questions of a recipe, and return the task's file and the command that runs it.

    The command names the model that was trained on what the method chose, or the base where there is none yet.

    Raises:
        TokensieveError: a recipe without exact match, questions that cannot be read, or what `write_task` refuses.
    """
    match = recipe.evaluate.exact_match
    if match is None:
        raise TokensieveError(
            "the recipe asks no questions",
            where="recipe: evaluate.exact_match",
            hint="give the run's recipe evaluate.exact_match.files: prompts with reference answers",
        )
    base = base_model(recipe)
    recipe = dataclasses.replace(recipe, data=with_max_length(recipe.data, base))
    encoder = recipe_encoder(recipe, base)
    path = write_task(recipe_questions(recipe, encoder), encoder, match, output, name)
    folder = RunFolder(recipe.output_folder).arm(recipe.method["name"]).model
    sync(folder)
    model = trained_model(base, recipe.train or TrainSettings(), fetched(folder)) if folder.is_dir() else base
    given = {"pretrained": model.path, "peft": model.adapter, "revision": model.revision, "add_bos_token": "False"}
    arguments = shlex.quote(",".join(f"{key}={value}" for key, value in given.items() if value))
    return path, f"lm_eval --model hf --model_args {arguments} --tasks {name} --include_path {shlex.quote(str(output))}"
