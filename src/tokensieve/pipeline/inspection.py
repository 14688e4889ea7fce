"""`tokensieve inspect`: data as a run would read it, checked against the model that is to be trained on it."""

from __future__ import annotations

import dataclasses

from tokensieve.data.encode import hash_examples
from tokensieve.data.inspection import Inspection, inspect_data
from tokensieve.data.inspection_worker import Problem
from tokensieve.data.settings import DataSettings
from tokensieve.data.tokenize import Encoder, load_encoder
from tokensieve.engines import OnTokens, unseen
from tokensieve.errors import TokensieveError
from tokensieve.models.loading import check_model, local_folder
from tokensieve.models.settings import ModelSettings
from tokensieve.pipeline.inputs import (
    CORRECTED,
    UNWANTED,
    data_sets,
    recipe_corrected,
    recipe_encoder,
    recipe_questions,
    recipe_unwanted,
    with_max_length,
)
from tokensieve.pipeline.leaks import EXACT_MATCH, leaks
from tokensieve.pipeline.plan import base_model
from tokensieve.pipeline.recipe import Recipe


def inspect(
    data: DataSettings,
    tokenizer: str,
    examples: int,
    compare_with: str | None,
    trust_remote_code: bool = False,
    on_rows: OnTokens = unseen,
) -> tuple[Inspection, Encoder]:
    """Inspect data, and check it against the model that the tokenizer comes with, if it comes with one.

    Args:
        data: which rows, and how long an example may be.
        tokenizer: folder or Hub id of a tokenizer or of a model.
        examples: number of previews.
        compare_with: a second tokenizer that must give the same ids.
        trust_remote_code: whether the model may run code of its own.
        on_rows: told of the rows that were read.

    Raises:
        TokensieveError: nothing can be read at all, or the tokenizer cannot be loaded.
    """
    folder = local_folder(tokenizer, weights=False)
    encoder = load_encoder(str(folder), data.chat_template)
    model = None
    if (folder / "config.json").is_file():
        model = ModelSettings(str(folder), trust_remote_code=trust_remote_code)
    return _inspected(data, encoder, model, examples, compare_with, on_rows), encoder


def inspect_recipe(
    recipe: Recipe, examples: int, compare_with: str | None, on_rows: OnTokens = unseen
) -> tuple[Inspection, Encoder]:
    """Inspect the data of a recipe as a run reads it, and check it against the base; see `inspect`.

    Problems of held-out, exact-match and warm-up data are among those found, each with the key of its data set.
    """
    base = base_model(recipe)
    encoder = recipe_encoder(recipe, base)
    found = _inspected(recipe.data, encoder, base, examples, compare_with, on_rows)
    recipe = dataclasses.replace(recipe, data=_decided(recipe.data, base)[0])
    problems, hashed = [*found.problems], {"data": found.hashed}
    for key, settings in data_sets(recipe).items():
        try:
            if key == EXACT_MATCH:
                recipe_questions(recipe, encoder)
                hashed[key] = hash_examples(settings, encoder)
            elif key in (UNWANTED, CORRECTED):
                {UNWANTED: recipe_unwanted, CORRECTED: recipe_corrected}[key](recipe, encoder)
            elif key not in hashed:
                other = inspect_data(settings, encoder, 0, on_rows=on_rows)
                hashed[key] = other.hashed
                problems += [dataclasses.replace(one, message=f"{key}: {one.message}") for one in other.problems]
        except TokensieveError as error:
            problems.append(Problem("error", f"{key}: {error.what}", error.where, error.hint))
    problems += [Problem("warning", text) for text in leaks(hashed)]
    return dataclasses.replace(found, problems=sorted(problems, key=lambda problem: problem.level)), encoder


def _inspected(
    data: DataSettings,
    encoder: Encoder,
    model: ModelSettings | None,
    examples: int,
    compare_with: str | None,
    on_rows: OnTokens,
) -> Inspection:
    """Inspect data, with what the model that is to be trained cannot take of it among the problems."""
    data, refused = _decided(data, model)
    found = inspect_data(data, encoder, examples, compare_with, on_rows)
    if refused is None and model is not None and found.counts.examples:
        try:
            check_model(model, found.counts.largest_id, found.counts.largest_id_at, found.counts.lengths["1"])
        except TokensieveError as error:
            refused = error
    if refused is None:
        return found
    problem = Problem("error", refused.what, refused.where, refused.hint)
    return dataclasses.replace(found, problems=[problem, *found.problems])


def _decided(data: DataSettings, model: ModelSettings | None) -> tuple[DataSettings, TokensieveError | None]:
    """Return the settings with the length of examples decided, and why a run would refuse it."""
    try:
        return with_max_length(data, model), None
    except TokensieveError as error:
        return with_max_length(data, None), error
