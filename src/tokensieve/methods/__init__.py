"""One file per method. tokensieve imports every module of this folder and finds its methods by name.

Other packages can add methods through entry points (`_plugins`).
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import warnings
from functools import cache
from typing import Any

from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.methods._base import Method
from tokensieve.methods._plugins import Plugin, plugins


@cache
def all_methods() -> dict[str, type[Method]]:
    """Return every method class by name, in alphabetical order, including those of other packages.

    An unusable method of another package is left out, with a warning that names the package.
    """
    found = dict(_own_methods())
    for name in plugins():
        try:
            found[name] = _class_of(name)
        except TokensieveError as error:
            warnings.warn(f"method left out: {error}", stacklevel=2)
    return dict(sorted(found.items()))


def get_method(name: str, **hyperparameters: Any) -> Method:
    """Return a method with the given hyper-parameters; the others keep their defaults.

    Args:
        name: a name that ``tokensieve methods`` lists, such as ``token-cleaning``.
        hyperparameters: fields of the method, such as ``fraction=0.6``.

    Raises:
        TokensieveError: the method or a hyper-parameter is unknown, a value is out of range, or a method of another
            package cannot be used.
    """
    cls = _class_of(name)
    known = [field.name for field in dataclasses.fields(cls)]
    for parameter in hyperparameters:
        if parameter not in known:
            raise TokensieveError(
                f"method '{name}' has no hyper-parameter '{parameter}'{did_you_mean(parameter, known)}",
                hint=f"one of: {', '.join(known) or 'it has none'}",
            )
    return cls(**hyperparameters)


def package_of(name: str) -> str | None:
    """Return the package that a method comes from, with its version; None for built-in methods."""
    return None if name in _own_methods() else _plugin(name).package


@cache
def _own_methods() -> dict[str, type[Method]]:
    found: dict[str, type[Method]] = {}
    for module_info in pkgutil.iter_modules(__path__):
        if module_info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            if member.__module__ == module.__name__ and issubclass(member, Method):
                found[member.name] = member
    return found


@cache
def _class_of(name: str) -> type[Method]:
    """Return a method's class; of the other packages' classes, only this one is imported."""
    own = _own_methods()
    if name in own and name in plugins():
        offered = " and ".join(plugin.package for plugin in plugins()[name])
        warnings.warn(
            f"the package {offered} offers a method '{name}', which is also the name of a built-in method: "
            "the built-in method is used",
            stacklevel=3,
        )
    return own[name] if name in own else _plugin(name).load()


def _plugin(name: str) -> Plugin:
    offered = list(plugins().get(name, ()))
    if not offered:
        names = sorted({*_own_methods(), *plugins()})
        raise TokensieveError(f"unknown method '{name}'{did_you_mean(name, names)}", hint=f"one of: {', '.join(names)}")
    if len(offered) > 1:
        packages = [plugin.package for plugin in offered]
        raise TokensieveError(
            f"the packages {' and '.join(packages)} both offer a method '{name}'",
            hint=f"uninstall one of them: pip uninstall {packages[0].partition(' ')[0]}",
        )
    return offered[0]
