"""The data and models of a plan: tokenised, found, and checked against each other before any weights are loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from tokensieve.containers import Role, StatisticSpec
from tokensieve.data.bad_rows import BadRows
from tokensieve.data.compare import check_same_ids
from tokensieve.data.encode import hash_examples
from tokensieve.data.example_store import ExampleStore
from tokensieve.data.prepare import prepare
from tokensieve.data.settings import DEFAULT_MAX_LENGTH, DataSettings
from tokensieve.data.tokenize import Encoder, load_encoder
from tokensieve.engines import Engine
from tokensieve.errors import TokensieveError
from tokensieve.evaluate.corrected import Corrected, read_corrected
from tokensieve.evaluate.evaluate import EvaluationData
from tokensieve.evaluate.exact_match import Question, read_questions
from tokensieve.evaluate.unwanted import Unwanted, check_not_trained, read_unwanted
from tokensieve.models.loading import check_model, context_of, load_config, local_folder
from tokensieve.models.settings import ModelSettings
from tokensieve.ops.rules import TopExamples
from tokensieve.pipeline.disk import check_disk
from tokensieve.pipeline.leaks import EXACT_MATCH, HELD_OUT, leaks
from tokensieve.pipeline.plan import Arm, Plan, role_model, train_sections
from tokensieve.pipeline.recipe import Recipe
from tokensieve.pipeline.reward import PREFERENCES, Preferences, check_kind, recipe_answers
from tokensieve.progress import StageProgress
from tokensieve.train.adapter import check_adapter_fits

UNWANTED, CORRECTED = "evaluate.unwanted", "evaluate.corrected"


@dataclass(frozen=True)
class Inputs:
    """What a run works on.

    Attributes:
        plan: with the length of examples decided.
        encoder: tokenizer and chat template.
        examples: the tokenised pool.
        evaluation: what models are evaluated on.
        warm_ups: tokenised data of each model to be made that has files of its own, by role.
        models: the models that exist, by role; those to be made are missing here, but for the model whose hidden
            states a reward head is trained on.
        preferences: what that head is trained on; None where none is made.
    """

    plan: Plan
    encoder: Encoder
    examples: ExampleStore
    evaluation: EvaluationData
    warm_ups: Mapping[Role, ExampleStore]
    models: Mapping[Role, ModelSettings]
    preferences: Preferences | None = None

    @property
    def held_out(self) -> ExampleStore | None:
        """Tokenised evaluation data."""
        return self.evaluation.held_out


def prepare_inputs(
    plan: Plan,
    progress: StageProgress,
    until: str = "report",
    *,
    weights: bool = True,
    engine: Engine | None = None,
) -> Inputs:
    """Tokenise the data of a plan, and check what can be known of its models without their weights.

    Args:
        plan: what to prepare for.
        progress: where progress and warnings are shown.
        until: last stage that is carried out; the disk has to hold what is written up to there.
        weights: whether weights of the models and room for what a run writes must be here.
        engine: tokenises; this process where None.

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
            examples = prepare(data, encoder, recipe.store_folder, advance, engine)
        for warning in examples.warnings():
            progress.warn(warning)
        return examples

    examples = tokenise(recipe.data, "tokenise")
    for arm in plan.arms:
        arm.schedule.check_examples(arm.method, examples.counts.examples)
        _check_candidates(arm, examples.counts.examples)
        arm.method.check_marks(examples.mark_types)
    sets = data_sets(recipe)
    held_out = None
    if (others := sets.get(HELD_OUT)) is not None:
        held_out = tokenise(others, "tokenise held-out")
    questions = recipe_questions(recipe, encoder)
    evaluation = EvaluationData(
        held_out, questions, recipe_unwanted(recipe, encoder), recipe_corrected(recipe, encoder)
    )
    if evaluation.unwanted is not None:
        warning = check_not_trained(evaluation.unwanted, examples, encoder.turn_end_ids)
        if warning is not None:
            progress.warn(warning)
    warm_ups: dict[Role, ExampleStore] = {}
    for role in recipe.models:
        if (made := sets.get(f"models.{role}.warm_up")) is not None:
            warm_ups[role] = tokenise(made, f"tokenise warm-up of {role}")
    preferences = None
    if (answers := recipe_answers(recipe)) is not None:
        preferences = Preferences.of(answers, tokenise(answers.settings, "tokenise preferences"))
    stores = {"data": examples, **{f"models.{role}.warm_up": one for role, one in warm_ups.items()}}
    stores |= {HELD_OUT: held_out} if held_out is not None else {}
    hashed = {key: one.hashed(sets[key]) for key, one in stores.items()}
    if preferences is not None:
        hashed[PREFERENCES] = preferences.examples.hashed(preferences.settings)
    if questions:
        hashed[EXACT_MATCH] = hash_examples(sets[EXACT_MATCH], encoder)
    for warning in leaks(hashed):
        progress.warn(warning)
    models: dict[Role, ModelSettings] = {
        role: role_model(one, plan.base) for role, one in recipe.models.items() if one.warm_up is None
    }
    checked: set[Role] = {"base", *plan.statistics}
    for role in checked & models.keys():
        _check_role(recipe, role, models[role], plan.base, encoder, examples, weights)
        _check_layers(plan.statistics.get(role, ()), models[role])
    check_adapters(recipe, plan.base)
    plan = dataclasses.replace(plan, recipe=recipe)
    if weights:
        states = preferences.bytes_of_states(models["reward"]) if preferences is not None else 0
        check_disk(plan, examples, until, states)
    return Inputs(plan, encoder, examples, evaluation, warm_ups, models, preferences)


def data_sets(recipe: Recipe) -> dict[str, DataSettings]:
    """Return how the rows of each data set of a recipe are read, by its key in the recipe; `data` comes first."""
    others = {f"models.{role}.warm_up": settings.warm_up for role, settings in recipe.models.items()}
    others |= {HELD_OUT: recipe.evaluate.held_out, EXACT_MATCH: recipe.evaluate.exact_match}
    others |= {UNWANTED: recipe.evaluate.unwanted, CORRECTED: recipe.evaluate.corrected}
    given = {key: recipe.data.of_others(one.files, one) for key, one in others.items() if one and one.files}
    return {"data": recipe.data, **given}


def check_adapters(recipe: Recipe, base: ModelSettings) -> None:
    """Refuse an adapter that names layers which the base does not have."""
    for section, settings in train_sections(recipe):
        check_adapter_fits(base, settings.lora, section)


def recipe_encoder(recipe: Recipe, base: ModelSettings) -> Encoder:
    """Load a recipe's tokenizer and chat template."""
    tokenizer = recipe.data.tokenizer or base.path  # one of its own is another repository, with revisions of its own
    revision = base.revision if tokenizer == base.path else None
    return load_encoder(str(local_folder(tokenizer, revision, weights=False)), recipe.data.chat_template)


def recipe_questions(recipe: Recipe, encoder: Encoder) -> tuple[Question, ...]:
    """Read a recipe's prompts and answers; none where it asks for no exact match."""
    if (match := recipe.evaluate.exact_match) is None:
        return ()
    return tuple(read_questions(recipe.data.of_others(match.files, match), encoder, match.extract))


def recipe_unwanted(recipe: Recipe, encoder: Encoder) -> Unwanted | None:
    """Read a recipe's unwanted texts; None where it names none."""
    evaluate = recipe.evaluate
    if (unwanted := evaluate.unwanted) is None:
        return None
    held_out = recipe.data.of_others(evaluate.held_out.files, evaluate.held_out) if evaluate.held_out.files else None
    return read_unwanted(recipe.data.of_others(unwanted.files, unwanted), held_out, encoder)


def recipe_corrected(recipe: Recipe, encoder: Encoder) -> Corrected | None:
    """Read a recipe's rows with corrected answers; None where it names none."""
    if (corrected := recipe.evaluate.corrected) is None:
        return None
    return read_corrected(recipe.data.of_others(corrected.files, corrected), encoder)


def with_max_length(data: DataSettings, base: ModelSettings | None) -> DataSettings:
    """Return the settings with the length of examples decided.

    Args:
        data: the settings.
        base: the model that is to be trained; None where it is not known.

    Raises:
        TokensieveError: a length beyond the context of the base.
    """
    context = context_of(base) if base is not None else None
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
    recipe: Recipe,
    role: Role,
    model: ModelSettings,
    base: ModelSettings,
    encoder: Encoder,
    examples: ExampleStore,
    weights: bool,
) -> None:
    folder = local_folder(model.path, model.revision, weights=False)
    if model.path != base.path and (folder / "tokenizer_config.json").is_file():
        check_same_ids(recipe.data, encoder, str(folder), on_error=BadRows(recipe.data))
    counts = examples.counts
    try:
        check_model(model, counts.largest_id, counts.largest_id_at, counts.lengths["1"], weights=weights)
    except TokensieveError as error:
        raise TokensieveError(error.what, where=f"{error.where} (models.{role})", hint=error.hint) from error
    check_kind(role, model, recipe.models[role])


def _check_candidates(arm: Arm, examples: int) -> None:
    """Refuse a pool that is no larger than what an arm keeps of each batch."""
    if isinstance(arm.rule, TopExamples) and arm.rule.examples >= examples:
        raise TokensieveError(
            f"'{arm.name}' keeps {arm.rule.examples} examples of a batch, and the data has {examples}, which leaves no "
            "choice",
            where="recipe: data.files",
            hint="give more data, or keep fewer examples (method.examples)",
        )


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
