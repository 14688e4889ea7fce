"""A method and a rule over the shards of a store: scores and decisions on disk, a few numbers a shard in memory.

This is the driver: what is done with a shard (`select.passes`) runs wherever an engine puts it. Only a ranking over the
whole data set needs to see every score before it can decide the first token: a pass scores, one reads the scores again
and counts what lies close to the cut-off (`ops.cutoff`), and one decides; every other rule decides a shard alone. Where
some of the values that equal the cut-off are kept and others are not, one more pass counts them, and they are shared
out in the order of the shards. The result depends neither on the engine nor on how many shards it does at once.
"""

from __future__ import annotations

import functools
import math
import shutil
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tokensieve.containers import Bool, Float32, Int64, Statistics
from tokensieve.engines import Engine, each
from tokensieve.engines.local import LOCAL
from tokensieve.errors import TokensieveError
from tokensieve.methods._base import Method
from tokensieve.ops.cutoff import Cutoff, TallySum, bracket, count_lower, count_upper, find_cutoff
from tokensieve.ops.ragged import order_keys
from tokensieve.ops.rules import Ranking, Rule, TopExamples, forced_tokens
from tokensieve.progress import ProgressCallback
from tokensieve.select.passes import (
    MASKS,
    Alone,
    Counts,
    Decide,
    LoadStatistics,
    Ranked,
    Score,
    ScoreRanked,
    count_ties,
    kept_name,
    masks_path,
    tally,
)
from tokensieve.store.checksum import FileRecord
from tokensieve.store.manifest import open_manifest, write_manifest
from tokensieve.store.records import FileRecords
from tokensieve.store.shards import shard_name

Result = TypeVar("Result")
_SAMPLED = 256  # one token in so many tells where the cut-off lies
_SAMPLED_SHARDS = 1024  # of more shards, as many tokens as of these

MODELS_DIFFER = "check that the models differ: a warm-up needs enough steps and a learning rate above 0"
"""How to fix scores that are all the same."""

Stage = Callable[[str], AbstractContextManager[ProgressCallback]]
"""Opens a progress bar, in trainable tokens, for ``score`` or ``select``."""


@contextmanager
def unseen(_: str) -> Iterator[ProgressCallback]:
    """Show no progress."""
    yield lambda amount, /, *, total=None, note=None: None


def select_shards(
    method: Method,
    rule: Rule,
    load: LoadStatistics,
    shards: int,
    folder: Path,
    stage: Stage = unseen,
    engine: Engine = LOCAL,
) -> dict[str, Any]:
    """Score every shard, decide which tokens are kept, and write both.

    Args:
        method: what scores.
        rule: what decides.
        load: reads one shard's statistics, in any process and several threads at once.
        shards: number of shards.
        folder: gets one file a shard, with ``row``, ``score`` and, where the method gives them, ``reasons``, one in
            ``kept/`` with the decisions, and the manifest of all.
        stage: shows progress, and the kept share so far.
        engine: maps the passes over shards.

    Returns:
        Counts: ``trainable``, ``kept``, ``examples``, ``examples_without_kept``, ``kept_turn_ends``, and
        ``threshold``, the lowest score that was kept by rank (None where no single one exists), and ``scores_tie``,
        whether all scores of tokens that need not be kept are the same.

    Raises:
        TokensieveError: a rule that needs a training batch, or a score that is NaN or infinite.
    """
    if isinstance(rule, Ranking | TopExamples) and rule.scope == "batch":
        raise TokensieveError(
            "scope 'batch' ranks within a training batch, which offline selection does not have",
            hint="scope: dataset or scope: example" if isinstance(rule, Ranking) else "a method that selects offline",
        )
    score, written = Score(method, load, folder), _Written(folder)
    if isinstance(rule, Ranking) and rule.scope == "dataset":
        counts, threshold = _select_dataset(rule, shards, score, written, engine, stage)
    else:
        counts, threshold = _select_alone(rule, shards, score, written, engine, stage), None
    written.finish()
    return {**asdict(counts), "threshold": threshold, "scores_tie": written.scores_tie}


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


class _Written:
    """What was written, and whether all scores are the same."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = FileRecords()
        self._seen: set[float] = set()

    def add(self, files: Mapping[str, FileRecord], ends: tuple[float, ...] = ()) -> None:
        """Take the files of a shard, and lowest and highest of its scores."""
        self._files.add(files)
        if self.scores_tie:
            self._seen.update(ends)

    @property
    def scores_tie(self) -> bool:
        """Whether no two scores of tokens that need not be kept differ."""
        return len(self._seen) < 2

    def finish(self) -> None:
        """Write the manifest."""
        write_manifest(self._folder, self._files)


def _count(counts: Counts, part: Counts, advance: ProgressCallback) -> None:
    counts.add(part)
    advance(part.trainable, note=f"{100 * counts.kept / max(1, counts.trainable):.1f} % kept")


def _select_alone(rule: Rule, shards: int, score: Score, written: _Written, engine: Engine, stage: Stage) -> Counts:
    """Score every shard and decide it by itself."""
    total = Counts()
    with stage("select") as advance:
        for done in each(engine, Alone(score, rule), shards):
            counts, ends = done.value
            written.add(done.files, ends)
            _count(total, counts, advance)
    return total


class _Ranking:
    """The scores of all shards, ranked together.

    Args:
        rule: the ranking.
        score: scores a shard.
        shards: number of shards.
        engine: where the passes run.
    """

    def __init__(self, rule: Ranking, score: Score, shards: int, engine: Engine) -> None:
        self._rule, self._score, self._shards, self._engine = rule, score, shards, engine
        self._offered = self._forced = 0
        self._sample = array("f")

    def score(self, written: _Written, advance: ProgressCallback) -> None:
        """Score every shard."""
        one_in = _SAMPLED * -(-self._shards // _SAMPLED_SHARDS)
        for done in each(self._engine, ScoreRanked(self._score, self._rule, one_in), self._shards):
            written.add(done.files, done.value.ends)
            self._offered += done.value.offered
            self._forced += done.value.forced
            self._sample.frombytes(done.value.sample.tobytes())
            advance(done.value.trainable)

    def settle(self) -> tuple[Cutoff, Int64 | None, float | None]:
        """Find the cut-off.

        Returns:
            The cut-off; int64 ``[shards]``, how many of the values that equal it are kept, None where all are; and the
            lowest score that is kept by rank, None where there is none.
        """
        free, picks = self._offered - self._forced, self._rule.picks(self._offered, self._forced)
        if not free:
            return Cutoff(math.inf, 0), None, None
        total = TallySum()
        for part in self._each(partial(tally, *bracket(np.array(self._sample), max(1, picks), free))):
            if not total.add(part):  # more values than the driver is to hold
                break
        cutoff = self._cutoff(total, picks) if picks else Cutoff(math.inf, 0)
        ties = self._share_out(cutoff) if 0 < cutoff.ties != total.count(cutoff.value) else None
        if not 0 < (lowest := self._rule.lowest(picks)) <= free:
            return cutoff, ties, None
        value = np.float32(self._cutoff(total, lowest).value)
        return cutoff, ties, float(self._rule.values(np.atleast_1d(value))[0]) + 0.0  # no negative zero

    def decide(self, cutoff: Cutoff, ties: Int64 | None, written: _Written, advance: ProgressCallback) -> Counts:
        """Decide every shard."""
        total = Counts()
        for done in each(self._engine, Decide(self._rule, self._score.folder, cutoff.value, ties), self._shards):
            written.add(done.files)
            _count(total, done.value, advance)
            # One by one: `shutil.rmtree` would hold the entries of a whole folder.
            masks_path(self._score.folder, done.shard).unlink(missing_ok=True)
        return total

    def _each(self, work: Callable[[Float32, Bool], Result]) -> Iterator[Result]:
        """Yield the result for the values of each shard, with bool ``[tokens]``, the tokens that are ranked."""
        for done in each(self._engine, Ranked(self._rule, self._score.folder, work), self._shards):
            yield done.value

    def _share_out(self, cutoff: Cutoff) -> Int64:
        """Return int64 ``[shards]``, the ties that are kept: the first ones, in the order of the shards."""
        counts = np.zeros(self._shards, dtype=np.int64)
        work = Ranked(self._rule, self._score.folder, partial(count_ties, cutoff.value))
        for done in each(self._engine, work, self._shards):
            counts[done.shard] = done.value
        return np.clip(cutoff.ties - (np.cumsum(counts) - counts), 0, counts)

    def _cutoff(self, total: TallySum, count: int) -> Cutoff:
        """Return the cut-off of the ``count`` largest; in two more passes where the sample misled."""
        return total.cutoff(count) or self._find(count)

    def _find(self, count: int) -> Cutoff:
        upper = functools.reduce(np.add, self._each(_upper))
        return find_cutoff(upper, lambda bucket: functools.reduce(np.add, self._each(partial(_lower, bucket))), count)


def _upper(values: Float32, free: Bool) -> Int64:
    return count_upper(order_keys(values[free]))


def _lower(bucket: int, values: Float32, free: Bool) -> Int64:
    return count_lower(order_keys(values[free]), bucket)


def _select_dataset(
    rule: Ranking, shards: int, score: Score, written: _Written, engine: Engine, stage: Stage
) -> tuple[Counts, float | None]:
    """Score every shard, find the cut-off, and decide; the first pass takes most of the time.

    Returns:
        The counts, and the lowest score that was kept by rank; None where there is none.
    """
    ranking = _Ranking(rule, score, shards, engine)
    with stage("score") as advance:
        ranking.score(written, advance)
    cutoff, ties, threshold = ranking.settle()
    with stage("select") as advance:
        counts = ranking.decide(cutoff, ties, written, advance)
    shutil.rmtree(score.folder / MASKS, ignore_errors=True)
    return counts, threshold
