"""Rows of JSON documents: an array, an array under the key `data`, or an object keyed by row id."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from tokensieve import json_text
from tokensieve.data.readers.items import BadRowError, Item
from tokensieve.data.readers.text import first_line, open_text, too_large, too_large_error
from tokensieve.errors import TokensieveError

_BLOCK = 2**20  # characters that are read at once
_ARRAY = "an array of objects; a file with one object a line is named .jsonl"
_SPACE = " \t\n\r"


def begins_array(path: Path, most: int) -> bool:
    """Whether a file is one JSON array, not lines that each hold a value."""
    line = first_line(path, most)
    return line.lstrip().startswith("[") and (not _is_json(line) or _is_one_line(path))


def is_lines(path: Path, most: int) -> bool:
    """Whether the first line of a file is an object by itself, and others follow."""
    line = first_line(path, most)
    return line.lstrip().startswith("{") and _is_json(line) and not _is_one_line(path)


def _is_json(text: str) -> bool:
    try:
        json_text.parse(text)
    except json_text.JsonError:
        return False
    return True


def _is_one_line(path: Path) -> bool:
    with open_text(path) as handle:
        filled = (line for line in iter(lambda: handle.readline(_BLOCK), "") if line.strip())
        return next(filled, None) is not None and next(filled, None) is None


def array_items(path: Path, most: int) -> Iterator[Item]:
    """Yield the items of a file that is one JSON array, which is read as it is parsed; ``most`` bytes an item."""
    with open_text(path) as handle:
        for number, (value, text) in enumerate(_Array(path, handle, most)):
            yield Item(f"{path} row {number}", value, parser(text))


class _Array:
    """The values of a JSON array, each with its text.

    Args:
        path: of the file, for messages.
        handle: its text.
        most: bytes of a value at most.
    """

    def __init__(self, path: Path, handle: IO[str], most: int) -> None:
        self._path, self._handle, self._most = path, handle, most
        self._text, self._at, self._ended = "", 0, False
        self._lines = self._column = 0  # before the text

    def __iter__(self) -> Iterator[tuple[Any, str]]:
        self._expect("[")
        if self._peek() == "]":
            self._at += 1
        else:
            while True:
                yield self._value()
                if self._peek() == "]":
                    self._at += 1
                    break
                self._expect(",")
        if self._peek():
            raise self._error("Extra data")

    def _more(self) -> None:
        """Read on, as much as there is of the value at hand: reading a long value takes linear time."""
        rest = self._text[self._at :]
        block = self._handle.read(max(_BLOCK, len(rest)))
        lines = self._text.count("\n", 0, self._at)
        self._column = self._at - self._text.rfind("\n", 0, self._at) - 1 + (0 if lines else self._column)
        self._lines += lines
        self._text, self._at, self._ended = rest + block, 0, not block

    def _peek(self) -> str:
        """Return the next character that is not white space; an empty text at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._more()

    def _expect(self, wanted: str) -> None:
        if self._peek() != wanted:
            raise self._error(f"Expecting '{wanted}'")
        self._at += 1

    def _value(self) -> tuple[Any, str]:
        self._peek()
        while True:
            try:
                value, end = json_text.value_at(self._text, self._at)
            except json_text.JsonError as error:
                if self._ended or not error.line:
                    raise self._error(error.what, error.line, error.column) from error
            else:
                found = self._text[self._at : end]
                if too_large(found, self._most):
                    raise too_large_error(self._where(), self._most)
                if end < len(self._text) or self._ended:  # a number may go on
                    self._at = end
                    return value, found
            if too_large(self._text[self._at :], self._most):
                raise too_large_error(self._where(), self._most)
            self._more()

    def _where(self) -> str:
        return f"{self._path}:{self._lines + self._text.count(chr(10), 0, self._at) + 1}"

    def _error(self, what: str, line: int = 0, column: int = 0) -> TokensieveError:
        if not line:
            return TokensieveError(f"not JSON: {what}", where=self._where(), hint=_ARRAY)
        column += self._column if line == 1 else 0
        where = f"{self._path}:{self._lines + line}"
        return TokensieveError(not_json(json_text.JsonError(what, line, column)), where=where, hint=_ARRAY)


def document_items(path: Path, most: int) -> Iterator[Item]:
    """Yield the items of a JSON document that is no array, and is parsed as a whole: of ``most`` bytes at most."""
    with open_text(path) as handle:
        text = handle.read(most + 1)
    if too_large(text, most):
        hint = f"{_ARRAY}; or raise the limit: data.max_row_bytes={8 * most}"
        raise too_large_error(str(path), most, hint)
    try:
        value = json_text.parse(text)
    except json_text.JsonError as error:
        where = f"{path}:{error.line}" if error.line else str(path)
        raise TokensieveError(not_json(error), where=where, hint=_ARRAY) from error
    parse = parser(text)
    rows = value.get("data") if isinstance(value, dict) else None
    if isinstance(rows, list) and any(isinstance(row, dict) for row in rows):
        for number, row in enumerate(rows):
            yield Item(f"{path} row {number}", row, parse)
    elif isinstance(value, dict) and value and all(isinstance(row, dict) for row in value.values()):
        for key, row in value.items():
            yield Item(f"{path} key {key!r}", row, parse)
    elif isinstance(value, dict):
        yield Item(f"{path}:1", value, parse)
    else:
        raise TokensieveError(f"a JSON {type(value).__name__}, not rows", where=str(path), hint="an array of objects")


def not_json(error: json_text.JsonError) -> str:
    """Return what a user is told of a text that is not JSON."""
    return f"not JSON: {error.what}" + (f" (column {error.column})" if error.column else "")


def parser(text: str) -> Callable[[str, Any], dict[str, Any]]:
    """Return what checks the values of a JSON text."""
    return _doubtful_object if json_text.may_hold_half_characters(text) else _object


def _object(where: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise BadRowError(
        f"a JSON {type(value).__name__}, not an object",
        where=where,
        hint='one object a row, such as {"messages": [...]}',
        row=value,
    )


def _doubtful_object(where: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict) and json_text.holds_half_characters(value):
        raise BadRowError(
            "a text or key has half of a surrogate pair, which is no character",
            where=where,
            hint="replace lone surrogates, as with text.encode(errors='replace').decode()",
            row=value,
        )
    return _object(where, value)
