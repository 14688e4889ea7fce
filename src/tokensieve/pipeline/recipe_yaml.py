"""Recipes as text: the keys of a file with the place of each, and overrides of single keys."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from tokensieve import yaml12
from tokensieve.errors import TokensieveError
from tokensieve.pipeline.secrets import mentions_secret, refuse_secrets
from tokensieve.setting_types import BARE


def read_recipe(path: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], str]]:
    """Read a recipe.

    Returns:
        Its values, and ``file:line`` of each key.

    Raises:
        TokensieveError: no such file, text that is not YAML, a key that is given twice, YAML that is not a mapping, or
            a secret.
    """
    if not path.is_file():
        raise TokensieveError("no such recipe", where=str(path), hint="tokensieve run RECIPE.yaml")
    values, lines = yaml12.read_with_lines(path)
    if not isinstance(values, dict | None):
        raise TokensieveError(
            f"a recipe is a mapping, not a {type(values).__name__}",
            where=str(path),
            hint="write keys with values, such as `output: runs/mine`; `tokensieve recipes` lists some to start from",
        )
    refuse_secrets(values, str(path))
    return values or {}, {key: f"{path}:{line}" for key, line in lines.items()}


def override_key(values: dict[str, Any], override: str) -> dict[str, Any]:
    """Return the values with one changed as ``key.path=value`` says, the value in YAML.

    Raises:
        TokensieveError: an override of another form, a value that is not YAML, a secret, or an item that a list does
            not have.
    """
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise TokensieveError(
            f"'{override}' is not key=value", where="command line", hint="such as method.fraction=0.5"
        )
    key = name.split(".")
    try:
        value = yaml12.parse_value(text)
    except ValueError as error:
        raise TokensieveError(
            f"the value of '{name}' is not YAML{'' if mentions_secret(override) else f': {text}'}",
            where="command line",
            hint="close its brackets and quotes, and quote it for the shell",
        ) from error
    refuse_secrets(functools.reduce(lambda inner, part: {part: inner}, reversed(key), value), "command line")
    return _with_key(values, key, value, name)


def _with_key(values: Any, key: list[str], value: Any, name: str) -> Any:
    head, *rest = key
    if isinstance(values, list) and head.isdigit():
        if int(head) >= len(values):
            raise TokensieveError(
                f"'{name}': there is no item {head} in a list of {len(values)}",
                where="command line",
                hint="items are numbered from 0; give the whole list to change its length",
            )
        items = list(values)
        items[int(head)] = _with_key(items[int(head)], rest, value, name) if rest else value
        return items
    values = {} if values is None else dict(values) if isinstance(values, dict) else {BARE: values}
    values[head] = _with_key(values.get(head), rest, value, name) if rest else value
    return values
