"""Recipes as text: YAML with the place of each key, and overrides of single keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from tokensieve.errors import TokensieveError


class _SafeLoader(yaml.SafeLoader):
    """YAML as recipes mean it: `1e-4` is a number and `no` (a `save_strategy`) is text, as in YAML 1.2."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_SafeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
_SafeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], str]]:
    """Read a recipe.

    Returns:
        Its values, and ``file:line`` of each key.

    Raises:
        TokensieveError: no such file, text that is not YAML, or YAML that is no mapping.
    """
    if not path.is_file():
        raise TokensieveError("no such recipe", where=str(path), hint="tokensieve run RECIPE.yaml")
    loader = _SafeLoader(path.read_text(encoding="utf-8"))
    try:
        node = loader.get_single_node()
        values = loader.construct_document(node) if node else {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise TokensieveError(
            f"not YAML: {problem}",
            where=f"{path}:{mark.line + 1}" if mark else str(path),
            hint="quote a value that holds ': ' or ' #', and indent with spaces",
        ) from error
    if not isinstance(values, dict):
        raise TokensieveError(
            f"a recipe is a mapping, not a {type(values).__name__}",
            where=str(path),
            hint="write keys with values, such as `output: runs/mine`; docs/recipe.md has one to start from",
        )
    return values, {key: f"{path}:{line}" for key, line in _key_lines(node, ())}


def _key_lines(node: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        found = []
        for key, value in node.value:
            inner = (*path, str(key.value))
            found += [(inner, key.start_mark.line + 1), *_key_lines(value, inner)]
        return found
    if isinstance(node, yaml.SequenceNode):
        return [line for number, item in enumerate(node.value) for line in _key_lines(item, (*path, str(number)))]
    return []


def override_key(values: dict[str, Any], override: str) -> dict[str, Any]:
    """Return the values with one changed as ``key.path=value`` says, the value in YAML.

    Raises:
        TokensieveError: an override of another form, a value that is not YAML, or an item that a list does not have.
    """
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise TokensieveError(
            f"'{override}' is not key=value", where="command line", hint="such as method.fraction=0.5"
        )
    try:
        value = _SafeLoader(text).get_single_data()
    except yaml.YAMLError as error:
        raise TokensieveError(
            f"the value of '{name}' is not YAML: {text}",
            where="command line",
            hint="close its brackets and quotes, and quote it for the shell",
        ) from error
    return _with_key(values, name.split("."), value, name)


def _with_key(values: Any, key: list[str], value: Any, name: str) -> Any:
    head, *rest = key
    if isinstance(values, list | tuple):
        if not head.isdigit() or int(head) >= len(values):
            raise TokensieveError(
                f"'{name}': there is no item {head} in a list of {len(values)}",
                where="command line",
                hint="items are numbered from 0; give the whole list to change its length",
            )
        items = list(values)
        items[int(head)] = _with_key(items[int(head)], rest, value, name) if rest else value
        return items
    values = dict(values or {}) if isinstance(values, dict | None) else {}
    values[head] = _with_key(values.get(head), rest, value, name) if rest else value
    return values
