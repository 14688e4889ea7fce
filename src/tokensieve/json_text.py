"""JSON of others as values: whatever is wrong with a text is one kind of error."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

_DECODER = json.JSONDecoder()
_FAULTS = (ValueError, RecursionError)
# Half of a surrogate pair, where the other half does not stand beside it.
_HALF = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)


class JsonError(ValueError):
    """A text that is not JSON, or JSON that cannot be held.

    Attributes:
        what: what is wrong, without the place.
        line: from 1; 0 where the parser does not say.
        column: from 1; 0 likewise.
    """

    def __init__(self, what: str, line: int = 0, column: int = 0) -> None:
        self.what, self.line, self.column = what, line, column
        super().__init__(f"{what} (line {line}, column {column})" if line else what)


def parse(text: str | bytes, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Return the value of a JSON text; ``object_hook`` as for `json.loads`.

    Raises:
        JsonError: a text that is not JSON or not UTF-8, a number of more digits than Python reads, or lists and
            objects nested deeper than Python reads.
    """
    try:
        return json.loads(text, object_hook=object_hook)
    except _FAULTS as error:
        raise _json_error(error) from error


def parse_lines(text: str | bytes) -> list[Any]:
    """Return the values of JSON lines; blank lines have none.

    Lines end at line feeds alone: ``str.splitlines`` also cuts at U+2028, U+0085 and others, which texts may hold.

    Raises:
        JsonError: as for `parse`.
    """
    try:
        lines = (text if isinstance(text, str) else text.decode()).split("\n")
    except UnicodeDecodeError as error:
        raise _json_error(error) from error
    return [_line(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _line(number: int, line: str) -> Any:
    try:
        return parse(line)
    except JsonError as error:
        raise JsonError(error.what, number, error.column) from error


def value_at(text: str, start: int) -> tuple[Any, int]:
    """Return the value that begins at a character of a text, and where it ends.

    Raises:
        JsonError: as for `parse`; also where the text ends before the value does.
    """
    try:
        return _DECODER.raw_decode(text, start)
    except _FAULTS as error:
        raise _json_error(error) from error


def _json_error(error: Exception) -> JsonError:
    if isinstance(error, json.JSONDecodeError):
        return JsonError(error.msg, error.lineno, error.colno)
    if isinstance(error, RecursionError):
        return JsonError("lists and objects are nested too deep")
    if isinstance(error, UnicodeDecodeError):
        return JsonError(f"the text is not UTF-8: {error}")
    return JsonError("a number has too many digits")  # int() reads 4,300, since more would take it quadratic time


def may_hold_half_characters(text: str) -> bool:
    """Whether a JSON text has what looks like a lone surrogate: a fast check, which escaped backslashes can deceive."""
    return "\\u" in text and _HALF.search(text) is not None  # most have no escape, and the first look is fast


def holds_half_characters(value: Any) -> bool:
    """Whether a text in a JSON value, or a key, has a lone surrogate, which UTF-8 cannot say."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
