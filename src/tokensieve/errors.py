"""The one error that tokensieve raises for input it cannot use, also for what the system refuses, and near names."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable

from tokensieve.places import told


class TokensieveError(ValueError):
    """Input that cannot be used: what is wrong, where, and how to fix it.

    The command line prints it without a traceback and exits with code 2.

    Args:
        what: one sentence that states the fault with the values that caused it.
        where: file and line, row, recipe key or folder; empty when there is none.
        hint: what the user can do about it.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint = told(what), told(where), told(hint)
        super().__init__(
            "\n".join(part for part in (what, where and f"  at: {where}", hint and f"  hint: {hint}") if part)
        )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error of another library says; the name of its class where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


_AGAIN = "run the same command again: what is done is kept"
_HINTS = {
    errno.ENOSPC: f"free some room, and {_AGAIN}",
    errno.EDQUOT: f"free some of your quota, and {_AGAIN}",
    errno.EFBIG: f"raise the limit (`ulimit -f`), and {_AGAIN}",
    errno.EMFILE: f"raise the limit (`ulimit -n`), and {_AGAIN}",
    errno.ENFILE: f"close other programs, and {_AGAIN}",
    errno.EACCES: "give another output and store, or change who may read and write there",
    errno.EPERM: "give another output and store, or change who may read and write there",
    errno.EROFS: "give an output and a store that can be written to",
    errno.ENAMETOOLONG: "give a shorter name: most file systems take 255 bytes",
    errno.ELOOP: "a link leads to itself: remove it, or give the path of the file itself",
    errno.EIO: f"the disk or its connection fails; copy what is there, and {_AGAIN}",
    errno.ENOENT: f"it was there before: restore it, or {_AGAIN}",
}
_UNUSABLE: tuple[tuple[type[Exception], str, str, str], ...] = (
    (RecursionError, "", "the input is nested too deep", "reduce the nesting"),
    (ValueError, "null byte", "a path holds a null byte", "give a path of this machine"),
    (RuntimeError, "home directory", "a path starts with ~ and the name of no user of this machine", "write it out"),
    (UnicodeEncodeError, "surrogates", "a text holds half of a surrogate pair, which is no character", "replace it"),
)
"""What Python refuses wherever the input gets to: the kind of error, what it says, and an error for the user."""
# Rust and C++ libraries tell the number of the system's error in their message alone.
_NUMBER = re.compile(r"\b(?:Os \{ code: |errno |os error )(\d+)")


def refused_by_system(error: Exception) -> TokensieveError | None:
    """Return what the system or Python refused as an error for the user; None where it is another kind of error.

    Args:
        error: an ``OSError``, or the error of a library that wraps one, such as that of safetensors or PyTorch.
    """
    for kind, sign, what, hint in _UNUSABLE:
        if isinstance(error, kind) and sign in str(error):
            return TokensieveError(what, hint=hint)
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := _NUMBER.search(str(error))):
        number = int(found[1])
    elif number is None and "inline_container.cc" in str(
        error
    ):  # PyTorch, which does not say what kept it from writing
        number = errno.ENOSPC
    if number is None or number not in _HINTS:
        return None
    file = getattr(error, "filename", None)
    return TokensieveError(
        f"the system refuses: {os.strerror(number)}", where=os.fsdecode(file) if file else "", hint=_HINTS[number]
    )
