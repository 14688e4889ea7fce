"""The data set that a method is fitted to, on an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from tokensieve.containers import Statistics
from tokensieve.engines import Done, Engine, each
from tokensieve.select.passes import LoadStatistics

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class EngineCorpus:
    """The shards of a data set, for `methods._base.over`.

    Attributes:
        load: reads one shard's statistics, in any process.
        shards: how many there are.
        engine: maps over them.
    """

    load: LoadStatistics
    shards: int
    engine: Engine

    def __call__(self) -> Iterator[Statistics]:
        """Yield the statistics of every shard, in this process."""
        return (self.load(number)[0] for number in range(self.shards))

    def map(self, work: Callable[[Statistics], Result]) -> Iterator[Result]:
        """Yield the result for each shard, in any order."""
        for done in each(self.engine, _Of(self.load, work), self.shards):
            yield done.value


@dataclass(frozen=True)
class _Of:
    load: LoadStatistics
    work: Callable[[Statistics], Any]

    def __call__(self, number: int) -> Done:
        statistics, _ = self.load(number)
        return Done(number, len(statistics.labels), {}, self.work(statistics))
