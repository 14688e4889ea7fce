"""Consecutive parts of a pool, each with the statistics of its tokens, whatever the shards are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tokensieve.containers import Examples, Int64, Statistics
from tokensieve.data.example_store import ExampleStore
from tokensieve.ops.ragged import offsets
from tokensieve.select.streaming import LoadStatistics


def part_bounds(examples: int, parts: int) -> list[tuple[int, int]]:
    """Return the first example of each part and the one past its last, as `numpy.array_split` splits.

    >>> part_bounds(7, 3)
    [(0, 3), (3, 5), (5, 7)]
    """
    sizes = [examples // parts + (number < examples % parts) for number in range(parts)]
    stops = np.cumsum(sizes).tolist()
    return list(zip([0, *stops[:-1]], stops, strict=True))


@dataclass(frozen=True, eq=False)
class Part:
    """Consecutive examples of the pool with the statistics of fixed models."""

    examples: Examples
    statistics: Statistics


def read_part(examples: ExampleStore, load: LoadStatistics, starts: Int64, first: int, stop: int) -> Part:
    """Read examples ``first`` to ``stop``, from the shards that hold them; ``starts`` is each shard's first example."""
    pieces = list(_pieces(examples, load, starts, first, stop))
    shards, measured = [piece.examples for piece in pieces], [piece.statistics for piece in pieces]
    joined = Examples(
        np.concatenate([one.input_ids for one in shards]),
        np.concatenate([one.labels for one in shards]),
        offsets(np.concatenate([one.lengths for one in shards])),
        np.concatenate([one.rows for one in shards]),
    )
    turn_ends = [one.turn_end for one in measured if one.turn_end is not None]
    statistics = Statistics(
        joined.cu_seqlens,
        joined.labels,
        {key: np.concatenate([one.values[key] for one in measured]) for key in measured[0].values},
        np.concatenate(turn_ends) if turn_ends else None,
        measured[0].first_token,
    )
    return Part(joined, statistics)


def _pieces(examples: ExampleStore, load: LoadStatistics, starts: Int64, first: int, stop: int) -> Iterator[Part]:
    for number in range(examples.shards):
        low, high = max(first, int(starts[number])), min(stop, int(starts[number + 1]))
        if low >= high:
            continue
        shard, (statistics, _) = examples.read(number), load(number)
        rows = slice(low - int(starts[number]), high - int(starts[number]))
        cu_seqlens = shard.cu_seqlens[rows.start : rows.stop + 1]
        span = slice(int(cu_seqlens[0]), int(cu_seqlens[-1]))
        piece = Examples(shard.input_ids[span], shard.labels[span], cu_seqlens - cu_seqlens[0], shard.rows[rows])
        measured = Statistics(
            piece.cu_seqlens,
            statistics.labels[span],
            {key: value[span] for key, value in statistics.values.items()},
            None if statistics.turn_end is None else statistics.turn_end[span],
            statistics.first_token + span.start,
        )
        yield Part(piece, measured)
