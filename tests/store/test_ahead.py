"""Work that is done side by side."""

from __future__ import annotations

from concurrent.futures import Future
from itertools import count, islice

import pytest

from tokensieve.store.ahead import map_ahead


def test_results_come_in_order_and_few_are_begun():
    begun: list[int] = []

    def submit(item: int) -> Future[int]:
        begun.append(item)
        done: Future[int] = Future()
        done.set_result(item * item)
        return done

    results = map_ahead(submit, count(), 3)
    assert list(islice(results, 5)) == [0, 1, 4, 9, 16]
    assert begun == list(range(5 + 3))
    begun.clear()
    assert list(map_ahead(submit, range(2), 3)) == [0, 1]


def test_an_error_is_that_of_its_item():
    def submit(item: int) -> Future[int]:
        done: Future[int] = Future()
        done.set_exception(ValueError(item)) if item == 1 else done.set_result(item)
        return done

    results = map_ahead(submit, range(9), 3)
    assert next(results) == 0
    with pytest.raises(ValueError, match="1"):
        next(results)
