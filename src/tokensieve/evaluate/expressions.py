"""Regular expressions of a recipe, with a limit on the time that one takes for an answer.

Python's own go through every way to match: for repeats within repeats their number doubles with each character. Those
of `regex` are the same, and stop after a time.
"""

from __future__ import annotations

import math
import re
from collections import deque

import regex

from tokensieve.errors import TokensieveError

SECONDS = 5.0
"""For one answer; a match takes less than a thousandth of a second, where the expression does not go back and forth."""
_MOST_REPEATS = 10**6  # `regex` writes repeats within repeats out: ((a{1000}){1000}){1000} would take gigabytes
_COUNT = re.compile(r"(\)?)\s*\{(\d{1,20})")


def check_expression(expression: str, where: str) -> None:
    """Refuse what is no regular expression.

    Args:
        expression: what both Python, which the harness uses, and `regex` must take.
        where: key of the recipe.

    Raises:
        TokensieveError: it is none.
    """
    if _repeats(expression) > _MOST_REPEATS:
        raise TokensieveError(
            f"'{expression}' repeats a part more than {_MOST_REPEATS:,} times", where=where, hint="give smaller counts"
        )
    try:
        re.compile(expression)
        regex.compile(expression)
    except (re.error, regex.error) as error:
        raise TokensieveError(
            f"'{expression}' is not a regular expression: {error}",
            where=where,
            hint="escape what is meant literally, such as \\( and \\$",
        ) from error


def _repeats(expression: str) -> int:
    """Return how often a part is repeated at most, if all groups that are repeated stood within each other."""
    counts = [(bool(group), int(count)) for group, count in _COUNT.findall(expression)]
    of_groups = math.prod(max(1, count) for group, count in counts if group)
    return of_groups * max((count for group, count in counts if not group), default=1)


def last_match(expression: str, text: str) -> str | None:
    """Return the last match, of its first group where it has one; None where nothing matches, or that group does not.

    Raises:
        TokensieveError: the expression takes too long.
    """
    try:
        found = deque(regex.finditer(expression, text, timeout=SECONDS), maxlen=1)
    except TimeoutError:
        raise _too_slow(expression, text) from None
    return found[0].group(1 if found[0].re.groups else 0) if found else None


def first_match(expression: str, text: str) -> str | None:
    """Return the first match; None where nothing matches.

    Raises:
        TokensieveError: the expression takes too long.
    """
    try:
        found = regex.search(expression, text, timeout=SECONDS)
    except TimeoutError:
        raise _too_slow(expression, text) from None
    return None if found is None else found[0]


def _too_slow(expression: str, text: str) -> TokensieveError:
    return TokensieveError(
        f"the regular expression '{expression}' does not end within {SECONDS:g} s on an answer of {len(text):,} "
        f"characters: {text!r:.80}",
        where="recipe: evaluate",
        hint="write it without repeats within repeats, such as (a+)+ or (.*)*",
    )
