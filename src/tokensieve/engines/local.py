"""Shards on this machine: one after the other with one model, or side by side where there is none to hold."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from tokensieve.engines import Done, Engine, MakeWorker, OnTokens, ShardWorker, unseen
from tokensieve.engines.settings import EngineSettings
from tokensieve.errors import TokensieveError
from tokensieve.store.ahead import map_ahead

_MOST_THREADS = 8  # beyond it the disk is the limit, and every thread holds a shard or two
_WORTH_PROCESSES = 15.0
"""Seconds that one process would take for what is left; each further one takes a few to load the libraries."""
_AHEAD = 4
"""Shards of each process that are begun or done beyond the one that is yielded next."""
_IDLE = 10
"""Seconds after which a process without work ends."""


def check(settings: EngineSettings) -> None:
    """Refuse settings of another engine."""
    if settings != (default := EngineSettings()):
        given = [key for key, value in vars(settings).items() if value != getattr(default, key)]
        raise TokensieveError(
            f"the engine 'local' takes no settings, and {', '.join(given)} in the recipe has no effect",
            where=f"recipe: engine.{given[0]}",
            hint="engine.name: ray",
        )


@contextmanager
def start(settings: EngineSettings) -> Iterator[Engine]:
    """Give the engine; see `engines.start_engine`."""
    yield LOCAL


class Local:
    """One worker in this process, or one a core in processes of their own, where that is worth their start."""

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

        Without a model, threads are a few shards ahead of the reader at most. A worker that does one shard at a time
        leaves most of a long work to processes.
        """
        with make() as worker:
            if holds_model:
                for shard in shards:
                    yield worker.do(shard, on_tokens)
            elif one_at_a_time:
                yield from _until_worth_processes(worker, shards, on_tokens, make)
            else:
                yield from _in_threads(worker, shards, on_tokens)


LOCAL = Local()
"""The engine of whoever starts none."""


def threads() -> int:
    """Return how many threads work on shards side by side."""
    return min(_MOST_THREADS, 1 + (os.cpu_count() or 1))  # one waits for the disk


def _in_threads(worker: ShardWorker, shards: Sequence[int], on_tokens: OnTokens) -> Iterator[Done]:
    with ThreadPoolExecutor(threads()) as pool:
        yield from map_ahead(lambda shard: pool.submit(worker.do, shard, on_tokens), shards, threads())


def _until_worth_processes(
    worker: ShardWorker, shards: Sequence[int], on_tokens: OnTokens, make: MakeWorker
) -> Iterator[Done]:
    """Do shards here until one of them shows that the others would take long, and these in processes."""
    for count, shard in enumerate(shards, 1):
        began = time.perf_counter()
        done = worker.do(shard, on_tokens)
        seconds = time.perf_counter() - began
        yield done
        if seconds * (len(shards) - count) > _WORTH_PROCESSES and (os.cpu_count() or 1) > 1:
            yield from _in_processes(make, shards[count:], on_tokens)
            return


def _in_processes(make: MakeWorker, shards: Sequence[int], on_tokens: OnTokens) -> Iterator[Done]:
    """Do shards in processes, one a core, and yield them in the order given.

    The processes do not import the main module again, as those of the standard library do: a script that calls
    tokensieve needs no guard.
    """
    import loky
    from loky.process_executor import ProcessPoolExecutor

    processes = min(loky.cpu_count(), len(shards))
    pool = ProcessPoolExecutor(
        processes,
        timeout=_IDLE,
        initializer=_begin,
        initargs=(make, os.getpid()),
        env={"TOKENIZERS_PARALLELISM": "false"},  # the processes have all cores already
    )
    try:
        for done in map_ahead(partial(pool.submit, _do), shards, _AHEAD * processes):
            on_tokens(done.tokens)
            yield done
    finally:
        pool.shutdown(kill_workers=True)


_worker: ShardWorker
"""What a process of `_in_processes` works with, for all of its life."""


def _begin(make: MakeWorker, parent: int) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver, which a terminal interrupts as well, ends its processes
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _worker = make().__enter__()


def _end_with(parent: int) -> None:
    """End this process where its driver was killed: nobody waits for what it does."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _do(shard: int) -> Done:
    return _worker.do(shard, unseen)
