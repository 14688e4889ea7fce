"""Shards one after the other, with one worker in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tokensieve.engines import Done, Engine, MakeWorker, OnTokens
from tokensieve.engines.settings import EngineSettings
from tokensieve.errors import TokensieveError


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
    yield Local()


class Local:
    """One worker in this process."""

    def map(self, make: MakeWorker, shards: Sequence[int], on_tokens: OnTokens) -> Iterator[Done]:
        """Do every shard; see `Engine`."""
        with make() as worker:
            for shard in shards:
                yield worker.do(shard, on_tokens)
