"""`tokensieve inspect`: data as a run would read it, checked against the model that is to be trained on it."""

from __future__ import annotations

import dataclasses

from tokensieve.data.inspection import Inspection, Problem, inspect_data
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import Encoder, load_encoder
from tokensieve.errors import TokensieveError
from tokensieve.models.loading import check_model, local_folder
from tokensieve.models.settings import ModelSettings
from tokensieve.pipeline.inputs import recipe_encoder, with_max_length
from tokensieve.pipeline.plan import base_model
from tokensieve.pipeline.recipe import Recipe


def inspect(
    data: DataSettings, tokenizer: str, examples: int, compare_with: str | None, trust_remote_code: bool = False
) -> tuple[Inspection, Encoder]:
    """Inspect data, and check it against the model that the tokenizer comes with, if it comes with one.

    Args:
        data: which rows, and how long an example may be.
        tokenizer: folder or Hub id of a tokenizer or of a model.
        examples: number of previews.
        compare_with: a second tokenizer that must give the same ids.
        trust_remote_code: whether the model may run code of its own.

    Raises:
        TokensieveError: nothing can be read at all, or the tokenizer cannot be loaded.
    """
    folder = local_folder(tokenizer, weights=False)
    encoder = load_encoder(str(folder), data.chat_template)
    model = None
    if (folder / "config.json").is_file():
        model = ModelSettings(str(folder), trust_remote_code=trust_remote_code)
    return _inspected(data, encoder, model, examples, compare_with), encoder


def inspect_recipe(recipe: Recipe, examples: int, compare_with: str | None) -> tuple[Inspection, Encoder]:
    """Inspect the data of a recipe as a run reads it, and check it against the base; errors as for `inspect`."""
    base = base_model(recipe)
    encoder = recipe_encoder(recipe, base)
    return _inspected(recipe.data, encoder, base, examples, compare_with), encoder


def _inspected(
    data: DataSettings, encoder: Encoder, model: ModelSettings | None, examples: int, compare_with: str | None
) -> Inspection:
    """Inspect data, with what the model that is to be trained cannot take of it among the problems."""
    try:
        decided = with_max_length(data, model)
    except TokensieveError as error:
        found = inspect_data(with_max_length(data, None), encoder, examples, compare_with)
        return _with_problem(found, error)
    found = inspect_data(decided, encoder, examples, compare_with)
    if model is None or not found.counts.examples:
        return found
    try:
        check_model(model, found.counts.largest_id, found.counts.largest_id_at, found.counts.lengths["1"])
    except TokensieveError as error:
        return _with_problem(found, error)
    return found


def _with_problem(found: Inspection, error: TokensieveError) -> Inspection:
    problem = Problem("error", error.what, error.where, error.hint)
    return dataclasses.replace(found, problems=[problem, *found.problems])
