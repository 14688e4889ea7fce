"""Work without a model: threads of this process, or workers that take no GPU."""

from __future__ import annotations

import threading
import time

import pytest

from tokensieve.engines import Done, each, local, start_engine
from tokensieve.engines.local import LOCAL
from tokensieve.engines.settings import EngineSettings
from tokensieve.errors import TokensieveError


def test_shards_are_done_side_by_side_and_yielded_in_order(monkeypatch):
    monkeypatch.setattr(local, "threads", lambda: 3)
    together = threading.Barrier(3, timeout=60)

    def work(shard: int) -> Done:
        if shard < 3:
            together.wait()  # none of the three ends alone
        time.sleep(0.01 * (shard % 2))
        return Done(shard, shard, {}, shard**2)

    with start_engine(EngineSettings()) as engine:
        done = list(each(engine, work, 8))
    assert [(one.shard, one.value) for one in done] == [(shard, shard**2) for shard in range(8)]


def test_work_is_a_few_shards_ahead_of_the_reader_at_most(monkeypatch):
    monkeypatch.setattr(local, "threads", lambda: 2)
    begun = []

    def work(shard: int) -> Done:
        begun.append(shard)
        return Done(shard, 1, {})

    reader = each(LOCAL, work, 1000)
    next(reader)
    time.sleep(0.05)
    assert len(begun) <= 4
    del reader
    assert len(begun) <= 4, "who stops reading ends the work"


def test_a_worker_that_holds_a_model_is_never_called_twice_at_once():
    busy = threading.Lock()

    class Worker:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def do(self, shard, on_tokens):
            assert busy.acquire(blocking=False)
            time.sleep(0.002)
            busy.release()
            return Done(shard, 1, {})

    assert [one.shard for one in LOCAL.map(Worker, range(9), lambda _: None)] == list(range(9))


def test_the_first_error_reaches_the_reader():
    def work(shard: int) -> Done:
        if shard == 3:
            raise TokensieveError("shard 3 is broken")
        return Done(shard, 1, {})

    done = []
    with pytest.raises(TokensieveError, match="shard 3 is broken"):
        done.extend(one.shard for one in each(LOCAL, work, 9))
    assert done == [0, 1, 2]
