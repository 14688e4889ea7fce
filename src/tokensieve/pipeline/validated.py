"""Settings from plain values, and what pydantic finds wrong with them in the words of recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from itertools import chain
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from tokensieve.containers import Role
from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.setting_types import shown, what_it_must_be

_UNKNOWN_KEY = ("unexpected_keyword_argument", "invalid_key")


@dataclass(frozen=True)
class Where:
    """Where a key stands, for messages.

    Attributes:
        source: the file, or the command line.
        lines: where each key was set that was.
    """

    source: str
    lines: dict[tuple[str, ...], str]

    def of(self, key: tuple[str, ...]) -> str:
        """Return ``file:line: key``, or the override that set the key."""
        around = (self.lines[key[:length]] for length in range(len(key), 0, -1) if key[:length] in self.lines)
        within = (line for inner, line in self.lines.items() if inner[: len(key)] == key)
        return ": ".join(filter(None, (next(chain(around, within), self.source), ".".join(key))))


def validated(settings: Any, values: Mapping[str, Any], where: Where, section: tuple[str, ...] = ()) -> Any:
    """Return settings that have these values.

    Args:
        settings: the type of them, of dataclasses.
        values: as YAML has them.
        where: the values were written.
        section: the key of the settings within the recipe; empty for the recipe.

    Raises:
        TokensieveError: an unknown key, a value that the settings refuse, or a required key that is missing.
    """
    try:
        return _adapter(settings).validate_python(values)
    except ValidationError as error:
        found: list[Any] = error.errors()
        # An unknown key first, so that a typo in a required key is reported as a typo.
        first = next((item for item in found if item["type"] in _UNKNOWN_KEY), found[0])
        written = [(_written_key(item, values), item) for item in found]
        start = _written_key(first, values)
        # Of the types that a value may have, the one of which an item is wrong is what was meant.
        key = max((key for key, _ in written if key[: len(start)] == start), key=len)
        same = [item for other, item in written if other == key]
        raise _explained(settings, same, (*section, *key), where) from error


@cache
def _adapter(settings: Any) -> TypeAdapter[Any]:
    return TypeAdapter(settings)


def _explained(settings: Any, errors: list[Any], key: tuple[str, ...], where: Where) -> TokensieveError:
    """Return what pydantic says of a key of some settings, in the words of recipes."""
    first = errors[0]
    own = first.get("ctx", {}).get("error")
    if isinstance(own, TokensieveError):  # what the settings check themselves
        # Settings that stand in several places name a key of theirs as `.limit`.
        told = ".".join(key) + own.where if own.where[:1] in ("", ".") else own.where.removeprefix("recipe: ")
        return TokensieveError(own.what, where=where.of(tuple(told.split("."))), hint=own.hint)
    name, place = ".".join(key), where.of(key)
    if first["type"] in _UNKNOWN_KEY:
        known = [item.name for item in fields(_settings_at(settings, first["loc"][:-1]))]
        section = ".".join(key[:-1]) or "a recipe"
        return TokensieveError(
            f"unknown key '{key[-1]}'{did_you_mean(key[-1], known)}",
            where=place,
            hint=f"{section} has: {', '.join(known)}",
        )
    if first["type"] == "missing":
        return TokensieveError(
            f"'{name}' is required",
            where=place,
            hint=f"name it in the recipe or as {name}=...; `tokensieve recipes` lists recipes to start from",
        )
    if first["loc"][-1:] == ("[key]",) and first["type"] == "literal_error":
        roles = get_args(Role)
        return TokensieveError(
            f"unknown role '{key[-1]}'{did_you_mean(key[-1], roles)}", where=place, hint=f"one of: {', '.join(roles)}"
        )
    takes = ".".join(part for part in key if not part.isdigit())
    out = f"leave {name} out for its default; " if first["input"] is None else ""
    subject = "the key" if first["loc"][-1:] == ("[key]",) else name
    return TokensieveError(
        f"{subject} is {shown(first['input'])}, it must be {what_it_must_be(errors)}",
        where=place,
        hint=f"{out}`tokensieve recipes --keys` says what {takes} takes",
    )


def _written_key(error: Mapping[str, Any], values: Any) -> tuple[str, ...]:
    """Return the key of an error as the recipe has it: pydantic also names what a short spelling stands for."""
    key: list[str] = []
    for part in error["loc"]:
        is_there = part in values if isinstance(values, dict) else isinstance(values, list) and isinstance(part, int)
        if is_there:
            key.append(str(part))
            values = values[part]
    # A key that is no text is not in the place where pydantic says that it is.
    last = str(error["loc"][-1]) if error["loc"] else repr(error["input"])
    return (*key, last) if error["type"] == "missing" or not key else tuple(key)


def _settings_at(hint: Any, loc: Sequence[Any]) -> Any:
    """Return the class of the settings at a place within others."""
    if is_dataclass(hint):
        return _settings_at(get_type_hints(hint)[loc[0]], loc[1:]) if loc else hint
    choices = get_args(hint)
    if get_origin(hint) is dict:
        return _settings_at(choices[1], loc[1:])
    if get_origin(hint) is tuple:
        return _settings_at(choices[0], loc[1:])
    chosen = [choice for choice in choices if is_dataclass(choice) and getattr(choice, "__name__", "") in loc[:1]]
    return _settings_at(chosen[0], loc[1:]) if chosen else _settings_at(choices[0], loc)
