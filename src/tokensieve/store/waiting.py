"""How long this process waits for another one that holds a lock (`store.atomic.locked`)."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from tokensieve.errors import TokensieveError
from tokensieve.places import told

_longest_wait: ContextVar[float | None] = ContextVar("longest_wait", default=None)


@contextmanager
def waiting_at_most(seconds: float | None) -> Iterator[None]:
    """Let `locked` wait for another process for so long in the block, and then raise; None is for as long as it takes.

    Raises:
        TokensieveError: a negative number.
    """
    if seconds is not None and not seconds >= 0:
        raise TokensieveError(
            f"--wait is {seconds:g} seconds, and must be at least 0", where="--wait", hint="0 stops at once"
        )
    before = _longest_wait.set(seconds)
    try:
        yield
    finally:
        _longest_wait.reset(before)


def longest_wait() -> float | None:
    """Return what `waiting_at_most` says; None outside of it."""
    return _longest_wait.get()


class Wait:
    """The wait of this process for a lock that another one holds.

    Args:
        path: what is locked.
        longest: seconds to wait; None is for as long as it takes.
    """

    def __init__(self, path: Path, longest: float | None) -> None:
        self._path, self._longest, self._told = path, longest, False
        self._start = time.monotonic()

    @property
    def left(self) -> float | None:
        """Seconds that are left."""
        return None if self._longest is None else max(0.0, self._start + self._longest - time.monotonic())

    def __call__(self, who: str) -> None:
        """Say for whom this process waits, once.

        Raises:
            TokensieveError: no time is left.
        """
        if self.left == 0:
            raise TokensieveError(
                f"{told(self._path)} is in use by {who}",
                where="--wait",
                hint="run the same command when that has ended; without --wait, it waits for as long as it takes",
            )
        if not self._told:
            warnings.warn(f"{told(self._path)} is in use by {who}; waiting for it", stacklevel=4)
        self._told = True
