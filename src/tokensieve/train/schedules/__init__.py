"""How scoring and training take turns: one file for each schedule, found by the name that `Method.schedule` gives.

Schedules of other packages come through the entry points of the group `GROUP`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import pkgutil
from functools import cache

from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.methods._base import Method
from tokensieve.train.schedules._base import Schedule

GROUP = "tokensieve.schedules"


@cache
def schedule_of(method: type[Method]) -> Schedule:
    """Return the schedule of a method.

    Raises:
        TokensieveError: no schedule has the name that the method gives, or one of another package cannot be used.
    """
    name = method.schedule
    own = _own_schedules()
    if name in own:
        return own[name]()
    points = importlib.metadata.entry_points(group=GROUP, name=name)
    if not points:
        known = sorted({*own, *importlib.metadata.entry_points(group=GROUP).names})
        raise TokensieveError(
            f"method '{method.name}' has an unknown schedule '{name}'{did_you_mean(name, known)}",
            where=f"{method.__module__}.{method.__qualname__}.schedule",
            hint=f"one of: {', '.join(known)}; an installed package can add one through the entry points {GROUP}",
        )
    point = next(iter(points))
    try:
        found = point.load()
    except (Exception, SystemExit) as error:  # whatever another package raises when it is imported
        raise _refused(point, f"cannot be imported: {type(error).__name__}: {error}") from error
    if not inspect.isclass(found) or not issubclass(found, Schedule):
        raise _refused(point, "is not a subclass of tokensieve.Schedule")
    return found()


def _refused(point: importlib.metadata.EntryPoint, fault: str) -> TokensieveError:
    return TokensieveError(
        f"the schedule '{point.name}' {fault}",
        where=f"entry point '{point.name}' of {GROUP}: {point.value}",
        hint="update or uninstall the package that offers it",
    )


@cache
def _own_schedules() -> dict[str, type[Schedule]]:
    found: dict[str, type[Schedule]] = {}
    for module_info in pkgutil.iter_modules(__path__):
        if not module_info.name.startswith("_"):
            module = importlib.import_module(f"{__name__}.{module_info.name}")
            for _, member in inspect.getmembers(module, inspect.isclass):
                if member.__module__ == module.__name__ and issubclass(member, Schedule):
                    found[member.name] = member
    return found
