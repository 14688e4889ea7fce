"""Where work on shards runs: one module per engine, found by its name.

``engine: NAME`` in a recipe asks for the module ``NAME`` of this folder, which has two functions: ``start`` takes the
settings and gives an `Engine` for as long as its block lasts, and ``check`` takes the settings and raises
``TokensieveError`` where the engine cannot run with them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from tokensieve.engines.settings import EngineSettings
from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.store.checksum import FileRecord

OnTokens = Callable[[int], None]


@dataclass(frozen=True)
class Done:
    """A shard that is done.

    Attributes:
        shard: its number.
        tokens: how many it has.
        files: what was written for it, with checksums, for the manifest of the driver; empty where it was complete
            already.
        value: what the driver is to learn of it beside that; small, as it travels between processes.
    """

    shard: int
    tokens: int
    files: Mapping[str, FileRecord]
    value: Any = None


class ShardWorker(Protocol):
    """What an engine needs of a worker."""

    def do(self, shard: int, on_tokens: OnTokens) -> Done:
        """Do a shard, and tell ``on_tokens`` of its tokens on the way. Doing it twice is doing it once."""
        ...


MakeWorker = Callable[[], AbstractContextManager[ShardWorker]]


class Engine(Protocol):
    """Maps workers over shards, one map after the other."""

    def map(
        self,
        make: MakeWorker,
        shards: Sequence[int],
        on_tokens: OnTokens,
        *,
        holds_model: bool = True,
        one_at_a_time: bool = False,
    ) -> Iterator[Done]:
        """Yield a `Done` for each shard, in any order.

        Args:
            make: makes a worker; it can be sent to other processes, and called as often as there are to be workers.
            shards: their numbers.
            on_tokens: told of tokens as they are done, by the worker where that runs in this process, else by the
                engine at each `Done`.
            holds_model: whether a worker holds a model. One that holds none takes no GPU, and may be called from
                several threads at once.
            one_at_a_time: whether a worker does shards one after the other also where it holds no model.

        Raises:
            TokensieveError: the first error of a worker.
        """
        ...


class _Plain:
    """A worker that holds nothing but what its work is made from."""

    def __init__(self, work: Callable[[int], Done]) -> None:
        self._work = work

    def do(self, shard: int, on_tokens: OnTokens) -> Done:
        done = self._work(shard)
        on_tokens(done.tokens)
        return done


def _plain(work: Callable[[int], Done]) -> AbstractContextManager[ShardWorker]:
    return nullcontext(_Plain(work))


def each(engine: Engine, work: Callable[[int], Done], shards: int) -> Iterator[Done]:
    """Yield the result of work without a model for each of so many shards, in any order.

    Args:
        engine: where it runs.
        work: does a shard, in any process and several threads at once: plain data, or a function of such.
        shards: how many there are.

    Raises:
        TokensieveError: the first error of the work.
    """
    return engine.map(partial(_plain, work), range(shards), unseen, holds_model=False)


def unseen(_: int) -> None:
    """Show no progress."""


def start_engine(settings: EngineSettings) -> AbstractContextManager[Engine]:
    """Give an engine for as long as the block lasts. What it needs is started at the first map.

    Raises:
        TokensieveError: there is no such engine.
    """
    return _module(settings.name).start(settings)


def check_engine(settings: EngineSettings) -> None:
    """Refuse an engine that does not exist or that cannot run here with its settings.

    Raises:
        TokensieveError: why not.
    """
    _module(settings.name).check(settings)


def _module(name: str) -> Any:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "settings")
    if name not in names:
        raise TokensieveError(
            f"unknown engine '{name}'{did_you_mean(name, names)}",
            where="recipe: engine",
            hint=f"one of: {', '.join(names)}",
        )
    return importlib.import_module(f"{__name__}.{name}")
