"""How much an expression of a chat template makes, computed before it is evaluated.

Jinja's sandbox limits ``range`` alone. A width, a factor or an exponent makes gigabytes of a short template, within one
call of C code that no check of the time can end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

MOST = 2**29
"""Characters that the expressions of a template may make for one conversation, including those that it discards."""
_MOST_BITS = 2**16  # of a number: Python writes no more than 4,300 digits, which are 14,284 bits
_ITEM, _CONTAINER = 8, 2**10  # what an item in a list counts, and a list within others: no text has half a million
# A width in a format, such as those of `%9d`, `{:9}` and `{:x>9}`, and one that is given apart: `%*d`, `{:{}}`.
_WIDTH = re.compile(r"[%:](?:.?[<>=^])?[-+ #0.,_]*(\d+)")
_WIDTH_APART = re.compile(r"%[-+ #0]*[\d.]*\*|:[^}]*\{")


def of_operation(operator: str, left: Any, right: Any) -> int:
    """Return how many characters ``left operator right`` takes at most; more than MOST for a long number.

    Args:
        operator: ``+``, ``*``, ``**`` or ``%``.
        left: its value.
        right: likewise.
    """
    if operator == "+":
        return _size(left) + _size(right)
    if operator == "%":
        return _formatted(left, *(right if isinstance(right, tuple) else (right,))) if isinstance(left, str) else 0
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
        return MOST + 1 if bits > _MOST_BITS else 0
    return _size(left) * _number(right) + _size(right) * _number(left) if operator == "*" else 0


def of_call(name: str, values: tuple[Any, ...], named: Mapping[str, Any]) -> int:
    """Return how many characters the result of a filter or of a built-in method takes at most.

    Args:
        name: of the filter or method.
        values: what it is called with; the value that it belongs to is the first.
        named: likewise.
    """
    longest = (of_text if name in _WRITES else _size)(values[0])
    if (bound := _BOUNDS.get(name)) is None or len(values) + len(named) < 2:
        return longest
    return max(longest, bound(*values, *named.values()))


def of_text(value: Any) -> int:
    """Return how many characters the text of a value takes, lists within lists included; roughly, up to MOST."""
    size, rest = 0, [value]
    while rest and size <= MOST:
        one = rest.pop()
        size += _size(one)
        if isinstance(one, (list, tuple, dict)):
            size += _CONTAINER
            rest.extend(one.values() if isinstance(one, dict) else one)
    return size


def _size(value: Any) -> int:
    if isinstance(value, (str, bytes)):
        return len(value)
    return _ITEM * len(value) if isinstance(value, (list, tuple)) else 0


def _number(value: Any) -> int:
    return max(0, value) if isinstance(value, int) else 0


def _largest(*values: Any) -> int:
    return max(map(_number, values), default=0)


def _at_each(separator: str) -> Callable[..., int]:
    """Return the bound of what puts as much into a text as it is told, at each separator."""

    def bound(value: Any, *told: Any) -> int:
        return (str(value).count(separator) + 1) * max(_largest(*told), *map(_size, told))

    return bound


def _of_items(each: int) -> Callable[..., int]:
    """Return the bound of what takes so many bytes for each of the items that it is told to make."""
    return lambda _, *told: each * _largest(*told)


def _replaced(value: Any, old: Any, new: Any = "", *_: Any) -> int:
    return str(value).count(str(old)) * len(str(new))


def _formatted(template: Any, *values: Any) -> int:
    text = str(template)
    widths = [int(width) for width in _WIDTH.findall(text)]
    if _WIDTH_APART.search(text):
        widths += map(_number, values)
    return sum(widths) + (text.count("%") + text.count("{")) * max(map(of_text, values), default=0)


_WRITES = {"string", "join", "tojson", "pprint"}
_BOUNDS: Mapping[str, Callable[..., int]] = {
    **dict.fromkeys(("center", "ljust", "rjust", "zfill", "to_bytes"), _of_items(1)),
    "batch": _of_items(_ITEM),
    "slice": _of_items(64),  # each a list
    "tojson": _of_items(2**12),  # each line of a long text begins with it
    "expandtabs": _at_each("\t"),
    "indent": _at_each("\n"),
    "wordwrap": _at_each(" "),
    "replace": _replaced,
    "format": _formatted,
}
