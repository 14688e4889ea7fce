"""YAML 1.2, in which recipes are written: `1e-4` is a number and `no` is text.

What other tools read, such as an axolotl config, is written with PyYAML, which they read it with.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, SequenceNode
from ruamel.yaml.representer import SafeRepresenter

from tokensieve.errors import TokensieveError

Lines = dict[tuple[str, ...], int]
"""The line, from 1, of each key, by the keys that lead to it."""


def read(path: Path) -> Any:
    """Return the values of a file.

    Raises:
        TokensieveError: a file that cannot be read, or whose text is not YAML.
    """
    return read_with_lines(path)[0]


def read_with_lines(path: Path) -> tuple[Any, Lines]:
    """Return the values of a file, and the line of each key; errors as for `read`."""
    try:
        text = path.read_text(encoding="utf-8")
        return _yaml().load(text), dict(_key_lines(_yaml().compose(text), ()))
    except (OSError, UnicodeDecodeError) as error:
        raise TokensieveError(f"cannot be read: {error}", where=str(path), hint="text must be UTF-8") from error
    except YAMLError as error:
        if isinstance(error, DuplicateKeyError):
            raise _given_twice(path, text) from error
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
        raise TokensieveError(
            f"not YAML: {problem}",
            where=f"{path}:{mark.line + 1}" if mark else str(path),
            hint="quote a value that holds ': ' or ' #', and indent with spaces",
        ) from error


def parse_value(text: str) -> Any:
    """Return the value that a text stands for.

    Raises:
        ValueError: text that is not YAML.
    """
    try:
        return _yaml().load(text)
    except YAMLError as error:
        raise ValueError(str(error)) from error


def dump(values: Any) -> str:
    """Return plain values as YAML, keys in their order."""
    written = io.StringIO()
    _yaml().dump(values, written)
    return written.getvalue()


class _Representer(SafeRepresenter):
    pass


def _text(representer: SafeRepresenter, text: str) -> Any:
    # A next-line character (U+0085) would be read back as a space unless it is escaped.
    style = '"' if "\x85" in text else None
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Representer.add_representer(str, _text)


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)  # the compiled parser reads YAML 1.1
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue] typed as None alone
    yaml.width = 2**20
    return yaml


def _given_twice(path: Path, text: str) -> TokensieveError:
    """Return the error for the first key that a text gives twice."""
    lines: Lines = {}
    for key, line in _key_lines(_yaml().compose(text), ()):
        if key in lines:
            return TokensieveError(
                f"a key is given twice: '{'.'.join(key)}' in line {lines[key]} and in line {line}",
                where=f"{path}:{line}",
                hint="leave one of them out",
            )
        lines[key] = line
    raise AssertionError("no key is given twice")


def _key_lines(node: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], int]]:
    items: list[tuple[Any, Any, int]] = []
    if isinstance(node, MappingNode):
        items = [(key.value, value, key.start_mark.line) for key, value in node.value]
    elif isinstance(node, SequenceNode):
        items = [(number, item, item.start_mark.line) for number, item in enumerate(node.value)]
    return [
        line
        for key, value, at in items
        for line in [((*path, str(key)), at + 1), *_key_lines(value, (*path, str(key)))]
    ]
