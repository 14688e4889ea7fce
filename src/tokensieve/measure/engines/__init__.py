"""Where shards are measured: one module per engine, found by its name.

``measure.engine: NAME`` in a recipe asks for the module ``NAME`` of this folder, which has two functions: ``run`` is an
`Engine`, and ``check`` takes the settings and raises ``TokensieveError`` where the engine cannot run with them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from tokensieve.errors import TokensieveError, did_you_mean
from tokensieve.measure.settings import MeasureSettings
from tokensieve.store.checksum import FileRecord

OnTokens = Callable[[int], None]


@dataclass(frozen=True)
class Done:
    """A shard that has all its statistics.

    Attributes:
        shard: its number.
        tokens: how many it has.
        files: what was written for it, with checksums, for the manifest of the driver; empty where it was complete
            already.
    """

    shard: int
    tokens: int
    files: Mapping[str, FileRecord]


class ShardWorker(Protocol):
    """What an engine needs of a worker."""

    def do(self, shard: int, on_tokens: OnTokens) -> Done:
        """Do a shard, and tell ``on_tokens`` of its tokens on the way. Doing it twice is doing it once."""
        ...


MakeWorker = Callable[[], AbstractContextManager[ShardWorker]]

Engine = Callable[[MakeWorker, Sequence[int], MeasureSettings, OnTokens], Iterator[Done]]
"""Maps a worker over shards and yields a `Done` for each of them, in any order.

It is called with four arguments: a function that makes a worker, which can be sent to other processes and called as
often as there are to be workers; the numbers of the shards; the settings; and a function to be told of tokens as they
are measured, by the worker where that runs in this process, else by the engine at each `Done`. The first error of a
worker is raised.
"""


def get_engine(name: str) -> Engine:
    """Return an engine by its name.

    Raises:
        TokensieveError: there is no such engine.
    """
    return _module(name).run


def check_engine(settings: MeasureSettings) -> None:
    """Refuse an engine that does not exist or that cannot run here with its settings.

    Raises:
        TokensieveError: why not.
    """
    _module(settings.engine).check(settings)


def _module(name: str) -> Any:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    if name not in names:
        raise TokensieveError(
            f"unknown engine '{name}'{did_you_mean(name, names)}",
            where="recipe: measure.engine",
            hint=f"one of: {', '.join(names)}",
        )
    return importlib.import_module(f"{__name__}.{name}")
