"""What is done with each shard of a selection, in any process and any order: passes that are plain data.

An engine (`engines`) maps a pass over the numbers of shards, and the driver (`select.streaming`) learns a few numbers
of each. A shard is written whole, and doing it twice is doing it once. What a ranking over the data set reads again in
its later passes lies beside the scores until it is done: which tokens are trainable, which of them the method leaves to
the rule, and which must be kept, one to three bits a token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Bool, Float32, Int64, Statistics, check_finite
from tokensieve.engines import Done
from tokensieve.methods._base import Method
from tokensieve.ops.cutoff import Cutoff, Tally
from tokensieve.ops.ragged import segment_any
from tokensieve.ops.rules import Ranking, Rule, forced_tokens
from tokensieve.store.atomic import atomic_file
from tokensieve.store.checksum import FileRecord
from tokensieve.store.shards import read_shard, shard_name, write_shard

LoadStatistics = Callable[[int], tuple[Statistics, NDArray[np.int64]]]
"""Shard number to its statistics and the source rows of its examples."""

MASKS = "masks"
"""The folder, beside the scores, of what only the passes read."""

Result = TypeVar("Result")


def kept_name(number: int) -> str:
    """Return the path of one shard's decisions within the folder of the scores."""
    return f"kept/{shard_name(number)}"


@dataclass
class Counts:
    """What was kept of some shards."""

    trainable: int = 0
    kept: int = 0
    examples: int = 0
    examples_without_kept: int = 0
    kept_turn_ends: int = 0

    @classmethod
    def of(cls, trainable: Bool, kept: Bool, cu_seqlens: Int64, kept_turn_ends: int) -> Counts:
        """Count a shard."""
        examples = len(cu_seqlens) - 1
        without = examples - int(np.count_nonzero(segment_any(kept, cu_seqlens)))
        return cls(int(np.count_nonzero(trainable)), int(np.count_nonzero(kept)), examples, without, kept_turn_ends)

    def add(self, other: Counts) -> None:
        """Add those of other shards."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


@dataclass
class Score:
    """Scores a shard and writes its scores.

    Attributes:
        method: what scores.
        load: reads one shard's statistics.
        folder: gets the scores.
        told: the first shard that was seen whose scores differ, so that no other needs a look.
    """

    method: Method
    load: LoadStatistics
    folder: Path
    told: int | None = field(default=None, init=False)

    def __call__(self, number: int) -> tuple[Statistics, Statistics, Float32, FileRecord, tuple[float, ...]]:
        """Return statistics, those that the rule decides upon, scores, the record of the file, and `ends`.

        These are the lowest and the highest score of the free tokens.

        Raises:
            TokensieveError: a score that is NaN or infinite.
        """
        statistics, rows = self.load(number)
        scores = np.ascontiguousarray(self.method.score(statistics), dtype=np.float32)
        # Bits times 0 or 1: as `numpy.where` with 0, in an eighth of the time.
        scores = (scores.view(np.uint32) * statistics.trainable).view(np.float32)
        check_finite(scores, statistics.trainable, statistics.cu_seqlens, "score")
        columns: dict[str, NDArray[Any]] = {"score": scores}
        if (reasons := self.method.reasons(statistics)) is not None:
            columns["reasons"] = reasons
        record = write_shard(self.folder / shard_name(number), statistics.cu_seqlens, columns, {"row": rows})
        offered = self.method.offered(statistics)
        return statistics, offered, scores, record, self._ends(number, scores, offered)

    def _ends(self, number: int, scores: Float32, statistics: Statistics) -> tuple[float, ...]:
        if self.told not in (None, number):  # the first shard almost always tells
            return ()
        ranked = scores[statistics.trainable & ~forced_tokens(statistics)]
        found = (float(ranked.min()), float(ranked.max())) if len(ranked) else ()
        if len(set(found)) > 1:
            self.told = number
        return found


@dataclass(frozen=True)
class Alone:
    """Scores a shard and decides it by itself. The value is its `Counts`, and what `Score` says of its scores."""

    score: Score
    rule: Rule

    def __call__(self, number: int) -> Done:
        """Do a shard."""
        statistics, offered, scores, record, ends = self.score(number)
        kept = self.rule.keep(scores, offered)
        name = kept_name(number)
        files = {
            shard_name(number): record,
            name: write_shard(self.score.folder / name, statistics.cu_seqlens, {"kept": kept}),
        }
        turn_ends = int(np.count_nonzero(kept & forced_tokens(statistics)))
        counts = Counts.of(statistics.trainable, kept, statistics.cu_seqlens, turn_ends)
        return Done(number, len(scores), files, (counts, ends))


@dataclass(frozen=True)
class Masks:
    """Which tokens of a shard are what, each bool ``[tokens]``.

    Attributes:
        trainable: carry a label.
        offered: those of them that the rule decides upon.
        forced: those of these that must be kept.
    """

    trainable: Bool
    offered: Bool
    forced: Bool

    @property
    def free(self) -> Bool:
        """Those that are ranked."""
        return self.offered & ~self.forced

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many are trainable, offered and forced."""
        trainable, offered, forced = (
            int(np.count_nonzero(mask)) for mask in (self.trainable, self.offered, self.forced)
        )
        return trainable, offered, forced

    def write(self, path: Path) -> None:
        """Write a bit for each token and mask; a mask that says nothing more than the one before is left out."""
        trainable, offered, forced = self.counts
        parts = {"offered": offered < trainable, "forced": forced > 0}
        masks = [self.trainable, *(getattr(self, name) for name, present in parts.items() if present)]
        flags = np.array([sum(1 << bit for bit, present in enumerate(parts.values()) if present)], dtype=np.uint8)
        with atomic_file(path) as partial:
            np.concatenate([flags, *map(np.packbits, masks)]).tofile(partial)

    @classmethod
    def read(cls, path: Path, tokens: int) -> Masks:
        """Read what `write` wrote."""
        found, size = np.fromfile(path, dtype=np.uint8), -(-tokens // 8)
        flags, places = int(found[0]), iter(range(1, len(found) + 1, max(1, size)))

        def mask() -> Bool:
            place = next(places)
            return np.unpackbits(found[place : place + size], count=tokens).view(np.bool_)

        trainable = mask()
        offered = mask() if flags & 1 else trainable
        return cls(trainable, offered, mask() if flags & 2 else np.zeros_like(trainable))


@dataclass(frozen=True)
class Scored:
    """What the driver learns of a shard that is scored.

    Attributes:
        trainable: number of trainable tokens.
        offered: number of those that the rule decides upon.
        forced: number of those, again, that must be kept.
        sample: float32, values of some of the others that the rule decides upon.
        ends: what `Score` says of its scores.
    """

    trainable: int
    offered: int
    forced: int
    sample: Float32
    ends: tuple[float, ...]


@dataclass(frozen=True)
class ScoreRanked:
    """Scores a shard that is to be ranked with all others. The value is `Scored`.

    Attributes:
        score: scores it.
        rule: the ranking.
        one_in: of how many tokens one is drawn for the sample.
    """

    score: Score
    rule: Ranking
    one_in: int

    def __call__(self, number: int) -> Done:
        """Do a shard."""
        statistics, offered, scores, record, ends = self.score(number)
        masks = Masks(statistics.trainable, offered.trainable, forced_tokens(offered))
        masks.write(masks_path(self.score.folder, number))
        sample = self.rule.values(scores[_drawn(number, masks.free, self.one_in)])
        return Done(number, len(scores), {shard_name(number): record}, Scored(*masks.counts, sample, ends))


@dataclass(frozen=True)
class Ranked(Generic[Result]):
    """Reads the scores of a shard again. The value is the result of ``work``.

    Attributes:
        rule: the ranking.
        folder: of scores and masks.
        work: a function of what the rule ranks, float32 ``[tokens]``, and bool ``[tokens]``, which tokens are ranked.
    """

    rule: Ranking
    folder: Path
    work: Callable[[Float32, Bool], Result]

    def __call__(self, number: int) -> Done:
        """Do a shard."""
        _, scores, masks = _read_ranked(self.folder, number)
        return Done(number, len(scores), {}, self.work(self.rule.values(scores), masks.free))


def tally(low: float, high: float, values: Float32, free: Bool) -> Tally:
    """Return how the values that are ranked lie with respect to a bracket."""
    return Tally.of(values, free, low, high)


def count_ties(value: float, values: Float32, free: Bool) -> int:
    """Return how many of the values that are ranked equal one."""
    return int(np.count_nonzero((values == value) & free))


@dataclass(frozen=True)
class Decide:
    """Decides a shard by a cut-off, and writes the decisions. The value is its `Counts`.

    Attributes:
        rule: the ranking.
        folder: of scores, masks and decisions.
        value: the cut-off.
        ties: int64 ``[shards]``, how many of the values that equal it belong; None where all do.
    """

    rule: Ranking
    folder: Path
    value: float
    ties: Int64 | None

    def __call__(self, number: int) -> Done:
        """Do a shard."""
        cu_seqlens, scores, masks = _read_ranked(self.folder, number)
        cutoff = Cutoff(self.value, len(scores) if self.ties is None else int(self.ties[number]))
        picked = cutoff.keep(self.rule.values(scores), masks.free)
        kept = self.rule.decide(picked, masks.offered, masks.forced)
        name = kept_name(number)
        files = {name: write_shard(self.folder / name, cu_seqlens, {"kept": kept})}
        _, _, turn_ends = masks.counts  # a ranking keeps all that must be kept
        return Done(number, len(kept), files, Counts.of(masks.trainable, kept, cu_seqlens, turn_ends))


def _read_ranked(folder: Path, number: int) -> tuple[Int64, Float32, Masks]:
    """Return offsets and scores of a shard, and which of its tokens are what."""
    cu_seqlens, columns = read_shard(folder / shard_name(number))
    return cu_seqlens, columns["score"], Masks.read(masks_path(folder, number), len(columns["score"]))


def masks_path(folder: Path, number: int) -> Path:
    """Return where the masks of a shard lie, in the folder of the scores, until it is decided."""
    return folder / MASKS / f"{number}.bits"


def _drawn(number: int, free: Bool, one_in: int) -> Int64:
    """Return int64 ``[drawn]``, the positions of free tokens among one in so many of a shard, drawn with its number."""
    if not len(free):
        return np.zeros(0, dtype=np.int64)
    drawn = np.random.default_rng(number).integers(0, len(free), -(-len(free) // one_in))
    return drawn[free[drawn]]
