"""What a recipe means, decided once: arms, rules, what each arm reads, and what is selected while a model trains.

A plan is made from the recipe alone. It reads no model and no data; `inputs` adds both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokensieve.containers import Role, Scope, StatisticSpec
from tokensieve.engines import check_engine
from tokensieve.errors import TokensieveError
from tokensieve.measure.statistics import check_measurable
from tokensieve.methods import get_method
from tokensieve.methods._base import FractionMethod, Method
from tokensieve.methods.random_control import Random
from tokensieve.models.settings import ModelSettings
from tokensieve.ops.rules import Rule, Threshold, TopExamples, TopFraction, in_words
from tokensieve.pipeline.recipe import Recipe, RoleSettings, train_settings
from tokensieve.pipeline.reward import check_reward
from tokensieve.train.schedules import schedule_of
from tokensieve.train.schedules._base import Intent, Schedule
from tokensieve.train.settings import DEFAULT_ARGUMENTS, TrainSettings, check_arguments
from tokensieve.train.validation import KEPT, check_batches, check_loss

_OWN_SHARE = {"fraction", "examples", "as_many_as"}
"""Hyper-parameters with which a control says itself how much it keeps."""


@dataclass(frozen=True)
class Reading:
    """A statistic that a method reads, and the model that it is measured with.

    Attributes:
        role: of the model, as the method calls it.
        source: role of the model in the recipe. The base replaces the history and, before the first step, for the
            model in training, where the recipe names none.
        spec: the statistic.
    """

    role: Role
    source: Role
    spec: StatisticSpec


@dataclass(frozen=True)
class Arm:
    """One way to select tokens: the method of the recipe, or a control.

    Attributes:
        name: of its folder and its row in the table.
        method: what scores.
        rule: what decides; None where the arm keeps as many tokens as the recipe's method does.
        share: how many tokens it keeps and why, in words.
        as_many_as: the arm that it keeps as many tokens as, where it is the random control of one.
        online: whether it reads the model in training.
        selects_in_training: whether it is trained by `TokenSelectionTrainer`, since its labels do not say everything.
        reads: what can be measured before the training, in alphabetical order.
        schedule: how its scoring and training take turns.
        by_seed: whether what it selects depends on the seed of the run, so that each seed selects again.
    """

    name: str
    method: Method
    rule: Rule | None
    share: str
    as_many_as: str | None
    online: bool
    selects_in_training: bool
    reads: tuple[Reading, ...]
    schedule: Schedule
    by_seed: bool

    def with_seed(self, name: str, seed: int) -> Arm:
        """Return the arm as it selects with a seed of the run, under the name that progress gives it."""
        drawn = self.by_seed and self.method.name == "random"
        method = dataclasses.replace(self.method, **{"seed": seed}) if drawn else self.method
        return dataclasses.replace(self, name=name, method=method)


@dataclass(frozen=True)
class Plan:
    """A recipe with everything decided that follows from it alone.

    Attributes:
        recipe: the settings.
        base: the model that is fine-tuned.
        arms: the method first, then the controls.
        statistics: what to measure, by role of the recipe.
        refined: the arm whose schedule makes the model of a role, by role.
    """

    recipe: Recipe
    base: ModelSettings
    arms: tuple[Arm, ...]
    statistics: Mapping[Role, tuple[StatisticSpec, ...]]
    refined: Mapping[Role, Arm]

    @property
    def leader(self) -> Arm:
        """The arm of the recipe's method."""
        return self.arms[0]

    @property
    def train(self) -> TrainSettings:
        """How the arms are fine-tuned, and models to be made where the recipe says nothing else for them."""
        return self.recipe.train or TrainSettings()


def make_plan(recipe: Recipe) -> Plan:
    """Decide what a recipe means, and check what it says by itself.

    Raises:
        TokensieveError: the first thing that would make the run fail.
    """
    base = base_model(recipe)
    check_reward(recipe)
    for section, settings in train_sections(recipe):
        check_arguments(settings.arguments, section)
    arms = _arms(recipe)
    intent = Intent(
        [arm.method for arm in arms],
        recipe.train is not None,
        {role: settings.warm_up for role, settings in recipe.models.items()},
    )
    for arm in arms:
        arm.schedule.check(arm.method, intent)
    statistics = _statistics(recipe, arms)
    for arm in arms:
        _check_rule(recipe, arm)
        _check_training(recipe, arm)
    check_engine(recipe.engine)
    refined: dict[Role, Arm] = {
        role: arm for arm in arms if (role := arm.schedule.refined_role(arm.method)) is not None
    }
    return Plan(recipe, base, arms, statistics, refined)


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
    """Return the model of a role that exists; what it leaves open comes from the base where the path is the same."""
    if settings.path is None:
        assert base is not None
        dtype = base.dtype if settings.dtype == "auto" else settings.dtype
        return dataclasses.replace(base, adapter=settings.adapter, dtype=dtype)
    own = {field.name for field in dataclasses.fields(ModelSettings)} & vars(settings).keys()
    return ModelSettings(**{name: getattr(settings, name) for name in own})


def _arms(recipe: Recipe) -> tuple[Arm, ...]:
    arms: list[Arm] = []
    left_out = False
    for number, given in enumerate([recipe.method, *recipe.controls]):
        where = "recipe: method" if number == 0 else f"recipe: controls.{number - 1}"
        parameters = dict(given)
        name = parameters.pop("name", None)
        if not isinstance(name, str):
            raise TokensieveError("a method needs a name", where=where, hint="method: {name: token-cleaning}")
        if parameters.get("fraction") == "auto":
            raise TokensieveError(
                "a search decides the fraction of `method` alone", where=where, hint="give a number, or leave it out"
            )
        if name == "random" and arms and not _OWN_SHARE & parameters.keys() and keeps_everything(arms[0].rule):
            left_out = True
            continue
        same = sum(arm.method.name == name for arm in arms)
        label = f"{name}-{same + 1}" if same else name
        try:
            arms.append(_arm(recipe, label, name, parameters, arms[0] if arms else None))
        except TokensieveError as error:
            raise TokensieveError(error.what, where=where, hint=error.hint) from error
    if left_out:
        share = f"{arms[0].share}; no random control, which would keep every token too and be a second full"
        arms[0] = dataclasses.replace(arms[0], share=share)
    return tuple(arms)


def _arm(recipe: Recipe, label: str, name: str, parameters: dict[str, Any], leader: Arm | None) -> Arm:
    """Decide upon one arm.

    A control without a fraction takes its share from the method of the recipe (``leader``): `random` keeps as many
    tokens; every other one takes the fraction, and keeps its own scope and rounding.
    """
    method = get_method(name, **({"seed": recipe.seed, **parameters} if name == "random" else parameters))
    rule: Rule | None = method.rule
    share = method.selects_in_words
    as_many_as = None
    if leader is None and recipe.select.threshold is not None:
        rule = Threshold(recipe.select.threshold)
        share = in_words(rule)
    elif leader is not None and isinstance(method, FractionMethod) and not _OWN_SHARE & parameters.keys():
        if isinstance(method, Random):
            method, rule, share = _as_many(method, leader)
            as_many_as = leader.name
        elif (fraction := _kept_fraction(leader)) is not None:
            method = dataclasses.replace(method, fraction=fraction)
            rule, share = method.rule, f"{in_words(method.rule)}: the fraction of {leader.name}"
    online = method.online and "current" not in recipe.models
    schedule = schedule_of(type(method))
    return Arm(
        label,
        method,
        rule,
        share,
        as_many_as,
        online,
        online or method.weighted or method.divide_by == "trainable",
        _reads(recipe, method, schedule),
        schedule,
        schedule.trains or (name == "random" and "seed" not in parameters),
    )


def _as_many(method: Random, leader: Arm) -> tuple[Random, Rule | None, str]:
    """Return the random control that keeps as much as the recipe's method, its rule, and its share in words.

    It draws as many tokens of the data set; beside a method that selects while the model trains, as many examples or
    tokens of each batch or example as that keeps. How many are above a threshold depends on the model: there the
    control counts what the method would keep, with the model that it trains itself.
    """
    match leader.rule:
        case TopExamples(examples) if leader.online:
            drawn = dataclasses.replace(method, examples=examples)
            return drawn, drawn.rule, f"{examples} random examples of each batch, as many as {leader.name}"
        case TopFraction(_, scope, rounding) as rule if leader.online and not leader.method.chooses_rows:
            # A trainer sees a batch at a time: it takes a fraction of the data set within each.
            own: Scope = "example" if scope == "example" else "batch"
            drawn = dataclasses.replace(method, fraction=rule.kept_fraction, scope=own, rounding=rounding)
            return drawn, drawn.rule, f"as many tokens of each {own} as {leader.name}"
        case _ if leader.online and (isinstance(leader.rule, Threshold) or leader.method.chooses_rows):
            counted = {"name": leader.method.name, **dataclasses.asdict(leader.method)}
            drawn = dataclasses.replace(method, as_many_as=counted)
            return drawn, drawn.rule, f"as many tokens of each batch as {leader.name} would keep of it"
        case _:
            return method, None, f"as many tokens as {leader.name}"


def keeps_everything(rule: Rule | None) -> bool:
    """Whether a rule drops no token."""
    return isinstance(rule, TopFraction) and rule.kept_fraction == 1.0


def _kept_fraction(leader: Arm) -> float | None:
    """Return the fraction that the recipe's method keeps by its own setting; None where it has no such setting."""
    rule = None if leader.method.chooses_rows else leader.rule
    return rule.kept_fraction if isinstance(rule, TopFraction) and not keeps_everything(rule) else None


def _reads(recipe: Recipe, method: Method, schedule: Schedule) -> tuple[Reading, ...]:
    found = []
    for role, name in sorted(method.needs):
        source: Role = "base" if role in ("history", "current") and role not in recipe.models else role
        if not isinstance(method.rule, TopExamples) and role not in schedule.provides:
            found.append(Reading(role, source, method.spec(name)))
    return tuple(found)


def _statistics(recipe: Recipe, arms: Sequence[Arm]) -> dict[Role, tuple[StatisticSpec, ...]]:
    wanted: dict[Role, set[StatisticSpec]] = {}
    for arm in arms:
        for one in arm.reads:
            check_measurable(one.spec.name, f"method '{arm.method.name}': needs")
            if one.source not in recipe.models:
                raise TokensieveError(
                    f"method '{arm.method.name}' needs {one.spec.name} of a model in the role '{one.source}', and none "
                    "is given",
                    where=f"recipe: models.{one.source}",
                    hint=ways_to_name(one.source),
                )
            wanted.setdefault(one.source, set()).add(one.spec)
    for name in recipe.measure.statistics:
        check_measurable(name, "recipe: measure.statistics")
        if name == "reward" and "reward" not in recipe.models:
            raise TokensieveError(
                "only a model in the role 'reward' gives rewards, and none is given",
                where="recipe: measure.statistics",
                hint=ways_to_name("reward"),
            )
        for role in recipe.models:
            if (role == "reward") == (name == "reward"):
                wanted.setdefault(role, set()).add(StatisticSpec(name))
    return {role: tuple(sorted(wanted[role], key=lambda spec: spec.key)) for role in recipe.models if role in wanted}


def ways_to_name(role: Role) -> str:
    """Return how a recipe can name the model of a role, for the hint of an error."""
    if role == "reward":
        return "have it made with models.reward: {preferences: FILE}, or name a reward model with models.reward.path"
    return (
        f"name it with models.{role}.path or models.{role}.adapter, or have it made with models.{role}.warm_up: "
        "{rows: 1000}"
    )


def _check_rule(recipe: Recipe, arm: Arm) -> None:
    """Refuse a threshold that no trainer would use, and to rank within training batches where there are none."""
    if arm.online and isinstance(arm.rule, Threshold) and arm.rule != arm.method.rule:
        raise TokensieveError(
            f"method '{arm.method.name}' selects while the model trains, by a rule of its own, not by a threshold",
            where="recipe: select.threshold",
            hint="leave it out; method profit keeps the tokens above a probability",
        )
    if not arm.online and getattr(arm.rule, "scope", None) == "batch":
        raise TokensieveError(
            f"method '{arm.method.name}' is to rank within each training batch, which offline selection does not have",
            where=f"recipe: {'models.current' if arm.method.online else 'scope'}",
            hint="leave out models.current, so that it selects while the model trains"
            if arm.method.online
            else "scope: dataset or scope: example",
        )


def _check_training(recipe: Recipe, arm: Arm) -> None:
    """Refuse training settings that an arm which selects while the model trains cannot work with."""
    if recipe.train is None or not arm.selects_in_training:
        return
    arguments = {**DEFAULT_ARGUMENTS, **recipe.train.arguments}
    packed = bool(arguments.get("packing") or arguments.get("padding_free"))
    columns = () if arm.online else (KEPT,)
    check_batches(arm.method, arguments["per_device_train_batch_size"], packed, columns, "recipe: train.")
    check_loss(arm.method, arguments, columns, "recipe: train.")


def train_sections(recipe: Recipe) -> Iterator[tuple[str, TrainSettings]]:
    """Yield the sections of a recipe that say how to train, each with all its settings."""
    if recipe.train is not None:
        yield "train", recipe.train
    for role, settings in recipe.models.items():
        if settings.warm_up is not None:
            warm_up = train_settings(recipe.train or TrainSettings(), settings.warm_up.train)
            yield f"models.{role}.warm_up.train", warm_up
