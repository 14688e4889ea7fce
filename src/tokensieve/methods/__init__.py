"""One file per method. Every module of this folder is imported and its methods are found by name."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from functools import cache
from typing import Any

from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.methods._base import Method


@cache
def all_methods() -> dict[str, type[Method]]:
    """Return every method class by its name, in alphabetical order."""
    found: dict[str, type[Method]] = {}
    for module_info in pkgutil.iter_modules(__path__):
        if module_info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            if member.__module__ == module.__name__ and issubclass(member, Method):
                found[member.name] = member
    return dict(sorted(found.items()))


def get_method(name: str, **hyperparameters: Any) -> Method:
    """Return a method with the given hyper-parameters; the others keep their defaults.

    Args:
        name: a name of ``tokensieve methods``, such as ``token-cleaning``.
        hyperparameters: fields of the method, such as ``fraction=0.6``.

    Raises:
        TokensieveError: an unknown method or hyper-parameter, or a value out of range.
    """
    methods = all_methods()
    if name not in methods:
        raise TokensieveError(
            f"unknown method '{name}'{did_you_mean(name, methods)}",
            mend=f"one of: {', '.join(methods)}",
        )
    known = [field.name for field in dataclasses.fields(methods[name])]
    for parameter in hyperparameters:
        if parameter not in known:
            raise TokensieveError(
                f"method '{name}' has no hyper-parameter '{parameter}'{did_you_mean(parameter, known)}",
                mend=f"one of: {', '.join(known) or 'it has none'}",
            )
    return methods[name](**hyperparameters)
