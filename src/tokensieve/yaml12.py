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

_OPEN = 0
_MOST_VALUES = 1_000_000
_PLAIN = "write plain values: texts in quotes, and without aliases"

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
        return _load(text), dict(_key_lines(_yaml().compose(text), ()))
    except _UnreadableError as error:
        raise TokensieveError(f"not YAML: {error}", where=str(path), hint=_PLAIN) from error
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
        return _load(text)
    except YAMLError as error:
        raise ValueError(str(error)) from error


def dump(values: Any) -> str:
    """Return plain values as YAML, keys in their order."""
    written = io.StringIO()
    _yaml().dump(values, written)
    return written.getvalue()


class _UnreadableError(ValueError):
    """What the parser cannot make values of."""


def _load(text: str) -> Any:
    try:
        _size(_yaml().compose(text), {})
        return _yaml().load(text)
    except RecursionError as error:
        raise _UnreadableError("lists and mappings are nested too deep") from error
    except _UnreadableError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # such as a date in month 13
        raise _UnreadableError(f"a value is not of the type that it looks like: {error}") from error


def _size(node: Any, known: dict[int, int]) -> int:
    """Return how many values a node stands for, aliases spelled out.

    Raises:
        _UnreadableError: an alias within what it stands for, or aliases that multiply.
    """
    if id(node) not in known:
        known[id(node)] = _OPEN
        inner = getattr(node, "value", ())
        items = (item for pair in inner for item in pair) if isinstance(node, MappingNode) else inner
        known[id(node)] = 1 + sum(_size(item, known) for item in items) if not isinstance(inner, str) else 1
    if known[id(node)] == _OPEN:
        raise _UnreadableError("an alias stands within what it stands for")
    if known[id(node)] > _MOST_VALUES:
        raise _UnreadableError(f"aliases make more than {_MOST_VALUES:,} values of it")
    return known[id(node)]


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
