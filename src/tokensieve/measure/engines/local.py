"""Shards one after the other, with one worker in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from tokensieve.measure.engines import Done, OnTokens, ShardWorker


def run(
    make: Callable[[], AbstractContextManager[ShardWorker]], shards: Sequence[int], on_tokens: OnTokens
) -> Iterator[Done]:
    """Do every shard; see `Engine`."""
    with make() as worker:
        for shard in shards:
            yield worker.do(shard, on_tokens)
