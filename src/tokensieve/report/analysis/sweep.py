"""What an arm would keep at other settings of its rule: exact, from stored scores, for a whole data set of any size.

A sweep is a list of settings of one parameter (the fraction of a ranking, or a threshold) in the order in which more
and more is kept. What is kept at one setting is kept at every later one, so a single number tells a token's fate at
all of them: its **level**, the number of settings that drop it. A token is kept at setting ``s`` where its level is at
most ``s``. The decisions are those of `ops.rules` and `ops.cutoff` themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Bool, Float32, Int64, Statistics, UInt8
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.methods._base import Method
from tokensieve.ops.cutoff import Cutoff, bucket_of, count_lower, count_upper, find_cutoff
from tokensieve.ops.ragged import key_values, order_keys, rank_in_segments, segment_counts, segment_ids
from tokensieve.ops.rules import DropFraction, Rule, Threshold, TopCount, TopFraction, forced_tokens
from tokensieve.runs.results import IMPORTED, Selection
from tokensieve.runs.view import RunView

STEPS = 100
"""Settings of a sweep beside the run's own."""
PROMPT = 255
"""Level of a token that is not trainable."""


@dataclass(frozen=True)
class Sweep:
    """Settings of an arm's rule, in the order in which more is kept.

    Attributes:
        parameter: ``fraction`` (kept), ``discard`` (dropped) or ``threshold``; None where there is nothing to set.
        values: of the parameter; one NaN where there is nothing to set.
        own: place of the run's own setting.
        thresholds: the lowest score that each setting keeps by rank, NaN where there is none.
        note: why there is nothing to set; empty otherwise.
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
        self._keep_turn_end = row.keep_turn_end
        self._rules: Sequence[Rule] = ()
        self._cutoffs: list[Cutoff] = []
        self._ties: list[Int64] = []
        # What is gone through several times over is read once where it is one shard.
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
        """Find the settings, and what they keep over all shards; nothing to set where that is not the rule alone."""
        rule = own_rule(selection)
        if rule is None:
            return _fixed("the whole of what it keeps is no ranking with a ratio to set")
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
                return _fixed("what is stored of its selection does not follow from its scores by its rule")
            ranked = trainable & ~forced_tokens(statistics)
            np.minimum.at(lowest, levels[ranked], scores[ranked])
        if isinstance(rule, Threshold):
            values = [setting.value for setting in self._rules if isinstance(setting, Threshold)]
            return Sweep("threshold", tuple(values), own, tuple(values))
        values = [setting.fraction for setting in self._fractions]
        lowest = np.minimum.accumulate(lowest[:-1])
        known = np.isfinite(lowest) & (rule.scope == "dataset")
        name = "discard" if isinstance(rule, DropFraction) else "fraction"
        return Sweep(name, tuple(values), own, tuple(np.where(known, lowest, np.nan).tolist()))

    def _settings(self, rule: TopFraction | Threshold) -> tuple[Sequence[TopFraction | Threshold], int]:
        """Return the settings of a rule with its own among them, and the place of that."""
        if isinstance(rule, Threshold):
            values = sorted({rule.value, *self._quantiles()}, reverse=True)
            return [Threshold(value) for value in values], values.index(rule.value)
        grid = {step / STEPS for step in range(1, STEPS + 1)} | {rule.fraction}
        values = sorted(grid, reverse=isinstance(rule, DropFraction))
        return [dataclasses.replace(rule, fraction=value) for value in values], values.index(rule.fraction)

    def _quantiles(self) -> set[float]:
        """Return the scores at even steps of the ranking of all trainable tokens."""
        keys = [lambda number=number: self._keys(number, order=True) for number in range(self._view.store.shards)]
        upper = sum((count_upper(key()) for key in keys), np.zeros(1, dtype=np.int64))
        total = int(upper.sum())
        counts = sorted({max(1, total * step // STEPS) for step in range(1, STEPS + 1)}) if total else []
        cutoffs = [cutoff.key for cutoff in _cutoffs(upper, keys, counts)]
        return set(key_values(np.array(cutoffs, dtype=np.uint32)).tolist())

    def _find_cutoffs(self) -> None:
        shards = range(self._view.store.shards)
        keys = [lambda number=number: self._keys(number) for number in shards]
        upper = sum((count_upper(key()) for key in keys), np.zeros(1, dtype=np.int64))
        trainable = forced = 0
        for number in shards:
            statistics = self._read(number)[0]
            trainable += int(statistics.trainable.sum())
            forced += int(forced_tokens(statistics).sum())
        picks = [rule.picks(trainable, forced) for rule in self._fractions]
        self._cutoffs = _cutoffs(upper, keys, picks)
        known, place = np.unique(np.array([cutoff.key for cutoff in self._cutoffs]), return_inverse=True)
        left = np.array([cutoff.ties for cutoff in self._cutoffs], dtype=np.int64)
        for key in keys:  # the ties that are left when each shard begins
            self._ties.append(np.maximum(left, 0))
            found = key().astype(np.int64)
            at = np.minimum(np.searchsorted(known, found), len(known) - 1)
            left = left - np.bincount(at[known[at] == found], minlength=len(known))[place]

    @property
    def _fractions(self) -> list[TopFraction]:
        return [rule for rule in self._rules if isinstance(rule, TopFraction)]

    def _count_drops(self, number: int, scores: Float32, statistics: Statistics) -> UInt8:
        """Return uint8 ``[tokens]``: how many settings drop each; of no meaning where a token is not trainable."""
        drops = np.zeros(len(scores), dtype=np.uint8)
        if self._cutoffs:
            keys = self._keys(number)
            for rule, cutoff, ties in zip(self._fractions, self._cutoffs, self._ties[number].tolist(), strict=True):
                drops += ~rule.decide(Cutoff(cutoff.key, ties).keep(keys), keys)
            return drops
        if not self._fractions:
            for rule in self._rules:
                drops += ~rule.keep(scores, statistics)
            return drops
        trainable, forced = statistics.trainable, forced_tokens(statistics)
        example, keys = segment_ids(statistics.cu_seqlens), self._fractions[0].keys(scores, trainable, forced)
        rank = rank_in_segments(keys, example)
        sizes = np.stack([segment_counts(mask, statistics.cu_seqlens) for mask in (trainable, forced)], axis=1)
        kinds, kind = np.unique(sizes, axis=0, return_inverse=True)
        for rule in self._fractions:
            picks = np.array([rule.picks(*both) for both in kinds.tolist()], dtype=np.int64)
            drops += ~rule.decide(rank < picks[kind.reshape(-1)][example], keys)
        return drops

    def _keys(self, number: int, order: bool = False) -> NDArray[np.uint32]:
        statistics, scores, _ = self._read(number)
        if order:
            return order_keys(scores[statistics.trainable])
        return self._fractions[0].keys(scores, statistics.trainable, forced_tokens(statistics))

    def _read_shard(self, number: int) -> tuple[Statistics, Float32, Bool]:
        statistics = self._view.store.statistics(self._view.store.read(number), {}, 0)
        if not self._keep_turn_end:
            statistics = dataclasses.replace(statistics, turn_end=None)
        return statistics, *self._view.read_scores(self._arm, number)


def own_rule(selection: Selection) -> TopFraction | Threshold | None:
    """Return the rule of an arm where its one parameter can be set again without scoring or training again."""
    rule = rule_with_share(selection)
    kind = rule.get("name")
    given = {name: value for name, value in rule.items() if name != "name"}
    if selection.rounds:
        return None
    if kind == "Threshold":  # that of imported labels is of zeros and ones
        return None if selection.method == IMPORTED else Threshold(**given)
    kinds: Mapping[str | None, type[TopFraction]] = {"TopFraction": TopFraction, "DropFraction": DropFraction}
    return kinds[kind](**given) if kind in kinds and ratio_parameter(selection) else None


def rule_with_share(selection: Selection) -> Mapping[str, Any]:
    """Return the rule of an arm with its name; a count of tokens as the share that keeps as many."""
    if selection.rule.get("name") != TopCount.__name__:
        return selection.rule
    # Half a token more, so that rounding down gives the very count.
    share = min(1.0, (selection.rule["tokens"] + 0.5) / max(1, selection.trainable))
    return {"name": TopFraction.__name__, **dataclasses.asdict(TopFraction(share))}


def ratio_parameter(selection: Selection) -> str | None:
    """Return the parameter of an arm's method that is the fraction of its rule; None where the rule has no choice."""
    if selection.method == IMPORTED:
        return "fraction"
    try:
        method = get_method(selection.method, **selection.parameters)
    except TokensieveError:  # of a package that is not here
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
    """Find the cut-off of each count in one more pass over the shards."""
    buckets = {bucket_of(upper, count)[0] for count in counts if count}
    lower = {bucket: np.zeros(1, dtype=np.int64) for bucket in buckets}
    for key in keys:
        found = key()
        for bucket in buckets:
            lower[bucket] = lower[bucket] + count_lower(found, bucket)
    return [find_cutoff(upper, lower.__getitem__, count) for count in counts]
