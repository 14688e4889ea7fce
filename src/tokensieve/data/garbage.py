"""Python's search for objects that hold each other, where many objects are made and none does."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_TIMES = 100


@contextmanager
def rare_searches() -> Iterator[None]:
    """Have Python search a hundred times less often within; also a decorator.

    Rows are many objects, and each search goes through those of all libraries. Without this a seventh to a quarter of
    the time of `tokensieve inspect` goes into it.
    """
    first, *others = gc.get_threshold()
    gc.set_threshold(_TIMES * first, *others)  # 0, which is never, stays
    try:
        yield
    finally:
        gc.set_threshold(first, *others)
