"""Shards one after the other, with one worker in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tokensieve.errors import TokensieveError
from tokensieve.measure.engines import Done, MakeWorker, OnTokens
from tokensieve.measure.settings import MeasureSettings, RaySettings


def check(settings: MeasureSettings) -> None:
    """Refuse settings of another engine."""
    if settings.ray != RaySettings():
        raise TokensieveError(
            "the engine 'local' has one worker in this process, and 'ray' in the recipe says nothing to it",
            where="recipe: measure.ray",
            hint="measure.engine: ray",
        )


def run(make: MakeWorker, shards: Sequence[int], settings: MeasureSettings, on_tokens: OnTokens) -> Iterator[Done]:
    """Do every shard; see `Engine`."""
    with make() as worker:
        for shard in shards:
            yield worker.do(shard, on_tokens)
