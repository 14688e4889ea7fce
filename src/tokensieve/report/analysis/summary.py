"""What every arm keeps of the complete data set, at every setting of its sweep, counted in two passes over the shards.

A table of counts has a row for each group of tokens and a column for each level (`sweep`): the sum of its first
``s + 1`` columns is what setting ``s`` keeps of each group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Bool, Float32, Int64, UInt8
from tokensieve.ops.ragged import key_values, order_keys, segment_counts
from tokensieve.report.analysis.groups import CLASSES, POSITIONS, TokenClasses, answer_places, example_of
from tokensieve.report.analysis.sweep import Levels
from tokensieve.report.heatmap import PERCENTILES
from tokensieve.runs.results import CONTROLS
from tokensieve.runs.view import RunView, ShardView

BINS = 40
_TOKENS = 300  # the most frequent vocabulary tokens, which are counted by level
_POINTS = 1500  # of the scatter plot
_KEY_BITS = 20  # of 32: a percentile is off by 2^-11 of its value at most

Arm = str


@dataclass(frozen=True, eq=False)
class Summary:
    """Counts of a data set's trainable tokens; ``levels`` is one more than the number of settings of an arm's sweep.

    Attributes:
        sources: int64 ``[sources, levels]`` by arm.
        positions: int64 ``[POSITIONS, levels]`` by arm.
        classes: int64 ``[CLASSES, levels]`` by arm.
        histograms: int64 ``[BINS, levels]`` by arm and value: ``score``, or a statistic such as ``base.loss``.
        edges: float64 ``[BINS + 1]`` by the name of a value (`value_name`), from the 1st to the 99th percentile; values
            beyond are counted in the first and the last bin.
        percentiles: the 1st and the 99th percentile, by the same name.
        extremes: the lowest and the highest value, by the same name.
        joint: int64 ``[levels of the first arm, levels of the second]`` by pair of arms, in the order of the arms.
        token_ids: int64 ``[tokens]``, the most frequent ones.
        tokens: int64 ``[tokens, levels]`` by arm.
        points: an even sample of tokens: float32 ``[points]`` by statistic, uint8 levels by arm, and int64 ``example``
            (its number) and ``token`` (its place in the example).
        index: one row per example.
    """

    sources: Mapping[Arm, Int64]
    positions: Mapping[Arm, Int64]
    classes: Mapping[Arm, Int64]
    histograms: Mapping[tuple[Arm, str], Int64]
    edges: Mapping[str, NDArray[np.float64]]
    percentiles: Mapping[str, tuple[float, float]]
    extremes: Mapping[str, tuple[float, float]]
    joint: Mapping[tuple[Arm, Arm], Int64]
    token_ids: Int64
    tokens: Mapping[Arm, Int64]
    points: Mapping[str, NDArray]
    index: Index


@dataclass(frozen=True, eq=False)
class Index:
    """One row per example, in the order of the store.

    Attributes:
        rows: int64 ``[examples]``, number of the source row.
        sources: int64 ``[examples]``, number of the source.
        tokens: int64 ``[examples]``.
        trainable: int64 ``[examples]``.
        kept: int64 ``[examples]`` by arm, at the run's own setting.
        scores: float64 ``[examples]`` by arm, the mean score of the trainable tokens; NaN without any.
        disputed: int64 ``[examples]``, tokens that one method keeps and another drops, not counting controls.
    """

    rows: Int64
    sources: Int64
    tokens: Int64
    trainable: Int64
    kept: Mapping[Arm, Int64]
    scores: Mapping[Arm, NDArray[np.float64]]
    disputed: Int64

    def take(self, numbers: Int64) -> Index:
        """Return the rows of some examples."""
        return Index(
            self.rows[numbers],
            self.sources[numbers],
            self.tokens[numbers],
            self.trainable[numbers],
            {arm: kept[numbers] for arm, kept in self.kept.items()},
            {arm: means[numbers] for arm, means in self.scores.items()},
            self.disputed[numbers],
        )


@dataclass
class _Tables:
    """Tables that grow shard by shard."""

    found: dict[tuple[str, ...], Int64] = field(default_factory=dict)

    def add(self, name: tuple[str, ...], group: Int64, levels: UInt8, shape: tuple[int, int]) -> None:
        counts = np.bincount(group * shape[1] + levels, minlength=shape[0] * shape[1]).reshape(shape)
        self.found[name] = self.found[name] + counts if name in self.found else counts

    def of(self, kind: str) -> dict[str, Int64]:
        return {name[1]: table for name, table in self.found.items() if name[0] == kind}

    def pairs(self, kind: str) -> dict[tuple[str, str], Int64]:
        return {(name[1], name[2]): table for name, table in self.found.items() if name[0] == kind}


def summarise(view: RunView, levels: Mapping[Arm, Levels]) -> Summary:
    """Count the tokens; memory grows with the vocabulary and the number of examples, not with the number of tokens."""
    percentiles, extremes, token_ids, trainable = _first_pass(view)
    edges = {name: _edges(*ends) for name, ends in percentiles.items()}
    widths = {arm: len(level.sweep.values) + 1 for arm, level in levels.items()}
    numbers = np.full(int(token_ids.max()) + 1 if len(token_ids) else 0, -1, dtype=np.int64)
    numbers[token_ids] = np.arange(len(token_ids))
    chosen = _even(trainable, _POINTS)
    classes, tables = TokenClasses(view.decoder), _Tables()
    index: list[Index] = []
    points: list[dict[str, NDArray]] = []
    done = 0
    for number, shard in enumerate(view.shards()):
        mask = shard.trainable
        found = {arm: level.shard(number)[mask] for arm, level in levels.items()}
        sources = view.store.source_numbers(number)
        ids = shard.examples.input_ids[mask]
        groups: dict[str, tuple[Int64, int]] = {
            "source": (
                sources[example_of(mask, shard.examples.cu_seqlens)].astype(np.int64),
                max(1, len(view.store.sources)),
            ),
            "position": (answer_places(mask, shard.examples.cu_seqlens), len(POSITIONS)),
            "class": (classes.of(ids), len(CLASSES)),
        }
        frequent = np.where(ids < len(numbers), numbers[np.minimum(ids, len(numbers) - 1)] if len(numbers) else -1, -1)
        for arm, level in found.items():
            for kind, (group, size) in groups.items():
                tables.add((kind, arm), group, level, (size, widths[arm]))
            listed = frequent >= 0
            tables.add(("token", arm), frequent[listed], level[listed], (len(token_ids), widths[arm]))
            for name in ("score", *shard.statistics):
                inside = _bins(shard.value(arm, name)[mask], edges[value_name(arm, name)])
                tables.add(("histogram", arm, name), inside, level, (BINS, widths[arm]))
        for first, second in _pairs(list(found)):
            shape = (widths[first], widths[second])
            tables.add(("joint", first, second), found[first].astype(np.int64), found[second], shape)
        here = np.flatnonzero(mask)[chosen[(chosen >= done) & (chosen < done + len(ids))] - done]
        points.append(
            {name: values[here] for name, values in shard.statistics.items()} | _places(view, number, shard, here)
        )
        points[-1] |= {f"level:{arm}": level.shard(number)[here] for arm, level in levels.items()}
        done += len(ids)
        index.append(_index(view, shard, sources))
    return Summary(
        tables.of("source"),
        tables.of("position"),
        tables.of("class"),
        tables.pairs("histogram"),
        edges,
        percentiles,
        extremes,
        tables.pairs("joint"),
        token_ids,
        tables.of("token"),
        _concatenated(points),
        _joined(index),
    )


def pick_examples(index: Index, arm: Arm, count: int) -> Int64:
    """Pick examples for the page: most and fewest tokens dropped, most disputed, and an even sample.

    Args:
        index: index of the data set.
        arm: the arm whose dropped tokens count.
        count: maximum number of examples.

    Returns:
        int64 ``[examples]``: their numbers, ascending.
    """
    numbers = np.flatnonzero(index.trainable > 0)
    if count >= len(numbers):
        return numbers
    share = index.kept[arm][numbers] / index.trainable[numbers]
    by_share = numbers[np.argsort(share, kind="stable")]
    part = count // 4
    disputed = numbers[np.argsort(-index.disputed[numbers], kind="stable")][:part]
    picked = [by_share[:part], by_share[len(by_share) - part :], disputed[index.disputed[disputed] > 0]]
    unique = np.unique(np.concatenate(picked))
    rest = np.setdiff1d(numbers, unique)
    return np.union1d(unique, rest[_even(len(rest), count - len(unique))])


def value_name(arm: Arm, name: str) -> str:
    """Return the name of a value among those of all arms: a score belongs to its arm, a statistic to all."""
    return f"score:{arm}" if name == "score" else name


def scoring_arms(view: RunView) -> list[Arm]:
    """Return the arms that are not controls."""
    methods = {arm: selection.method for arm in view.arms if (selection := view.row(arm).selection) is not None}
    return [arm for arm, method in methods.items() if method not in CONTROLS]


def _first_pass(
    view: RunView,
) -> tuple[dict[str, tuple[float, float]], dict[str, tuple[float, float]], Int64, int]:
    """Return the percentiles and the extremes of each value, the frequent tokens, and the trainable tokens."""
    keys: dict[str, Int64] = {}
    extremes: dict[str, tuple[float, float]] = {}
    seen = np.zeros(0, dtype=np.int64)
    for shard in view.shards():
        mask = shard.trainable
        for name, values in (
            {value_name(arm, "score"): shard.scores[arm] for arm in shard.scores} | {**shard.statistics}
        ).items():
            total = keys.setdefault(name, np.zeros(2**_KEY_BITS, dtype=np.int64))
            if mask.any():
                low, high = extremes.get(name, (np.inf, -np.inf))
                extremes[name] = min(low, float(values[mask].min())), max(high, float(values[mask].max()))
            total += np.bincount(order_keys(values[mask]) >> (32 - _KEY_BITS), minlength=2**_KEY_BITS)
        found = np.bincount(shard.examples.input_ids[mask], minlength=len(seen))
        found[: len(seen)] += seen
        seen = found
    frequent = np.argsort(-seen, kind="stable")[:_TOKENS]
    return (
        {name: _percentiles(total) for name, total in keys.items()},
        {name: extremes.get(name, (0.0, 0.0)) for name in keys},
        frequent[seen[frequent] > 0],
        int(seen.sum()),
    )


def _percentiles(counts: Int64) -> tuple[float, float]:
    cumulative = np.cumsum(counts)
    if cumulative[-1] == 0:
        return 0.0, 0.0
    low, high = (_low_end(int(np.searchsorted(cumulative, share * cumulative[-1]))) for share in PERCENTILES)
    return low, high


def _edges(low: float, high: float) -> NDArray[np.float64]:
    # If all values are equal, the bins still need a width.
    margin = 0.5 if high <= low else 0.0
    return np.linspace(low - margin, high + margin, BINS + 1)


def _low_end(bucket: int) -> float:
    """Return the number of smallest magnitude whose `order_keys` begins with these bits."""
    key = bucket << (32 - _KEY_BITS)
    lowest = key if key >> 31 else key | (2 ** (32 - _KEY_BITS) - 1)
    return float(key_values(np.array([lowest], dtype=np.uint32))[0])


def _bins(values: Float32, edges: NDArray[np.float64]) -> Int64:
    place = (values.astype(np.float64) - edges[0]) * (BINS / (edges[-1] - edges[0]))
    return np.clip(place, 0, BINS - 1).astype(np.int64)


def _even(total: int, count: int) -> Int64:
    """Return int64: ``count`` evenly spaced numbers below ``total``, or all if there are fewer."""
    return np.arange(total) if total <= count else (np.arange(count) * total) // max(1, count)


def _pairs(arms: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    return [(first, second) for place, first in enumerate(arms) for second in arms[place + 1 :]]


def _index(view: RunView, shard: ShardView, sources: NDArray[np.int32]) -> Index:
    cu_seqlens, mask = shard.examples.cu_seqlens, shard.trainable

    def count(chosen: NDArray[np.bool_]) -> Int64:
        return segment_counts(chosen, cu_seqlens)

    arms = scoring_arms(view)
    votes = np.sum([shard.kept[arm] for arm in arms], axis=0, dtype=np.int64) if arms else np.zeros(len(mask), np.int64)
    return Index(
        shard.examples.rows,
        sources.astype(np.int64),
        shard.examples.lengths,
        count(mask),
        {arm: count(kept & mask) for arm, kept in shard.kept.items()},
        {arm: _means(scores, mask, cu_seqlens) for arm, scores in shard.scores.items()},
        count(mask & (votes > 0) & (votes < len(arms))),
    )


def _means(scores: Float32, mask: Bool, cu_seqlens: Int64) -> NDArray[np.float64]:
    """Return float64 ``[examples]``, the mean score of the tokens of a mask; NaN without any."""
    example = example_of(mask, cu_seqlens)
    sizes = np.bincount(example, minlength=len(cu_seqlens) - 1)
    sums = np.bincount(example, scores[mask].astype(np.float64), len(cu_seqlens) - 1)
    return np.divide(sums, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)


def _places(view: RunView, number: int, shard: ShardView, tokens: Int64) -> dict[str, Int64]:
    """Return the example of each of some tokens of a shard, and the token's place in it."""
    cu_seqlens = shard.examples.cu_seqlens
    example = np.searchsorted(cu_seqlens, tokens, side="right") - 1
    return {"example": example + int(view.starts[number]), "token": tokens - cu_seqlens[example]}


def _joined(parts: Sequence[Index]) -> Index:
    def joined(take: Callable[[Index], Int64]) -> Int64:
        return np.concatenate([take(part) for part in parts])

    return Index(
        joined(lambda part: part.rows),
        joined(lambda part: part.sources),
        joined(lambda part: part.tokens),
        joined(lambda part: part.trainable),
        {arm: joined(lambda part, arm=arm: part.kept[arm]) for arm in parts[0].kept},
        {arm: np.concatenate([part.scores[arm] for part in parts]) for arm in parts[0].scores},
        joined(lambda part: part.disputed),
    )


def _concatenated(parts: Sequence[Mapping[str, NDArray]]) -> dict[str, NDArray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
