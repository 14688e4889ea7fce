"""The one error that tokensieve raises for input it cannot use, and the search for near names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TokensieveError(ValueError):
    """Input that cannot be used: what is wrong, where, and how to fix it.

    The command line prints it without a traceback and exits with code 2.

    Args:
        what: one sentence that states the fault with the values that caused it.
        where: file and line, row, recipe key or folder; empty when there is none.
        hint: what the user can do about it.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(
            "\n".join(part for part in (what, where and f"  at: {where}", hint and f"  hint: {hint}") if part)
        )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""
