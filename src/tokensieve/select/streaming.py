"""A method and a rule over the shards of a store: scores and decisions on disk, a few shards in memory.

Only a ranking over the whole data set needs to see every score before it can decide the first token. It reads the
scores that it has written again, and keeps in memory what lies close to the cut-off (`ops.cutoff`), and one or two bits
a token; every other rule decides a shard alone.
Shards are worked on side by side, and the result does not depend on how many at once.
"""

from __future__ import annotations

import functools
import math
import os
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
from tokensieve.ops.cutoff import Cutoff, Tally, bracket, count_lower, count_upper, find_cutoff
from tokensieve.ops.ragged import order_keys, segment_any
from tokensieve.ops.rules import Ranking, Rule, TopExamples, forced_tokens
from tokensieve.progress import ProgressCallback
from tokensieve.store.checksum import FileRecord
from tokensieve.store.manifest import open_manifest, write_manifest
from tokensieve.store.shards import read_shard, shard_name, write_shard

Result = TypeVar("Result")
_MOST_WORKERS = 8  # beyond it the disk is the limit, and every worker holds a shard or two
_SAMPLED = 256  # one token in so many tells where the cut-off lies

LoadStatistics = Callable[[int], tuple[Statistics, NDArray[np.int64]]]
"""Shard number to its statistics and the source rows of its examples."""

MODELS_DIFFER = "check that the models differ: a warm-up needs enough steps and a learning rate above 0"
"""How to fix scores that are all the same."""

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


def all_tied(scores: Float32, statistics: Statistics) -> bool:
    """Whether all scores of the trainable tokens that need not be kept are the same."""
    ranked = scores[statistics.trainable & ~forced_tokens(statistics)]
    return not len(ranked) or bool(ranked.min() == ranked.max())


def refuse_ties(name: str, rule: Rule, tie: bool, dropped: int, where: str, hint: str) -> None:
    """Refuse a ranking in which every score is the same.

    Args:
        name: what gives the scores.
        rule: what decides.
        tie: whether all scores of tokens that need not be kept are the same.
        dropped: number of trainable tokens that are not kept.
        where: place of the error.
        hint: how to fix it.

    Raises:
        TokensieveError: the order of the file would decide.
    """
    if isinstance(rule, Ranking) and tie and dropped:
        raise TokensieveError(
            f"'{name}' gives every token the same score, so the order of the file would decide which tokens are kept",
            where=where,
            hint=hint,
        )


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
        examples = len(cu_seqlens) - 1
        without = examples - int(np.count_nonzero(segment_any(kept, cu_seqlens)))
        return cls(int(np.count_nonzero(trainable)), int(np.count_nonzero(kept)), examples, without, kept_turn_ends)

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
        scores = np.ascontiguousarray(self._method.score(statistics), dtype=np.float32)
        # Bits times 0 or 1: as `numpy.where` with 0, in an eighth of the time.
        scores = (scores.view(np.uint32) * statistics.trainable).view(np.float32)
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

    def scores(self, number: int) -> tuple[Int64, Float32]:
        """Read the offsets of a shard's examples and its scores, just written."""
        cu_seqlens, columns = read_shard(self.folder / shard_name(number))
        return cu_seqlens, columns["score"]

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


class _Masks:
    """Which tokens of a shard are trainable and must be kept, one or two bits a token.

    Attributes:
        trainable: number of trainable tokens.
        forced: number of those that must be kept.
    """

    def __init__(self, statistics: Statistics) -> None:
        trainable, forced = statistics.trainable, forced_tokens(statistics)
        self.trainable, self.forced = int(np.count_nonzero(trainable)), int(np.count_nonzero(forced))
        self._size = len(trainable)
        self._trainable = np.packbits(trainable)
        self._forced = np.packbits(forced) if self.forced else None

    def read(self) -> tuple[Bool, Bool, Bool]:
        """Return bool ``[tokens]`` three times: the trainable tokens, the forced ones, and the free ones."""
        trainable = self._unpack(self._trainable)
        if self._forced is None:
            return trainable, np.zeros_like(trainable), trainable
        forced = self._unpack(self._forced)
        return trainable, forced, trainable & ~forced

    def _unpack(self, bits: NDArray[np.uint8]) -> Bool:
        return np.unpackbits(bits, count=self._size).view(np.bool_)


class _Ranked:
    """The scores of every shard, read again from the files that were just written, and ranked together.

    Args:
        rule: the ranking.
        output: where the scores are.
        pool: works on shards side by side.
        shards: number of shards.
    """

    def __init__(self, rule: Ranking, output: _Output, pool: ThreadPoolExecutor, shards: int) -> None:
        self._rule, self._output, self._pool, self._shards = rule, output, pool, shards
        self._masks: dict[int, _Masks] = {}
        self._samples: dict[int, Float32] = {}
        self._cutoffs: list[Cutoff] = []

    def score(self, number: int) -> int:
        """Score a shard, and return how many of its tokens are trainable."""
        statistics, scores = self._output.score(number)
        self._masks[number] = masks = _Masks(statistics)
        self._samples[number] = self._rule.values(scores[_drawn(number, masks.read()[2])])
        return masks.trainable

    def settle(self) -> float | None:
        """Find the cut-off of every shard; return the lowest score that is kept by rank, None where there is none."""
        trainable = sum(masks.trainable for masks in self._masks.values())
        forced = sum(masks.forced for masks in self._masks.values())
        free, picks = trainable - forced, self._rule.picks(trainable, forced)
        if not free:
            self._cutoffs = [Cutoff(math.inf, 0)] * self._shards
            return None
        sample = np.concatenate([self._samples.pop(number) for number in range(self._shards)])
        parts = self._tallies(*bracket(sample, max(1, picks), free))
        total = Tally.total(parts)
        cutoff = total.cutoff(picks) if picks else Cutoff(math.inf, 0)
        if cutoff is None:  # the sample misled
            cutoff = self._find(picks)
            parts = self._tallies(cutoff.value, cutoff.value)
        left = cutoff.ties
        for part in parts:  # ties are shared out in the order of the shards
            self._cutoffs.append(Cutoff(cutoff.value, min(left, part.count(cutoff.value))))
            left -= self._cutoffs[-1].ties
        if not 0 < (lowest := self._rule.lowest(picks)) <= free:
            return None
        value = np.float32((total.cutoff(lowest) or self._find(lowest)).value)
        return float(self._rule.values(np.atleast_1d(value))[0]) + 0.0  # no negative zero

    def keep(self, number: int) -> _Counts:
        """Decide a shard."""
        cu_seqlens, scores = self._output.scores(number)
        trainable, forced, free = self._masks[number].read()
        kept = self._rule.decide(self._cutoffs[number].keep(self._rule.values(scores), free), trainable, forced)
        self._output.keep(number, cu_seqlens, kept)
        masks = self._masks[number]
        return _Counts.of(trainable, kept, cu_seqlens, masks.forced)  # a ranking keeps all of them

    def _each(self, work: Callable[[Float32, Bool], Result]) -> Iterator[Result]:
        """Yield the result for the values of each shard, with bool ``[tokens]``, the tokens that are ranked."""

        def of(number: int) -> Result:
            return work(self._rule.values(self._output.scores(number)[1]), self._masks[number].read()[2])

        return in_order(self._pool, of, self._shards)

    def _tallies(self, low: float, high: float) -> list[Tally]:
        return list(self._each(lambda values, free: Tally.of(values, free, low, high)))

    def _find(self, count: int) -> Cutoff:
        """Find a cut-off without a bracket, in two more passes."""
        upper = functools.reduce(np.add, self._each(lambda values, free: count_upper(order_keys(values[free]))))

        def lower(bucket: int) -> Int64:
            parts = self._each(lambda values, free: count_lower(order_keys(values[free]), bucket))
            return functools.reduce(np.add, parts)

        return find_cutoff(upper, lower, count)


def _drawn(number: int, free: Bool) -> Int64:
    """Return int64 ``[drawn]``, the positions of free tokens among one in so many of a shard, drawn with its number."""
    if not len(free):
        return np.zeros(0, dtype=np.int64)
    drawn = np.random.default_rng(number).integers(0, len(free), -(-len(free) // _SAMPLED))
    return drawn[free[drawn]]


def _select_dataset(
    rule: Ranking, shards: int, output: _Output, pool: ThreadPoolExecutor, stage: Stage
) -> tuple[_Counts, float | None]:
    """Score every shard, find the cut-off, and decide: three passes, the first of which takes most of the time.

    Returns:
        The counts, and the lowest score that was kept by rank; None where there is none.
    """
    ranked, counts = _Ranked(rule, output, pool, shards), _Counts()
    with stage("score") as advance:
        for trainable in in_order(pool, ranked.score, shards):
            advance(trainable)
    threshold = ranked.settle()
    with stage("select") as advance:
        for part in in_order(pool, ranked.keep, shards):
            counts.add(part, advance)
    return counts, threshold


def workers() -> int:
    """Return how many threads work on shards side by side."""
    return min(_MOST_WORKERS, 1 + (os.cpu_count() or 1))  # one waits for the disk
