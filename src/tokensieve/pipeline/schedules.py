"""What methods that take turns with training ask of a recipe and its data, checked before any model is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from tokensieve.data.prepare import ExampleStore
from tokensieve.errors import TokensieveError
from tokensieve.methods._base import Method
from tokensieve.methods.self_evolving import SelfEvolving
from tokensieve.methods.toss_pro import TossPro
from tokensieve.pipeline.recipe import Recipe
from tokensieve.train.settings import DEFAULT_ARGUMENTS
from tokensieve.train.validation import KEPT, check_batches, check_loss


def check_schedules(recipe: Recipe, methods: Sequence[Method]) -> None:
    """Check what a recipe says by itself.

    Raises:
        TokensieveError: a method that trains without a ``train`` section, a model to be refined that is finished or has
            no data of its own, or an arm that would read another's refined model.
    """
    for method in methods:
        if method.schedule == "self-evolving" and recipe.train is None:
            raise TokensieveError(
                f"method '{method.name}' trains as it selects, and the recipe trains nothing",
                where="recipe: train",
                hint="give a train section, or use method token-cleaning",
            )
        if method.schedule == "refined-reference":
            _check_refined(recipe, method, methods)


def check_pool(methods: Sequence[Method], examples: ExampleStore) -> None:
    """Check the schedules against the data.

    Raises:
        TokensieveError: more parts, or more examples to add, than the data has examples.
    """
    count = examples.counts.examples
    for method in methods:
        if isinstance(method, SelfEvolving) and method.subsets > count:
            raise TokensieveError(
                f"method '{method.name}' splits the data into {method.subsets} subsets, and it has {count} examples",
                where="recipe: method.subsets",
                hint=f"method.subsets: {count} at most" if count > 1 else "more data",
            )
        if isinstance(method, TossPro) and method.rounds * method.added > count:
            raise TokensieveError(
                f"method '{method.name}' adds {method.added} examples in each of {method.rounds} rounds, and the data "
                f"has {count}",
                where="recipe: method.added",
                hint=f"method.added: {max(1, count // method.rounds)} at most, or fewer rounds",
            )


def is_online(recipe: Recipe, method: Method) -> bool:
    """Whether a method reads the model in training: the recipe gives no fixed model for the role `current`."""
    return method.online and "current" not in recipe.models


def selects_in_training(recipe: Recipe, method: Method) -> bool:
    """Whether an arm is trained by `TokenSelectionTrainer`: the cleaned labels alone do not say all of it."""
    return is_online(recipe, method) or method.weighted or method.divide_by == "trainable"


def check_training(recipe: Recipe, method: Method) -> None:
    """Refuse training settings that a method which selects while the model trains cannot work with.

    Raises:
        TokensieveError: fewer examples in a batch than the method keeps, packing of rows that it must see whole, or a
            loss that its selection does not reach.
    """
    assert recipe.train is not None
    if not selects_in_training(recipe, method):
        return
    arguments = {**DEFAULT_ARGUMENTS, **recipe.train.arguments}
    packed = bool(arguments.get("packing") or arguments.get("padding_free"))
    columns = () if is_online(recipe, method) else (KEPT,)
    check_batches(method, arguments["per_device_train_batch_size"], packed, columns, "recipe: train.")
    check_loss(method, arguments, columns, "recipe: train.")


def _check_refined(recipe: Recipe, method: Method, methods: Sequence[Method]) -> None:
    role = method.refines
    assert role is not None
    settings = recipe.models.get(role)
    if settings is None or settings.warm_up is None or not settings.warm_up.files:
        fault = "none is given" if settings is None else "a finished one is given"
        if settings is not None and settings.warm_up is not None:
            fault = "its warm_up names no files"
        raise TokensieveError(
            f"method '{method.name}' trains the model in the role '{role}' again in each round, from the base on a "
            f"growing harmful set: {fault}",
            where=f"recipe: models.{role}",
            hint=f"models.{role}: {{warm_up: {{files: [HARMFUL.jsonl]}}}}, or method toss for a finished model",
        )
    for other in methods:
        if any(role == needed for needed, _ in other.needs) and _rounds(other) != _rounds(method):
            raise TokensieveError(
                f"'{other.name}' would read the model in the role '{role}' as '{method.name}' refines it",
                where="recipe: controls",
                hint="give it a recipe of its own with the same store: nothing is made or measured twice",
            )


def _rounds(method: Method) -> tuple[int, int] | None:
    return (method.rounds, method.added) if isinstance(method, TossPro) else None
