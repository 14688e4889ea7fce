"""What a search tries: the methods that a recipe has the models for, each with every fraction that it can have."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from tokensieve.containers import Role
from tokensieve.errors import TokensieveError
from tokensieve.methods import all_methods, get_method
from tokensieve.methods._base import FractionMethod, Method
from tokensieve.pipeline.plan import keeps_everything, ways_to_name
from tokensieve.pipeline.recipe import Recipe
from tokensieve.search.halving import Candidate
from tokensieve.train.schedules import schedule_of

AUTO = "auto"
"""The fraction that stands for one that a search decides."""
_NEVER = {
    "random": "is the control of every candidate, and cannot be one",
    "full": "keeps every token: a search trains it anyway",
    "marked": "is the true mask: where the data has marks, the answer compares with it",
}
"""What is no candidate, and why."""


def searched_methods(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Return the methods that a search tries, by their labels, with hyper-parameters but without a fraction.

    Raises:
        TokensieveError: a method that cannot be tried, or none.
    """
    given = recipe.search.methods or tuple(_usable(recipe))
    if not given:
        raise TokensieveError(
            "the recipe has the models of no method that a search tries",
            where="recipe: search.methods",
            hint="name methods, or give the model that one needs, such as models.reference; `tokensieve methods` "
            "lists what each needs",
        )
    found: dict[str, dict[str, Any]] = {}
    for number, choice in enumerate(given):
        where = f"recipe: search.methods.{number}"
        try:
            _check(recipe, choice)
        except TokensieveError as error:
            raise TokensieveError(error.what, where=where, hint=error.hint) from error
        same = sum(one["name"] == choice["name"] for one in found.values())
        found[f"{choice['name']}-{same + 1}" if same else choice["name"]] = dict(choice)
    return found


def candidates(methods: Mapping[str, Any], fractions: tuple[float, ...]) -> list[Candidate]:
    """Return the candidates in order of preference: every method at the first fraction, then at the second.

    A method that decides by itself how much it keeps is among the first.
    """
    first = [Candidate(label, fraction_of(choice, fractions[0]).get("fraction")) for label, choice in methods.items()]
    with_fraction = [one.method for one in first if one.fraction is not None]
    return [*first, *(Candidate(label, fraction) for fraction in fractions[1:] for label in with_fraction)]


def fraction_of(choice: Mapping[str, Any], fraction: float) -> dict[str, float]:
    """Return the hyper-parameter that sets a method's fraction; empty where it decides by itself how much it keeps."""
    return {"fraction": fraction} if issubclass(all_methods()[choice["name"]], FractionMethod) else {}


def _usable(recipe: Recipe) -> Iterator[dict[str, Any]]:
    """Yield the methods that a search tries unless told otherwise, the recipe's own first, as it is set."""
    own = {name: value for name, value in recipe.method.items() if name != "fraction"}
    for name, cls in sorted(all_methods().items(), key=lambda item: item[0] != own.get("name")):
        if name in _NEVER or not (issubclass(cls, FractionMethod) or own.get("name") == name):
            continue
        method, schedule = cls(), schedule_of(cls)
        if keeps_everything(method.rule):
            continue
        online = method.online and "current" not in recipe.models
        if not (online or schedule.trains or schedule.refined_role(method) or _missing_roles(recipe, method)):
            yield own if own.get("name") == name else {"name": name}


def _check(recipe: Recipe, choice: Mapping[str, Any]) -> None:
    parameters = dict(choice)
    name = parameters.pop("name", None)
    if not isinstance(name, str):
        raise TokensieveError("a method needs a name", hint="search.methods: [token-cleaning, entropy]")
    if "fraction" in parameters:
        raise TokensieveError(
            f"method '{name}' has a fraction, and search.fractions says which are tried",
            hint="leave the fraction out",
        )
    method = get_method(name, **parameters)
    if name in _NEVER:
        raise TokensieveError(f"{name} {_NEVER[name]}", hint=f"one of: {', '.join(_candidates())}")
    if not isinstance(method, FractionMethod) and method.online:
        raise TokensieveError(
            f"method '{name}' selects while the model trains and has no fraction, so a search cannot draw its control",
            hint=f"one of: {', '.join(_candidates())}",
        )
    if keeps_everything(method.rule) and not isinstance(method, FractionMethod):
        raise TokensieveError(
            f"{name} trains on every token, so no random control has the same size",
            hint=f"one of: {', '.join(_candidates())}",
        )
    if schedule_of(type(method)).trains:
        raise TokensieveError(
            f"method '{name}' trains in rounds, so that its optimizer steps cannot equal those of the controls",
            hint="leave it out; `tokensieve run` compares it with its controls",
        )
    if missing := _missing_roles(recipe, method):
        raise TokensieveError(
            f"method '{name}' needs a model in the role '{missing[0]}', and the recipe names none",
            hint=f"{ways_to_name(missing[0])}; or leave the method out",
        )


def _missing_roles(recipe: Recipe, method: Method) -> list[Role]:
    provided = {*recipe.models, "history", "current", *schedule_of(type(method)).provides}
    needed: set[Role] = {role for role, _ in method.needs}
    return sorted(needed.difference(provided))


def _candidates() -> list[str]:
    return [
        name
        for name, cls in all_methods().items()
        if name not in _NEVER
        and (issubclass(cls, FractionMethod) or not (cls().online or keeps_everything(cls().rule)))
    ]


def is_automatic(recipe: Recipe) -> bool:
    """Whether a search decides the fraction of the recipe's method."""
    return recipe.method.get("fraction") == AUTO


def for_one_method(recipe: Recipe) -> Recipe:
    """Return the recipe whose search decides the fraction of the recipe's method alone.

    Raises:
        TokensieveError: a method without a fraction.
    """
    name = recipe.method["name"]
    if not isinstance(get_method(name), FractionMethod):
        raise TokensieveError(
            f"method '{name}' has no fraction to search", where="recipe: method.fraction", hint="leave it out"
        )
    choice = {name: value for name, value in recipe.method.items() if name != "fraction"}
    return dataclasses.replace(recipe, search=dataclasses.replace(recipe.search, methods=(choice,)))
