"""The data and models of a plan: tokenised, found, and checked against each other before any weights are loaded."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tokensieve.containers import Role, StatisticSpec
from tokensieve.data.compare import check_same_ids
from tokensieve.data.inspection import Inspection, Problem, inspect_data
from tokensieve.data.prepare import ExampleStore, prepare
from tokensieve.data.settings import DEFAULT_MAX_LENGTH, DataSettings
from tokensieve.data.tokenize import Encoder, load_encoder
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.exact_match import Question, read_questions
from tokensieve.models.loading import check_model, context_of, load_config, local_folder
from tokensieve.models.settings import ModelSettings
from tokensieve.pipeline.plan import Plan, role_model
from tokensieve.pipeline.recipe import Recipe
from tokensieve.progress import StageProgress


@dataclass(frozen=True)
class Inputs:
    """What a run works on.

    Attributes:
        plan: with the length of examples decided.
        encoder: tokenizer and chat template.
        examples: the tokenised pool.
        held_out: tokenised evaluation data, or None.
        questions: prompts and answers for exact match.
        warm_ups: tokenised data of each model to be made that has files of its own, by role.
        models: the models that exist, by role; those to be made are missing here.
    """

    plan: Plan
    encoder: Encoder
    examples: ExampleStore
    held_out: ExampleStore | None
    questions: tuple[Question, ...]
    warm_ups: Mapping[Role, ExampleStore]
    models: Mapping[Role, ModelSettings]


def prepare_inputs(plan: Plan, progress: StageProgress) -> Inputs:
    """Tokenise the data of a plan, and check what can be known of its models without their weights.

    Raises:
        TokensieveError: the first thing that would make the run fail.
    """
    recipe = plan.recipe
    if recipe.evaluate.tasks:
        from tokensieve.evaluate.harness import check_tasks

        check_tasks(recipe.evaluate.tasks, recipe.evaluate.task_folder)
    recipe = dataclasses.replace(recipe, data=with_max_length(recipe.data, plan.base))
    encoder = recipe_encoder(recipe, plan.base)

    def tokenise(data: DataSettings, description: str) -> ExampleStore:
        with progress.stage(description, None, "rows") as advance:
            examples = prepare(data, encoder, recipe.store_folder, advance)
        for warning in examples.counts.warnings():
            progress.note(f"warning: {warning}")
        return examples

    examples = tokenise(recipe.data, "tokenise")
    for arm in plan.arms:
        arm.schedule.check_examples(arm.method, examples.counts.examples)
    held_out = None
    if recipe.evaluate.held_out:
        held_out = tokenise(other_data(recipe, recipe.evaluate.held_out), "tokenise held-out")
    questions = recipe_questions(recipe, encoder)
    warm_ups: dict[Role, ExampleStore] = {}
    for role, settings in recipe.models.items():
        if settings.warm_up is not None and settings.warm_up.files:
            warm_ups[role] = tokenise(other_data(recipe, settings.warm_up.files), f"tokenise warm-up of {role}")
    models: dict[Role, ModelSettings] = {
        role: role_model(one, plan.base) for role, one in recipe.models.items() if one.warm_up is None
    }
    checked: set[Role] = {"base", *plan.statistics}
    for role in checked & models.keys():
        _check_role(recipe, role, models[role], plan.base, encoder, examples)
        _check_layers(plan.statistics.get(role, ()), models[role])
    inputs = Inputs(dataclasses.replace(plan, recipe=recipe), encoder, examples, held_out, questions, warm_ups, models)
    _check_disk(inputs)
    return inputs


def recipe_encoder(recipe: Recipe, base: ModelSettings) -> Encoder:
    """Load a recipe's tokenizer and chat template."""
    tokenizer = recipe.data.tokenizer or base.path  # one of its own is another repository, with revisions of its own
    revision = base.revision if tokenizer == base.path else None
    return load_encoder(str(local_folder(tokenizer, revision, weights=False)), recipe.data.chat_template)


def recipe_questions(recipe: Recipe, encoder: Encoder) -> tuple[Question, ...]:
    """Read a recipe's prompts and answers; none where it asks for no exact match."""
    if (match := recipe.evaluate.exact_match) is None:
        return ()
    data = dataclasses.replace(other_data(recipe, match.files), limit=match.limit)
    return tuple(read_questions(data, encoder, match.extract))


def other_data(recipe: Recipe, files: tuple[str, ...]) -> DataSettings:
    """Return how other files of a recipe are read: as its data, but all rows."""
    return dataclasses.replace(recipe.data, files=files, limit=None)


def inspect(data: DataSettings, tokenizer: str, examples: int, compare_with: str | None) -> tuple[Inspection, Encoder]:
    """Inspect data, and check it against the model that the tokenizer comes with, if it comes with one.

    Args:
        data: which rows, and how long an example may be.
        tokenizer: folder or Hub id of a tokenizer or of a model.
        examples: number of previews.
        compare_with: a second tokenizer that must give the same ids.

    Raises:
        TokensieveError: nothing can be read at all, or the tokenizer cannot be loaded.
    """
    folder = local_folder(tokenizer, weights=False)
    encoder = load_encoder(str(folder), data.chat_template)
    found = inspect_data(data, encoder, examples, compare_with)
    if not (folder / "config.json").is_file() or not found.counts.examples:
        return found, encoder
    model = ModelSettings(str(folder))
    try:
        with_max_length(data, model)
        check_model(model, found.counts.largest_id, found.counts.largest_id_at, found.counts.lengths["1"])
    except TokensieveError as error:
        problem = Problem("error", error.what, error.where, error.hint)
        return dataclasses.replace(found, problems=[problem, *found.problems]), encoder
    return found, encoder


def with_max_length(data: DataSettings, base: ModelSettings) -> DataSettings:
    """Return the settings with the length of examples decided.

    Raises:
        TokensieveError: a length beyond the context of the base.
    """
    context = context_of(base)
    if data.max_length is None:
        return dataclasses.replace(data, max_length=min(DEFAULT_MAX_LENGTH, context or DEFAULT_MAX_LENGTH))
    if context and data.max_length > context:
        raise TokensieveError(
            f"max_length {data.max_length} is beyond the base model's context of {context}",
            where="recipe: data.max_length",
            hint=f"data.max_length: {context}",
        )
    return data


def _check_role(
    recipe: Recipe, role: Role, model: ModelSettings, base: ModelSettings, encoder: Encoder, examples: ExampleStore
) -> None:
    folder = local_folder(model.path, model.revision, weights=False)
    if model.path != base.path and (folder / "tokenizer_config.json").is_file():
        check_same_ids(recipe.data, encoder, str(folder))
    counts = examples.counts
    try:
        check_model(model, counts.largest_id, counts.largest_id_at, counts.lengths["1"])
    except TokensieveError as error:
        raise TokensieveError(error.what, where=f"{error.where} (models.{role})", hint=error.hint) from error


def _check_layers(specs: tuple[StatisticSpec, ...], model: ModelSettings) -> None:
    """Refuse a layer that the model does not have."""
    layers = getattr(load_config(model).get_text_config(), "num_hidden_layers", None)
    for spec in specs:
        layer = spec.option("layer", None)
        if layer is not None and layers is not None and not -layers <= layer < layers:
            raise TokensieveError(
                f"there is no layer {layer}: the model has {layers}",
                where="recipe: method.layer",
                hint=f"method.layer: {-layers} to {layers - 1}",
            )


def _check_disk(inputs: Inputs) -> None:
    """Refuse to start a run that the disk cannot hold, by estimate."""
    plan = inputs.plan
    counts, arms = inputs.examples.counts, len(plan.arms)
    statistics = 4 * counts.tokens * sum(len(specs) for specs in plan.statistics.values())
    cleaned = counts.tokens * arms * (5 + 10 + (24 if plan.recipe.select.jsonl else 0))
    weights = sum(
        path.stat().st_size
        for path in local_folder(plan.base.path, plan.base.revision, weights=False).glob("*.safetensors")
    )
    trained = arms if plan.recipe.train is not None else 0
    # Full training keeps weights and, for the time of a checkpoint, Adam's two moments and the weights again.
    models = trained * weights * (1 if plan.train.lora is None else int(plan.train.merge_adapter))
    models += 4 * weights if plan.train.lora is None and trained else weights // 4
    need = statistics + cleaned + models
    folder = Path(plan.recipe.output)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if need > free:
        raise TokensieveError(
            f"the run needs about {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            where=str(folder),
            hint="free some room, give another output and store, or set select.jsonl: false",
        )
