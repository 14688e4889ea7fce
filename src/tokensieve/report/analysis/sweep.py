"""What an arm would keep at other settings of its rule: exact, from stored scores, for data sets of any size.

A sweep is a list of settings of one parameter (the fraction of a ranking, or a threshold), ordered so that each setting
keeps at least the tokens of the one before. A single number therefore describes a token at all settings: its
**level**, the number of settings that drop it. A token is kept at setting ``s`` if its level is at most ``s``.
`ops.rules` and `ops.cutoff` make the decisions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Bool, Float32, Int64, Statistics, UInt8
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.methods._base import Method
from tokensieve.ops.cutoff import Cutoff, bucket_of, count_lower, count_upper, find_cutoff
from tokensieve.ops.ragged import order_keys, rank_in_segments, segment_counts, segment_ids
from tokensieve.ops.rules import DropFraction, Rule, Threshold, TopCount, TopFraction, forced_tokens
from tokensieve.runs.view import RunView
from tokensieve.select.selection import Selection

STEPS = 100
"""Settings of a sweep, in addition to the run's own."""
PROMPT = 255
"""Level of a token that is not trainable."""


@dataclass(frozen=True)
class Sweep:
    """Settings of an arm's rule, ordered so that later settings keep more.

    Attributes:
        parameter: ``fraction`` (kept), ``discard`` (dropped) or ``threshold``; None if the arm has no adjustable ratio.
        values: values of the parameter; one NaN if there is none.
        own: index of the run's own setting.
        thresholds: the lowest score that each setting keeps by rank; NaN if it keeps none by rank.
        note: why there is no parameter; empty otherwise.
    """

    parameter: str | None
    values: tuple[float, ...]
    own: int
    thresholds: tuple[float, ...]
    note: str = ""


class Levels:
    """The sweep of one arm, and the level of each of its tokens.

    Args:
        view: the run.
        arm: its name.
    """

    def __init__(self, view: RunView, arm: str) -> None:
        self._view, self._arm = view, arm
        row = view.row(arm).selection
        assert row is not None
        self._keep_turn_end = row.identity.keep_turn_end
        self._rules: Sequence[Rule] = ()
        self._cutoffs: list[Cutoff] = []
        self._ties: list[Int64] = []
        # The shards are read several times; if there is only one, it is read once.
        self._read = lru_cache(maxsize=1)(self._read_shard)
        self.shard = lru_cache(maxsize=1)(self._shard)
        self.sweep = self._find(row)

    def _shard(self, number: int) -> UInt8:
        """Return uint8 ``[tokens]``: the level of each token of a shard, `PROMPT` where it is not trainable."""
        statistics, scores, kept = self._read(number)
        levels = self._count_drops(number, scores, statistics) if self._rules else (~kept).astype(np.uint8)
        levels[~statistics.trainable] = PROMPT
        return levels

    def _find(self, selection: Selection) -> Sweep:
        """Find the settings and thresholds over all shards; none if the rule does not give the stored decisions."""
        rule = own_rule(selection)
        if rule is None:
            return _fixed("a ratio cannot reproduce this selection")
        self._rules, own = self._settings(rule)
        if isinstance(rule, TopFraction) and rule.scope == "dataset":
            self._find_cutoffs()
        lowest = np.full(len(self._rules) + 1, np.inf)
        for number in range(self._view.store.shards):
            statistics, scores, kept = self._read(number)
            trainable, levels = statistics.trainable, self.shard(number)
            if not np.array_equal(levels[trainable] <= own, kept[trainable]):
                self._rules = ()
                self.shard.cache_clear()
                return _fixed("the stored selection does not match the stored scores and rule")
            ranked = trainable & ~forced_tokens(statistics)
            np.minimum(lowest, _lowest(levels[ranked], scores[ranked], len(lowest)), out=lowest)
        if isinstance(rule, Threshold):
            values = [setting.value for setting in self._rules if isinstance(setting, Threshold)]
            return Sweep("threshold", tuple(values), own, tuple(values))
        values = [setting.fraction for setting in self._fractions]
        lowest = np.minimum.accumulate(lowest[:-1])
        known = np.isfinite(lowest) & (rule.scope == "dataset")
        name = "discard" if isinstance(rule, DropFraction) else "fraction"
        return Sweep(name, tuple(values), own, tuple(np.where(known, lowest, np.nan).tolist()))

    def _settings(self, rule: TopFraction | Threshold) -> tuple[Sequence[TopFraction | Threshold], int]:
        """Return the settings of a rule, including the run's own, and the index of the run's own."""
        if isinstance(rule, Threshold):
            values = sorted({rule.value, *self._quantiles()}, reverse=True)
            return [Threshold(value) for value in values], values.index(rule.value)
        grid = {step / STEPS for step in range(1, STEPS + 1)} | {rule.fraction}
        values = sorted(grid, reverse=isinstance(rule, DropFraction))
        return [dataclasses.replace(rule, fraction=value) for value in values], values.index(rule.fraction)

    def _quantiles(self) -> set[float]:
        """Return the scores at even steps of the ranking of all trainable tokens."""
        keys = [lambda number=number: self._trainable_keys(number) for number in range(self._view.store.shards)]
        upper = sum((count_upper(key()) for key in keys), np.zeros(1, dtype=np.int64))
        total = int(upper.sum())
        counts = sorted({max(1, total * step // STEPS) for step in range(1, STEPS + 1)}) if total else []
        return {cutoff.value for cutoff in _cutoffs(upper, keys, counts)}

    def _find_cutoffs(self) -> None:
        shards = range(self._view.store.shards)
        keys = [lambda number=number: order_keys(self._values(number)) for number in shards]
        upper = sum((count_upper(key()) for key in keys), np.zeros(1, dtype=np.int64))
        trainable = forced = 0
        for number in shards:
            statistics = self._read(number)[0]
            trainable += int(statistics.trainable.sum())
            forced += int(forced_tokens(statistics).sum())
        picks = [rule.picks(trainable, forced) for rule in self._fractions]
        self._cutoffs = _cutoffs(upper, keys, picks)
        known, place = np.unique(np.array([cutoff.value for cutoff in self._cutoffs]), return_inverse=True)
        left = np.array([cutoff.ties for cutoff in self._cutoffs], dtype=np.int64)
        for number in shards:  # the ties that are left at the start of each shard
            self._ties.append(np.maximum(left, 0))
            found = self._values(number)
            at = np.minimum(np.searchsorted(known, found), len(known) - 1)
            left = left - np.bincount(at[known[at] == found], minlength=len(known))[place]

    @property
    def _fractions(self) -> list[TopFraction]:
        return [rule for rule in self._rules if isinstance(rule, TopFraction)]

    def _count_drops(self, number: int, scores: Float32, statistics: Statistics) -> UInt8:
        """Return uint8 ``[tokens]``: how many settings drop each token; undefined for tokens that are not trainable."""
        drops = np.zeros(len(scores), dtype=np.uint8)
        trainable, forced = statistics.trainable, forced_tokens(statistics)
        free = trainable & ~forced
        if self._cutoffs:
            values = self._fractions[0].values(scores)
            for rule, cutoff, ties in zip(self._fractions, self._cutoffs, self._ties[number].tolist(), strict=True):
                drops += ~rule.decide(Cutoff(cutoff.value, ties).keep(values, free), trainable, forced)
            return drops
        if not self._fractions:
            for rule in self._rules:
                drops += ~rule.keep(scores, statistics)
            return drops
        example = segment_ids(statistics.cu_seqlens)
        rank = rank_in_segments(self._fractions[0].keys(scores, free), example)
        sizes = np.stack([segment_counts(mask, statistics.cu_seqlens) for mask in (trainable, forced)], axis=1)
        kinds, kind = np.unique(sizes, axis=0, return_inverse=True)
        for rule in self._fractions:
            picks = np.array([rule.picks(*both) for both in kinds.tolist()], dtype=np.int64)
            drops += ~rule.decide(rank < picks[kind.reshape(-1)][example], trainable, forced)
        return drops

    def _trainable_keys(self, number: int) -> NDArray[np.uint32]:
        statistics, scores, _ = self._read(number)
        return order_keys(scores[statistics.trainable])

    def _values(self, number: int) -> Float32:
        """Return float32 ``[free tokens]``, what the ranking ranks by."""
        statistics, scores, _ = self._read(number)
        return self._fractions[0].values(scores)[statistics.trainable & ~forced_tokens(statistics)]

    def _read_shard(self, number: int) -> tuple[Statistics, Float32, Bool]:
        statistics = self._view.store.statistics(self._view.store.read(number), {}, 0)
        if not self._keep_turn_end:
            statistics = dataclasses.replace(statistics, turn_end=None)
        return statistics, *self._view.read_scores(self._arm, number)


def _lowest(levels: UInt8, scores: Float32, count: int) -> NDArray[np.float64]:
    """Return float64 ``[count]``, the lowest score of each level; infinite where a level has none."""
    order = np.argsort(levels, kind="stable")  # of bytes, it takes time in proportion to their number
    sizes = np.bincount(levels, minlength=count)
    starts, found = np.cumsum(sizes) - sizes, np.full(count, np.inf)
    if present := np.flatnonzero(sizes).tolist():
        found[present] = np.minimum.reduceat(scores[order], starts[present])
    return found


def own_rule(selection: Selection) -> TopFraction | Threshold | None:
    """Return the rule of an arm if its parameter can change without scoring or training again, or None."""
    rule = rule_with_share(selection)
    if selection.rounds or _chooses_rows(selection):
        return None
    if isinstance(rule, Threshold):  # imported labels have the scores 0 and 1
        return None if selection.imported else rule
    return rule if isinstance(rule, TopFraction) and ratio_parameter(selection) else None


def rule_with_share(selection: Selection) -> Rule:
    """Return the rule of an arm; a count of tokens as the fraction that keeps as many."""
    rule = selection.rule
    if not isinstance(rule, TopCount):
        return rule
    # Half a token more, so that rounding down gives exactly the count.
    return TopFraction(min(1.0, (rule.tokens + 0.5) / max(1, selection.trainable)))


def _chooses_rows(selection: Selection) -> bool:
    """Whether rows were dropped before the rule decided, so that the scores do not say all."""
    method = _method_of(selection)
    return method is not None and method.chooses_rows


def _method_of(selection: Selection) -> Method | None:
    """Return the method of an arm; None where it was imported, or is of a package that is not installed."""
    if selection.imported:
        return None
    try:
        return get_method(selection.method, **selection.parameters)
    except TokensieveError:
        return None


def ratio_parameter(selection: Selection) -> str | None:
    """Return the parameter of an arm's method that sets the fraction of its rule, or None."""
    if selection.imported:
        return "fraction"
    if (method := _method_of(selection)) is None:
        return "fraction" if "fraction" in selection.parameters else None
    return next((name for name in selection.parameters if _is_ratio(method, name)), None)


def _is_ratio(method: Method, name: str) -> bool:
    ratio = getattr(method, name)
    if not isinstance(method.rule, TopFraction) or method.rule.fraction != ratio:
        return False
    changed = dataclasses.replace(method, **{name: ratio / 2}).rule
    return isinstance(changed, TopFraction) and changed.fraction == ratio / 2


def _fixed(note: str) -> Sweep:
    return Sweep(None, (np.nan,), 0, (np.nan,), note)


def _cutoffs(upper: Int64, keys: Sequence[Callable[[], NDArray[np.uint32]]], counts: Sequence[int]) -> list[Cutoff]:
    """Find the cut-off of each count, in one more pass over the shards."""
    buckets = {bucket_of(upper, count)[0] for count in counts if count}
    lower = {bucket: np.zeros(1, dtype=np.int64) for bucket in buckets}
    for key in keys:
        found = key()
        for bucket in buckets:
            lower[bucket] = lower[bucket] + count_lower(found, bucket)
    return [find_cutoff(upper, lower.__getitem__, count) for count in counts]
