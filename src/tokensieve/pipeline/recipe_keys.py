"""The reference of recipe keys, from the settings and their docstrings."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

import docstring_parser

from tokensieve.containers import Role
from tokensieve.methods import all_methods
from tokensieve.pipeline.recipe import Recipe
from tokensieve.setting_types import spelled
from tokensieve.train.settings import DEFAULT_ARGUMENTS


@dataclass(frozen=True)
class Key:
    """A key of a recipe.

    Attributes:
        name: the keys that lead to it, joined by dots.
        default: its value when not given, as a recipe spells it; ``required`` and ``see below`` where there is none.
        meaning: what it does, on one line.
    """

    name: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Section:
    """Keys that stand under one key.

    Attributes:
        name: of the key that they stand under; empty for the top level.
        summary: what they are for.
        keys: one after the other.
    """

    name: str
    summary: str
    keys: tuple[Key, ...]


def sections() -> Iterator[Section]:
    """Yield the sections of a recipe: the top level, then each section before those within it, each of them once."""
    yield from _sections(Recipe, "", set())


def _sections(settings: Any, name: str, seen: set[Any]) -> Iterator[Section]:
    prefix = f"{name}." if name else ""
    summary = docstring_parser.parse(settings.__doc__ or "").short_description or ""
    texts, hints = meanings(settings), get_type_hints(settings)
    fields = sorted(dataclasses.fields(settings), key=lambda field: bool(field.kw_only))  # what is inherited comes last
    keys = (Key(prefix + field.name, default(field), texts.get(field.name, "")) for field in fields)
    yield Section(name, summary, tuple(keys))
    for field in fields:
        under = prefix + field.name + {dict: ".ROLE", tuple: ".N"}.get(get_origin(hints[field.name]), "")
        for nested in _settings_in(hints[field.name]):
            if nested not in seen:
                seen.add(nested)
                yield from _sections(nested, under, seen)


def override_keys() -> list[str]:
    """Return the names of all keys that the command line may set, with roles and hyper-parameters in place."""
    written = [key.name for section in sections() if ".N" not in section.name for key in section.keys]
    roles = [key.replace("ROLE", role) for key in written for role in (get_args(Role) if "ROLE" in key else ("",))]
    methods = [field.name for method in all_methods().values() for field in dataclasses.fields(method)]
    arguments = [f"train.{name}" for name in DEFAULT_ARGUMENTS]
    models = [f"models.{role}" for role in get_args(Role)]
    own = [key for key in roles if key != "train.arguments"]
    return sorted({*own, *models, *arguments, "method.name", *(f"method.{name}" for name in methods)})


def meanings(settings: Any) -> dict[str, str]:
    """Return the text of each attribute in the docstrings of a class and of its bases, on one line."""
    parts = [docstring_parser.parse(part.__doc__ or "").params for part in reversed(settings.__mro__)]
    return {item.arg_name: re.sub(r"\s+", " ", item.description or "").strip() for part in parts for item in part}


def default(field: dataclasses.Field[Any]) -> str:
    """Return the default of a field as a recipe spells it."""
    if field.default is not dataclasses.MISSING:
        return spelled(field.default)
    if field.default_factory is dataclasses.MISSING:
        return "required"
    made = field.default_factory()
    return "see below" if dataclasses.is_dataclass(made) else spelled(made)


def _settings_in(hint: Any) -> list[Any]:
    if dataclasses.is_dataclass(hint):
        return [hint]
    return [found for argument in get_args(hint) for found in _settings_in(argument)]
