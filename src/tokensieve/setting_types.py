"""How settings may be written, shared by the settings of every stage, and what is wrong with a value in plain words."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, with_config

from tokensieve.errors import TokensieveError
from tokensieve.outputs import output_place
from tokensieve.places import is_url, told

known_keys_only = with_config(ConfigDict(extra="forbid"))
"""Decorates a dataclass of settings: a key that it does not have is an error."""


_LONGEST_NAME = 255


class _Bare:
    def __repr__(self) -> str:
        return "bare value"


BARE = _Bare()
"""The key of a value that stands in place of a mapping which another key was then added to."""


def bare(key: str) -> BeforeValidator:
    """Let a bare text or list stand for a mapping with one key, such as a path for a model."""

    def spelled_out(value: Any) -> Any:
        if isinstance(value, str | list):
            return {key: value}
        if isinstance(value, dict) and BARE in value:
            return {key: value[BARE], **{name: item for name, item in value.items() if name is not BARE}}
        return value

    return BeforeValidator(spelled_out)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def absolute(source: str) -> str:
    """Return an absolute path where something is there or a glob could be; a URL or a Hub id stays as it is."""
    if is_url(source):
        return source
    path = _expanded(source)
    return str(Path(path).absolute()) if os.path.exists(path) or glob.has_magic(source) else source


def _folder(folder: str) -> str:
    """Return an absolute path, or the plain form of the URL of a folder in an object store."""
    return told(output_place(_expanded(folder)).absolute())


def _expanded(given: str) -> str:
    path = os.path.expanduser(given)
    longest = max((len(os.fsencode(part)) for part in path.split("/")), default=0) if _is_text(path) else 0
    if path.startswith("~") or not longest or longest > _LONGEST_NAME:
        fault = "starts with the name of no user of this machine" if path.startswith("~") else "can name no file"
        raise TokensieveError(
            f"{given!r:.60} {fault}", hint=f"a name is at most {_LONGEST_NAME} bytes of text; write ~ out"
        )
    return path


def _is_text(path: str) -> bool:
    return "\0" not in path and not any("\ud800" <= char <= "\udfff" for char in path)


one_or_more = BeforeValidator(_listed)
"""Lets a bare text stand for a list of one."""

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Share = Annotated[float, Field(ge=0, le=1)]
MethodChoice = Annotated[dict[str, Any], bare("name")]
"""Name and hyper-parameters of a method, or the name alone."""
Names = Annotated[tuple[str, ...], one_or_more]
Source = Annotated[str, AfterValidator(absolute)]
"""A path, which the recipe that a run writes gives from the root, a URL, or a Hub id."""
Folder = Annotated[str, AfterValidator(_folder)]

_KINDS = {
    "string_type": "text",
    "string_unicode": "text of whole characters",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "finite_number": "a finite number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "text or a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "dict_attributes_type": "a mapping",
    "mapping_type": "a mapping",
    "dataclass_type": "a mapping",
    "none_required": "null",
    "invalid_key": "a mapping with keys that are text",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than_equal": "at least {ge}",
    "greater_than": "above {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
}


def without_empty_sections(settings: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a section without the sections in it that are null, where null has no meaning of its own.

    Such as ``evaluate:`` with every key below it commented out: it is not given.

    Args:
        settings: class of the settings.
        values: as a recipe has them.
    """
    hints, left = get_type_hints(settings), dict(values)
    for name in [name for name in values if name in hints]:
        hint, value = hints[name], values[name]
        by_name = get_origin(hint) is dict and is_dataclass(get_args(hint)[1])  # such as the models
        if value is None and (by_name or is_dataclass(hint)):
            del left[name]
        elif isinstance(value, Mapping) and by_name:
            left[name] = {key: item for key, item in value.items() if item is not None}
        elif isinstance(value, Mapping) and is_dataclass(hint):
            left[name] = without_empty_sections(hint, value)
    return left


def what_it_must_be(errors: Sequence[Mapping[str, Any]]) -> str:
    """Return what values are allowed in place of one that was refused.

    Args:
        errors: what pydantic says of the value; several for one that may be of several types.

    Returns:
        Such as ``a whole number`` or ``text or a list``.
    """
    kinds = (_KINDS.get(error["type"], "of another type").format(**error.get("ctx", {})) for error in errors)
    return " or ".join(dict.fromkeys(kinds))


def shown(value: Any) -> str:
    """Return a refused value as a message shows it."""
    if isinstance(value, dict) and BARE in value:
        return "a mapping"
    return f"{value!r:.60}" if isinstance(value, str) else f"{spelled(value):.60}"


def spelled(value: Any) -> str:
    """Return a value as a recipe spells it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {spelled(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(spelled, value)) + "]"
    return str(value)
