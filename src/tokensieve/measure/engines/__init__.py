"""Where shards are measured: one module per engine, found by its name.

``measure.engine: NAME`` in a recipe asks for the module ``NAME`` of this folder, whose function ``run`` is an `Engine`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from tokensieve.errors import TokensieveError, did_you_mean
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


Engine = Callable[[Callable[[], AbstractContextManager[ShardWorker]], Sequence[int], OnTokens], Iterator[Done]]
"""Maps a worker over shards and yields a `Done` for each of them, in any order.

It is called with three arguments: a function that makes a worker, which can be sent to other processes and called as
often as there are to be workers; the numbers of the shards; and a function to be told of tokens as they are measured,
by the worker where that runs in this process, else by the engine at each `Done`. The first error of a worker is raised.
"""


def get_engine(name: str) -> Engine:
    """Return an engine by its name.

    Raises:
        TokensieveError: there is no such engine.
    """
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    if name not in names:
        raise TokensieveError(
            f"unknown engine '{name}'{did_you_mean(name, names)}",
            where="recipe: measure.engine",
            hint=f"one of: {', '.join(names)}",
        )
    return importlib.import_module(f"{__name__}.{name}").run
