"""A method and a rule over the shards of a store: scores and decisions on disk, a few shards in memory.

Only a ranking over the whole data set needs to see every score before it can decide the first token. It gets by with
two counts of the scores' ranking keys (`ops.cutoff`), which lie in memory or, where they are many, in scratch files;
every other rule decides a shard alone.
Shards are worked on side by side, and the result does not depend on how many at once.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Bool, Float32, Int64, Statistics, check_finite
from tokensieve.errors import TokensieveError
from tokensieve.methods._base import Method
from tokensieve.ops.cutoff import count_lower, count_upper, find_cutoff
from tokensieve.ops.ragged import segment_counts
from tokensieve.ops.rules import Ranking, Rule, TopExamples, forced_tokens
from tokensieve.progress import ProgressCallback
from tokensieve.store.checksum import FileRecord
from tokensieve.store.manifest import open_manifest, write_manifest
from tokensieve.store.shards import shard_name, write_shard

Result = TypeVar("Result")
_MOST_WORKERS = 8  # beyond it the disk is the limit, and every worker holds a shard or two
_KEYS_IN_MEMORY = 2**26  # 256 MB

LoadStatistics = Callable[[int], tuple[Statistics, NDArray[np.int64]]]
"""Shard number to its statistics and the source rows of its examples."""


Stage = Callable[[str], AbstractContextManager[ProgressCallback]]
"""Opens a progress bar, in trainable tokens, for ``score`` or ``select``."""


@contextmanager
def unseen(_: str) -> Iterator[ProgressCallback]:
    """Show no progress."""
    yield lambda amount, /, *, total=None, note=None: None


def select_shards(
    method: Method, rule: Rule, load: LoadStatistics, shards: int, folder: Path, stage: Stage = unseen
) -> dict[str, Any]:
    """Score every shard, decide which tokens are kept, and write both.

    Args:
        method: what scores.
        rule: what decides.
        load: reads one shard's statistics.
        shards: number of shards.
        folder: gets one file a shard, with ``row``, ``score`` and, where the method gives them, ``reasons``, one in
            ``kept/`` with the decisions, and the manifest of all.
        stage: shows progress, and the kept share so far.

    Returns:
        Counts: ``trainable``, ``kept``, ``examples``, ``examples_without_kept``, ``kept_turn_ends``, and
        ``threshold``, the lowest score that was kept by rank (None where no single one exists), and ``scores_tie``,
        whether all scores of tokens that need not be kept are the same.

    Raises:
        TokensieveError: a rule that needs a training batch, or a score that is NaN or infinite.
    """
    if isinstance(rule, Ranking | TopExamples) and rule.scope == "batch":
        raise TokensieveError(
            "scope 'batch' ranks within a training batch, and offline there is none",
            hint="scope: dataset or scope: example" if isinstance(rule, Ranking) else "a method that selects offline",
        )
    output = _Output(method, load, folder)
    with ThreadPoolExecutor(workers()) as pool:
        if isinstance(rule, Ranking) and rule.scope == "dataset":
            counts, threshold = _select_dataset(rule, shards, output, pool, stage)
        else:
            counts, threshold = _select_alone(rule, shards, output, pool, stage), None
    output.finish()
    return {**asdict(counts), "threshold": threshold, "scores_tie": output.scores_tie}


def read_selection(folder: Path, number: int) -> tuple[Float32, Bool]:
    """Read one shard's scores, float32 ``[tokens]``, and decisions, bool ``[tokens]``."""
    manifest = open_manifest(folder)
    return manifest.column(shard_name(number), "score"), manifest.column(kept_name(number), "kept")


def read_kept(folder: Path, number: int) -> tuple[Int64, Bool]:
    """Read the offsets of one shard's examples, int64 ``[examples + 1]``, and its decisions, bool ``[tokens]``."""
    cu_seqlens, columns = open_manifest(folder).read(kept_name(number))
    return cu_seqlens, columns["kept"]


def kept_name(number: int) -> str:
    """Return the path of one shard's decisions within the folder of the scores."""
    return f"kept/{shard_name(number)}"


def in_order(pool: ThreadPoolExecutor, work: Callable[[int], Result], count: int) -> Iterator[Result]:
    """Yield the results of ``work(0)``, ``work(1)``, ... in order, a few ahead of the reader at most."""
    ahead: deque[Future[Result]] = deque()
    for number in range(count):
        ahead.append(pool.submit(work, number))
        if len(ahead) > workers():
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


@dataclass
class _Counts:
    trainable: int = 0
    kept: int = 0
    examples: int = 0
    examples_without_kept: int = 0
    kept_turn_ends: int = 0

    @classmethod
    def of(cls, trainable: Bool, kept: Bool, cu_seqlens: Int64, kept_turn_ends: int) -> _Counts:
        without = int((segment_counts(kept, cu_seqlens) == 0).sum())
        return cls(
            int(np.count_nonzero(trainable)), int(np.count_nonzero(kept)), len(cu_seqlens) - 1, without, kept_turn_ends
        )

    def add(self, other: _Counts, advance: ProgressCallback) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        advance(other.trainable, note=f"{100 * self.kept / max(1, self.trainable):.1f} % kept")


class _Output:
    """Scores and decisions, shard by shard, and the record of what was written."""

    def __init__(self, method: Method, load: LoadStatistics, folder: Path) -> None:
        self.folder, self._method, self._load = folder, method, load
        self._files: dict[str, FileRecord] = {}
        self._seen: set[float] = set()
        self.scores_tie = True

    def score(self, number: int) -> tuple[Statistics, Float32]:
        """Score a shard and write its scores."""
        statistics, rows = self._load(number)
        scores = np.where(statistics.trainable, self._method.score(statistics), np.float32(0))
        scores = scores.astype(np.float32, copy=False)
        check_finite(scores, statistics.trainable, statistics.cu_seqlens, "score")
        if self.scores_tie:  # the first shard almost always tells
            ranked = scores[statistics.trainable & ~forced_tokens(statistics)]
            self._seen |= {float(ranked.min()), float(ranked.max())} if len(ranked) else set()
            self.scores_tie = len(self._seen) < 2
        columns: dict[str, NDArray[Any]] = {"score": scores}
        if (reasons := self._method.reasons(statistics)) is not None:
            columns["reasons"] = reasons
        name = shard_name(number)
        self._files[name] = write_shard(self.folder / name, statistics.cu_seqlens, columns, {"row": rows})
        return statistics, scores

    def keep(self, number: int, cu_seqlens: Int64, kept: Bool) -> None:
        """Write the decisions of a shard."""
        name = kept_name(number)
        self._files[name] = write_shard(self.folder / name, cu_seqlens, {"kept": kept})

    def finish(self) -> None:
        """Write the manifest."""
        write_manifest(self.folder, dict(sorted(self._files.items())))


def _select_alone(rule: Rule, shards: int, output: _Output, pool: ThreadPoolExecutor, stage: Stage) -> _Counts:
    """Score every shard and decide it by itself."""

    def work(number: int) -> _Counts:
        statistics, scores = output.score(number)
        kept = rule.keep(scores, statistics)
        output.keep(number, statistics.cu_seqlens, kept)
        turn_ends = int(np.count_nonzero(kept & forced_tokens(statistics)))
        return _Counts.of(statistics.trainable, kept, statistics.cu_seqlens, turn_ends)

    counts = _Counts()
    with stage("select") as advance:
        for part in in_order(pool, work, shards):
            counts.add(part, advance)
    return counts


class _Keys:
    """Ranking keys and offsets of every shard: the first in memory, further ones in scratch files.

    Plain arrays, not shards: they outlive no call.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._room = folder, _KEYS_IN_MEMORY
        self._held: dict[int, tuple[Int64, NDArray[np.uint32]]] = {}

    def write(self, number: int, cu_seqlens: Int64, keys: NDArray[np.uint32]) -> None:
        self._room -= len(keys)
        if self._room >= 0:
            self._held[number] = cu_seqlens, keys
            return
        np.save(self._folder / f"{number}-offsets.npy", cu_seqlens)
        np.save(self._folder / f"{number}-keys.npy", keys)

    def read(self, number: int) -> tuple[Int64, NDArray[np.uint32]]:
        if number in self._held:
            return self._held[number]
        return np.load(self._folder / f"{number}-offsets.npy"), np.load(self._folder / f"{number}-keys.npy")


def _select_dataset(
    rule: Ranking, shards: int, output: _Output, pool: ThreadPoolExecutor, stage: Stage
) -> tuple[_Counts, float | None]:
    """Score every shard, find the cut-off by two counts of the ranking keys, and decide: three passes.

    Returns:
        The counts, and the lowest score that was kept by rank; None where there is none.
    """
    output.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.folder, prefix=".keys-") as scratch:
        stored = _Keys(Path(scratch))

        def first(number: int) -> tuple[int, int, NDArray[np.int64]]:
            statistics, scores = output.score(number)
            trainable, forced = statistics.trainable, forced_tokens(statistics)
            keys = rule.keys(scores, trainable, forced)
            stored.write(number, statistics.cu_seqlens, keys)
            return int(np.count_nonzero(trainable)), int(np.count_nonzero(forced)), count_upper(keys)

        trainable = forced = 0
        upper = np.zeros(0, dtype=np.int64)
        with stage("score") as advance:
            for some_trainable, some_forced, counted in in_order(pool, first, shards):
                trainable, forced = trainable + some_trainable, forced + some_forced
                upper = counted + (upper if len(upper) else 0)
                advance(some_trainable)

        def lower(bucket: int) -> NDArray[np.int64]:
            parts = in_order(pool, lambda number: count_lower(stored.read(number)[1], bucket), shards)
            return functools.reduce(np.add, parts)

        cutoff = find_cutoff(upper, lower, rule.picks(trainable, forced))

        def finish(
            number: int, cu_seqlens: Int64, keys: NDArray[np.uint32], picked: Bool
        ) -> tuple[_Counts, np.float32]:
            kept = rule.decide(picked, keys)
            output.keep(number, cu_seqlens, kept)
            return _Counts.of(keys != 0, kept, cu_seqlens, 0), rule.lowest(kept, keys)

        counts, lowest = _Counts(kept_turn_ends=forced), np.float32(np.inf)  # a ranking keeps all of them
        # Ties are shared out in the order of the shards; writing needs no order.
        writing: deque[Future[tuple[_Counts, np.float32]]] = deque()
        with stage("select") as advance:
            for number in range(shards):
                cu_seqlens, keys = stored.read(number)
                writing.append(pool.submit(finish, number, cu_seqlens, keys, cutoff.keep(keys)))
                while writing and (len(writing) > workers() or number == shards - 1):
                    part, least = writing.popleft().result()
                    counts.add(part, advance)
                    lowest = min(lowest, least)
    return counts, float(lowest) if np.isfinite(lowest) else None


def workers() -> int:
    """Return how many threads work on shards side by side."""
    return min(_MOST_WORKERS, 1 + (os.cpu_count() or 1))  # one waits for the disk
