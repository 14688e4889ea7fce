"""Work that is done side by side, of which a million pieces are never begun at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(submit: Callable[[Item], Future[Result]], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """Yield the results for items, in their order.

    Args:
        submit: begins the work for an item; `concurrent.futures.Executor.map` begins it for all items at once.
        items: what to work on.
        ahead: how many may be begun beyond the one that is yielded next.
    """
    begun: deque[Future[Result]] = deque()
    for item in items:
        begun.append(submit(item))
        if len(begun) > ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()
