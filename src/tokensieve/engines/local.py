"""Shards in this process: one after the other with one model, or side by side where there is none to hold."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from tokensieve.engines import Done, Engine, MakeWorker, OnTokens
from tokensieve.engines.settings import EngineSettings
from tokensieve.errors import TokensieveError

_MOST_THREADS = 8  # beyond it the disk is the limit, and every thread holds a shard or two


def check(settings: EngineSettings) -> None:
    """Refuse settings of another engine."""
    if settings != (default := EngineSettings()):
        given = [key for key, value in vars(settings).items() if value != getattr(default, key)]
        raise TokensieveError(
            f"the engine 'local' has one worker in this process, and {', '.join(given)} in the recipe says nothing to "
            "it",
            where=f"recipe: engine.{given[0]}",
            hint="engine.name: ray",
        )


@contextmanager
def start(settings: EngineSettings) -> Iterator[Engine]:
    """Give the engine; see `engines.start_engine`."""
    yield LOCAL


class Local:
    """One worker in this process."""

    def map(
        self,
        make: MakeWorker,
        shards: Sequence[int],
        on_tokens: OnTokens,
        *,
        holds_model: bool = True,
        one_at_a_time: bool = False,
    ) -> Iterator[Done]:
        """Do every shard, and yield them in the order given; see `Engine`.

        Without a model, threads are a few shards ahead of the reader at most.
        """
        with make() as worker:
            if holds_model or one_at_a_time:
                for shard in shards:
                    yield worker.do(shard, on_tokens)
                return
            ahead: deque[Future[Done]] = deque()
            with ThreadPoolExecutor(threads()) as pool:
                for shard in shards:
                    ahead.append(pool.submit(worker.do, shard, on_tokens))
                    if len(ahead) > threads():
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()


LOCAL = Local()
"""The engine of whoever starts none."""


def threads() -> int:
    """Return how many threads work on shards side by side."""
    return min(_MOST_THREADS, 1 + (os.cpu_count() or 1))  # one waits for the disk
