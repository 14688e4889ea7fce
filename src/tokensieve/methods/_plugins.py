"""Methods of other packages: entry points of the group `GROUP`, imported on first use.

[project.entry-points."tokensieve.methods"]
my-method = "my_package.my_module:MyMethod"
"""

from __future__ import annotations

import importlib.metadata
import inspect
import re
from dataclasses import dataclass
from functools import cache

from tokensieve.errors import TokensieveError
from tokensieve.methods._base import Method

GROUP = "tokensieve.methods"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")  # the name becomes a folder name
_TAKEN = ("base", "reference", "imported")  # reserved names among the arms of a run


@dataclass(frozen=True)
class Plugin:
    """A method that an installed package offers.

    Attributes:
        name: name of the method.
        package: distribution that offers the method, with its version.
        target: location of the class, as ``module:attribute``.
    """

    name: str
    package: str
    target: str

    def load(self) -> type[Method]:
        """Import the class.

        Raises:
            TokensieveError: the class cannot be imported, or is not a method; the error names the package.
        """
        try:
            found = importlib.metadata.EntryPoint(self.name, self.target, GROUP).load()
        except (Exception, SystemExit) as error:  # a foreign module can raise anything on import
            raise self._refused(f"cannot be imported: {type(error).__name__}: {error}") from error
        fault = _fault(found, self.name)
        if fault:
            raise self._refused(fault)
        return found

    def _refused(self, fault: str) -> TokensieveError:
        return TokensieveError(
            f"the method '{self.name}' of the package {self.package} {fault}",
            where=f"entry point '{self.name}' of {GROUP}: {self.target}",
            hint=f"update or uninstall {self.package.partition(' ')[0]}; its authors can test the method with "
            "tokensieve.testing.check_method",
        )


@cache
def plugins() -> dict[str, tuple[Plugin, ...]]:
    """Return the methods that installed packages offer, by name in alphabetical order, without importing them."""
    found: dict[str, dict[str, Plugin]] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
        # A distribution that is on the path twice lists its entry points twice.
        found.setdefault(point.name, {}).setdefault(package, Plugin(point.name, package, point.value))
    return {name: tuple(found[name].values()) for name in sorted(found)}


def _fault(found: object, name: str) -> str:
    """Return why an object cannot be used as the named method; empty if it can."""
    if not _NAME.fullmatch(name):
        return "has a name with characters other than lower-case letters, digits, '-', '_' and '.'"
    if name in _TAKEN:
        return "has a reserved name"
    if not inspect.isclass(found) or not issubclass(found, Method):
        return "is not a subclass of tokensieve.Method"
    if getattr(found, "name", None) != name:
        return f"has the name {getattr(found, 'name', None)!r}, which differs from the entry point"
    if inspect.isabstract(found):
        return f"does not define {', '.join(sorted(found.__abstractmethods__))}"
    lacking = [part for part in ("summary", "formula") if not isinstance(getattr(found, part, None), str)]
    if lacking:
        return f"does not define {' and '.join(lacking)}"
    if "__dataclass_params__" not in vars(found) or not found.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return "is not decorated with @dataclass(frozen=True)"
    return ""
