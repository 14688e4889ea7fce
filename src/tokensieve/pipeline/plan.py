"""What a run will do, checked as far as it can be before a model is loaded."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokensieve.containers import StatisticSpec
from tokensieve.data.compare import check_same_ids
from tokensieve.data.inspection import Inspection, Problem, inspect_data
from tokensieve.data.prepare import ExampleStore, prepare
from tokensieve.data.settings import DEFAULT_MAX_LENGTH, DataSettings
from tokensieve.data.tokenize import Encoder, load_encoder
from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.evaluate.exact_match import Question, read_questions
from tokensieve.measure.relevance import RELEVANCE
from tokensieve.methods import get_method
from tokensieve.methods._base import FractionMethod, Method
from tokensieve.models.loading import check_model, context_of, load_config, local_folder
from tokensieve.models.settings import ModelSettings
from tokensieve.ops.attention import ATTENTION_STATISTICS
from tokensieve.ops.rules import Rule, Threshold, TopCount, TopExamples, TopFraction
from tokensieve.ops.token_loss import LOSS_STATISTICS
from tokensieve.pipeline.recipe import Recipe, RoleSettings, train_settings
from tokensieve.pipeline.schedules import check_pool, check_schedules, check_training, is_online, selects_in_training
from tokensieve.progress import StageProgress
from tokensieve.train.settings import TrainSettings, check_arguments

_STATISTICS = (*LOSS_STATISTICS, *ATTENTION_STATISTICS, RELEVANCE)


@dataclass(frozen=True)
class Arm:
    """One way to choose tokens: the method of the recipe, or a control.

    Attributes:
        name: of its folder and its row in the table.
        method: what scores.
        follows: whether the arm keeps as much, by the same rule, as the recipe's method does.
    """

    name: str
    method: Method
    follows: bool


@dataclass(frozen=True)
class Plan:
    """A checked run.

    Attributes:
        recipe: the settings, with the length of examples decided.
        encoder: tokenizer and chat template.
        examples: the tokenised pool.
        held_out: tokenised evaluation data, or None.
        questions: prompts and answers for exact match.
        warm_ups: tokenised data of each model to be made that has files of its own.
        arms: the method first, then the controls.
        needs: the statistics to measure, by the role of a model of the recipe.
        models: the models that exist; those to be made are missing here.
    """

    recipe: Recipe
    encoder: Encoder
    examples: ExampleStore
    held_out: ExampleStore | None
    questions: tuple[Question, ...]
    warm_ups: Mapping[str, ExampleStore]
    arms: tuple[Arm, ...]
    needs: Mapping[str, tuple[StatisticSpec, ...]]
    models: Mapping[str, ModelSettings]

    @property
    def base(self) -> ModelSettings:
        """The model that is fine-tuned."""
        return self.models["base"]

    @property
    def train(self) -> TrainSettings:
        """How the arms are fine-tuned, and models to be made where they say nothing else."""
        return self.recipe.train or TrainSettings()

    def online(self, method: Method) -> bool:
        """Whether a method reads the model in training: the recipe gives no fixed model for the role `current`."""
        return is_online(self.recipe, method)

    def selects_in_training(self, method: Method) -> bool:
        """Whether an arm is trained by `TokenSelectionTrainer`: the cleaned labels alone do not say all of it."""
        return selects_in_training(self.recipe, method)

    def reads(self, method: Method) -> list[tuple[str, str, StatisticSpec]]:
        """Return what a method reads, as role, the recipe's role that is measured for it, and statistic."""
        return _reads(self.recipe, method)

    def rule(self, arm: Arm, kept: int | None) -> Rule:
        """Return an arm's selection rule.

        Args:
            arm: the arm.
            kept: tokens that the recipe's method kept; None for that method itself.
        """
        threshold = self.recipe.select.threshold
        if threshold is not None and arm == self.arms[0]:
            return Threshold(threshold)
        if not arm.follows or kept is None:
            return arm.method.rule
        leader = self.arms[0].method.rule
        # What a self-evolving leader keeps is not its fraction of the whole: its first part is kept entirely.
        whole = self.arms[0].method.schedule != "self-evolving"
        if threshold is None and whole and isinstance(leader, TopFraction):
            # Offline there is no training batch to rank within.
            return dataclasses.replace(leader, scope="dataset") if leader.scope == "batch" else leader
        if arm.method.schedule == "self-evolving":  # its rule decides within each part
            return TopFraction(min(1.0, kept / self.examples.counts.trainable_tokens))
        return TopCount(kept)


def check_recipe(recipe: Recipe) -> tuple[tuple[Arm, ...], dict[str, tuple[StatisticSpec, ...]]]:
    """Check what a recipe says by itself: methods, roles and the trainer's arguments. Reads no model and no data.

    Returns:
        The arms, and the statistics to measure by the role of a model of the recipe.

    Raises:
        TokensieveError: the first thing that would make the run fail.
    """
    arms = _arms(recipe)
    check_schedules(recipe, [arm.method for arm in arms])
    needs = _needs(recipe, arms)
    base_model(recipe)
    for arm in arms:
        _check_scope(recipe, arm, leads=arm is arms[0])
    for name in recipe.measure.statistics:
        if name not in _STATISTICS:
            raise TokensieveError(
                f"unknown statistic '{name}'{did_you_mean(name, _STATISTICS)}",
                where="recipe: measure.statistics",
                hint=f"one or more of: {', '.join(_STATISTICS)}",
            )
    if recipe.train is not None:
        check_arguments(recipe.train.arguments)
        for arm in arms:
            check_training(recipe, arm.method)
    for settings in recipe.models.values():
        if settings.warm_up is not None:
            check_arguments(train_settings(recipe.train or TrainSettings(), settings.warm_up.train).arguments)
    return arms, needs


def check(recipe: Recipe, progress: StageProgress) -> Plan:
    """Check a recipe, tokenise its data and check what can be known of its models.

    Raises:
        TokensieveError: the first thing that would make the run fail.
    """
    arms, needs = check_recipe(recipe)
    base = base_model(recipe)
    if recipe.evaluate.tasks:
        from tokensieve.evaluate.harness import check_tasks

        check_tasks(recipe.evaluate.tasks, recipe.evaluate.task_folder)
    recipe = dataclasses.replace(recipe, data=with_max_length(recipe.data, base))
    models = {role: role_model(settings, base) for role, settings in recipe.models.items() if settings.warm_up is None}
    encoder = recipe_encoder(recipe, base)
    examples = _prepare(recipe, recipe.data, encoder, "tokenise", progress)
    check_pool([arm.method for arm in arms], examples)
    held_out = None
    if recipe.evaluate.held_out:
        held_out = _prepare(recipe, _data_of(recipe, recipe.evaluate.held_out), encoder, "tokenise held-out", progress)
    questions = recipe_questions(recipe, encoder)
    warm_ups = {}
    for role, settings in recipe.models.items():
        if settings.warm_up is not None and settings.warm_up.files:
            data = _data_of(recipe, settings.warm_up.files)
            warm_ups[role] = _prepare(recipe, data, encoder, f"tokenise warm-up of {role}", progress)
    for role in {"base", *needs} & models.keys():
        _check_role(recipe, role, models[role], base, encoder, examples)
        _check_layers(needs.get(role, ()), models[role])
    plan = Plan(recipe, encoder, examples, held_out, questions, warm_ups, arms, needs, models)
    _check_disk(plan)
    return plan


def recipe_encoder(recipe: Recipe, base: ModelSettings) -> Encoder:
    """Load a recipe's tokenizer and chat template."""
    tokenizer = recipe.data.tokenizer or base.path  # one of its own is another repository, with revisions of its own
    revision = base.revision if tokenizer == base.path else None
    return load_encoder(str(local_folder(tokenizer, revision, weights=False)), recipe.data.chat_template)


def recipe_questions(recipe: Recipe, encoder: Encoder) -> tuple[Question, ...]:
    """Read a recipe's prompts and answers; none where it asks for no exact match."""
    if (match := recipe.evaluate.exact_match) is None:
        return ()
    data = dataclasses.replace(_data_of(recipe, match.files), limit=match.limit)
    return tuple(read_questions(data, encoder, match.extract))


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


def _arms(recipe: Recipe) -> tuple[Arm, ...]:
    arms: list[Arm] = []
    for number, given in enumerate([recipe.method, *recipe.controls]):
        parameters = dict(given)
        name = parameters.pop("name", None)
        where = "recipe: method" if number == 0 else f"recipe: controls.{number - 1}"
        if not isinstance(name, str):
            raise TokensieveError("a method needs a name", where=where, hint="method: {name: token-cleaning}")
        follows = number > 0 and "fraction" not in parameters
        try:
            if name == "random":
                parameters = {"seed": recipe.seed, **parameters}
            method = get_method(name, **parameters)
        except TokensieveError as error:
            raise TokensieveError(error.what, where=where, hint=error.hint) from error
        same = sum(arm.method.name == name for arm in arms)
        arms.append(Arm(f"{name}-{same + 1}" if same else name, method, follows and isinstance(method, FractionMethod)))
    return tuple(arms)


def _reads(recipe: Recipe, method: Method) -> list[tuple[str, str, StatisticSpec]]:
    """Return role, the recipe's role that stands for it, and statistic, for all that can be measured before training.

    Without a model of their own, the base stands for the history and, before the first step, for the model in training.
    """
    found = []
    for role, name in sorted(method.needs):
        source = "base" if role in ("history", "current") and role not in recipe.models else role
        if not isinstance(method.rule, TopExamples) and role not in method.provides:
            found.append((role, source, StatisticSpec.of(name, method.options(name))))
    return found


def _needs(recipe: Recipe, arms: tuple[Arm, ...]) -> dict[str, tuple[StatisticSpec, ...]]:
    needs: dict[str, set[StatisticSpec]] = {}
    for arm in arms:
        for _, source, spec in _reads(recipe, arm.method):
            if source not in recipe.models:
                raise TokensieveError(
                    f"method '{arm.method.name}' needs {spec.name} of a model in the role '{source}', and none is "
                    "given",
                    where=f"recipe: models.{source}",
                    hint=f"name it with models.{source}.path or models.{source}.adapter, or have it made with "
                    f"models.{source}.warm_up: {{rows: 1000}}",
                )
            needs.setdefault(source, set()).add(spec)
    for role in recipe.models if recipe.measure.statistics else ():
        needs.setdefault(role, set()).update(StatisticSpec(name) for name in recipe.measure.statistics)
    return {role: tuple(sorted(needs[role], key=lambda f: f.key)) for role in recipe.models if role in needs}


def _check_scope(recipe: Recipe, arm: Arm, leads: bool) -> None:
    """Refuse to rank within training batches where there are none."""
    offline = not arm.method.online or "current" in recipe.models
    own_rule = not arm.follows and not (leads and recipe.select.threshold is not None)
    if offline and own_rule and getattr(arm.method.rule, "scope", None) == "batch":
        raise TokensieveError(
            f"method '{arm.method.name}' is to rank within each training batch, and offline there is none",
            where=f"recipe: {'models.current' if arm.method.online else 'scope'}",
            hint="leave out models.current, so that it selects while the model trains"
            if arm.method.online
            else "scope: dataset or scope: example",
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


def base_model(recipe: Recipe) -> ModelSettings:
    """Return the model that is fine-tuned.

    Raises:
        TokensieveError: none is given.
    """
    base = recipe.models.get("base")
    if base is None or base.path is None or base.warm_up is not None:
        raise TokensieveError("no base model", where="recipe: models.base", hint="models: {base: FOLDER_OR_HUB_ID}")
    return role_model(base, None)


def role_model(settings: RoleSettings, base: ModelSettings | None) -> ModelSettings:
    """Return the model of a role that exists; what it does not say, the base says where the weights are the same."""
    path = settings.path or (base.path if base else None)
    assert path is not None
    inherit = base is not None and settings.path is None
    return ModelSettings(
        path,
        settings.adapter,
        base.revision if base and inherit else settings.revision,
        base.dtype if base and inherit and settings.dtype == "auto" else settings.dtype,
        base.trust_remote_code if base and inherit else settings.trust_remote_code,
    )


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


def _data_of(recipe: Recipe, files: tuple[str, ...]) -> Any:
    return dataclasses.replace(recipe.data, files=files, limit=None)


def _prepare(recipe: Recipe, data: Any, encoder: Encoder, description: str, progress: StageProgress) -> ExampleStore:
    with progress.stage(description, None, "rows") as advance:
        examples = prepare(data, encoder, recipe.store_folder, advance)
    for warning in examples.counts.warnings():
        progress.note(f"warning: {warning}")
    return examples


def _check_role(
    recipe: Recipe, role: str, model: ModelSettings, base: ModelSettings, encoder: Encoder, examples: ExampleStore
) -> None:
    counts = examples.counts
    try:
        check_model(model, counts.largest_id, counts.largest_id_at, counts.lengths["1"])
    except TokensieveError as error:
        raise TokensieveError(error.what, where=f"{error.where} (models.{role})", hint=error.hint) from error
    folder = local_folder(model.path, model.revision, weights=False)
    if model.path != base.path and (folder / "tokenizer_config.json").is_file():
        check_same_ids(recipe.data, encoder, str(folder))


def _check_disk(plan: Plan) -> None:
    """Refuse to start a run that the disk cannot hold, by estimate."""
    counts, arms = plan.examples.counts, len(plan.arms)
    statistics = 4 * counts.tokens * sum(len(names) for names in plan.needs.values())
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
