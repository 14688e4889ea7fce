"""XTF, explainable token filtering (ICLR 2026, arXiv 2602.14536).

A token is dropped if it lacks any of three attributes. In an example with ``n`` trainable tokens, whose values in
ascending order are ``s``, a token lacks

* importance if ``a < min(Q1 - 1.5 * (Q3 - Q1), s[int(n * ri_cap)])``, where ``a`` is its attention;
* novelty if ``p > 0.95`` and ``p > s[int(n * (1 - kn_cap))]``, where ``p = exp(-loss_base)`` is its probability;
* relevance if ``r < min(threshold, s[int(n * tr_cap)])``, where ``r`` is its relevance to the task, a cosine. The
  threshold is the lowest of the four thresholds between five multi-Otsu classes of the relevance over the complete data
  set.

Score: minus the number of attributes that a token lacks.

These are the rules of the authors' code (``official``). The paper has no caps and drops the second-lowest of the five
classes (``paper``). The attention in the code is the mean of a softmax row over the keys, which is one over the length
of the example for every token. It carries no information, so the code drops tokens by rounding noise. ``corrected``
(the default) and ``paper`` use the attention that a token receives from later tokens instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Bool, Float32, Int64, Needs, Statistics, UInt8
from tokensieve.errors import TokensieveError
from tokensieve.methods._base import Corpus, Method, over
from tokensieve.ops.ragged import offsets, order_keys, segment_counts
from tokensieve.ops.rules import Threshold, check_choice, check_range

_ATTRIBUTES = ("importance", "novelty", "relevance")
_KNOWN = -np.log(0.95)  # nats; a token with a smaller loss is known
_BINS = 256
_CLASSES = 5
_BELOW_EVERY_COSINE = -2.0  # not -inf, which a recipe and JSON cannot hold


@dataclass(frozen=True)
class Xtf(Method):
    """Drop tokens that do not matter for the reasoning, that the base already knows, or that are off task.

    Attributes:
        mode: ``corrected``; ``official`` follows the authors' code; ``paper`` follows their text, without caps.
        ri_cap: maximum share of an example to drop for low importance, in [0, 1].
        kn_cap: maximum share of an example to drop as known, in [0, 1].
        tr_cap: maximum share of an example to drop as off task, in [0, 1].
        on: the attributes to use: ``importance``, ``novelty``, ``relevance``.
        layer: layer whose attention is read; negative numbers count from the last.
        heads: ``mean`` or ``max`` over the heads of that layer.
        domain_words: words of the task; if empty, they are derived from the data.
        vector: ``hidden`` compares last hidden states of single tokens, ``embedding`` rows of the input embedding.
        relevance_threshold: tokens below this relevance (a cosine) are off task; None computes it from the data.
        relevance_floor: tokens below this relevance are kept after all; None computes it in mode ``paper`` if the
            threshold is also None, and means no floor otherwise.
    """

    name: ClassVar[str] = "xtf"
    summary: ClassVar[str] = "tokens that matter for the reasoning, are not known already and belong to the task"
    formula: ClassVar[str] = "-(number of lacking attributes: importance, novelty, relevance)"
    meaning: ClassVar[str] = (
        "The score counts what the token lacks of importance, novelty and relevance: 0 if nothing, -1 for each."
    )
    paper: ClassVar[str] = "XTF, ICLR 2026, arXiv 2602.14536"
    differences: ClassVar[str] = (
        "The code's attention signal is the mean of a softmax row, which is the same for every token of an example, so "
        "the code drops tokens by rounding noise. `corrected` and `paper` use the attention received from later "
        "tokens, `official` uses the code's. The code caps the share of an example that each attribute drops, and "
        "drops the lowest relevance class; the paper has no caps and drops the second-lowest class. The code compares "
        "hidden states, the paper's text embeddings: `vector`. The authors give the domain words by hand; here they "
        "can also be derived from the data."
    )
    reason_names: ClassVar[tuple[str, ...]] = ("low reasoning importance", "known already", "off task")

    mode: Literal["corrected", "official", "paper"] = "corrected"
    ri_cap: float = 0.05
    kn_cap: float = 0.10
    tr_cap: float = 0.05
    on: tuple[str, ...] = _ATTRIBUTES
    layer: int = 0
    heads: Literal["mean", "max"] = "mean"
    domain_words: tuple[str, ...] = ()
    vector: Literal["hidden", "embedding"] = "hidden"
    relevance_threshold: float | None = None
    relevance_floor: float | None = None

    def __post_init__(self) -> None:
        for field in ("on", "domain_words"):
            value: Any = getattr(self, field)
            # A recipe gives lists, and may give a single word as such.
            object.__setattr__(self, field, (value,) if isinstance(value, str) else tuple(value))
        for attribute in self.on:
            check_choice("on", attribute, _ATTRIBUTES)
        if not self.on:
            raise TokensieveError("on is empty", hint=f"one or more of: {', '.join(_ATTRIBUTES)}")
        object.__setattr__(self, "on", tuple(attribute for attribute in _ATTRIBUTES if attribute in self.on))
        for word in self.domain_words:
            if not isinstance(word, str) or not word.strip():
                raise TokensieveError(
                    f"domain_words contains {word!r}, which is not a word",
                    hint="method.domain_words: a list of words, such as [sum, apples]",
                )
        check_choice("mode", self.mode, ("corrected", "official", "paper"))
        check_choice("heads", self.heads, ("mean", "max"))
        check_choice("vector", self.vector, ("hidden", "embedding"))
        check_range("layer", self.layer, -np.inf, np.inf, whole=True)
        for field in ("ri_cap", "kn_cap", "tr_cap"):
            check_range(field, getattr(self, field), 0, 1)
        for field in ("relevance_threshold", "relevance_floor"):
            if getattr(self, field) is not None:
                check_range(field, getattr(self, field), _BELOW_EVERY_COSINE, 2)

    @property
    def _attention(self) -> str:
        return "attention_row_mean" if self.mode == "official" else "attention_received"

    @property
    def needs(self) -> Needs:
        """The attention, loss and relevance of the base model, for the attributes in use."""
        statistic = {"importance": self._attention, "novelty": "loss", "relevance": "relevance"}
        return frozenset(("base", statistic[attribute]) for attribute in self.on)

    @property
    def rule(self) -> Threshold:
        """Keep the tokens that lack no attribute."""
        return Threshold(0.0)

    def options(self, statistic: str) -> Mapping[str, Any]:
        """Return the layer and heads of the attention, or the words and vectors of the relevance."""
        if statistic.startswith("attention_"):
            return {"layer": self.layer, "heads": self.heads}
        return {"domain_words": self.domain_words, "vector": self.vector} if statistic == "relevance" else {}

    def fit(self, corpus: Corpus) -> Self:
        """Return the method with the relevance threshold of the complete data set; itself if it has one.

        If the relevance occupies fewer than five of the 256 bins of its range, five classes are impossible and no
        token is off task.

        Raises:
            TokensieveError: the relevance is missing, NaN or infinite.
        """
        if "relevance" not in self.on or self.relevance_threshold is not None:
            return self
        thresholds = _multi_otsu(corpus)
        if thresholds is None:
            return replace(self, relevance_threshold=_BELOW_EVERY_COSINE)
        if self.mode != "paper":
            return replace(self, relevance_threshold=float(thresholds[0]))
        floor = float(thresholds[0]) if self.relevance_floor is None else self.relevance_floor
        return replace(self, relevance_threshold=float(thresholds[1]), relevance_floor=floor)

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``: minus the number of attributes that a token lacks."""
        bits = np.unpackbits(self.reasons(statistics)[:, None], axis=1)
        return np.float32(0) - bits.sum(axis=1, dtype=np.float32)

    def reasons(self, statistics: Statistics) -> UInt8:
        """Return uint8 ``[tokens]``, one bit per reason in `reason_names`; 0 for tokens that are not trainable."""
        fitted = self.fit(lambda: [statistics])
        answers = _Answers(statistics)
        lacking = {"importance": fitted._unimportant, "novelty": fitted._known, "relevance": fitted._off_task}
        bits = np.zeros(len(statistics.labels), dtype=np.uint8)
        for bit, attribute in enumerate(_ATTRIBUTES):
            if attribute in self.on:
                bits[answers.trainable] |= lacking[attribute](statistics, answers).astype(np.uint8) << bit
        return bits

    def _unimportant(self, statistics: Statistics, answers: _Answers) -> Bool:
        attention = statistics.get("base", self._attention)[answers.trainable]
        ordered = answers.ordered(attention)
        first, third = answers.quantile(ordered, 0.25), answers.quantile(ordered, 0.75)
        bound = first - 1.5 * (third - first)
        if self.mode != "paper":
            bound = np.minimum(bound, answers.at(ordered, answers.rank(self.ri_cap)))
        return attention < answers.spread(bound)

    def _known(self, statistics: Statistics, answers: _Answers) -> Bool:
        # In losses, since float32 probabilities near 1 have no digits left. They fall where probabilities rise.
        loss = statistics.get("base", "loss")[answers.trainable]
        if self.mode == "paper":
            return loss < np.float64(_KNOWN)
        rank = answers.counts - 1 - answers.rank(1 - self.kn_cap)
        return loss < answers.spread(np.minimum(_KNOWN, answers.at(answers.ordered(loss), rank)))

    def _off_task(self, statistics: Statistics, answers: _Answers) -> Bool:
        relevance = statistics.get("base", "relevance")[answers.trainable]
        lowest = -np.inf if self.relevance_floor is None else self.relevance_floor
        bound = np.full(len(answers.counts), self.relevance_threshold, dtype=np.float64)
        if self.mode != "paper":
            bound = np.minimum(bound, answers.at(answers.ordered(relevance), answers.rank(self.tr_cap)))
        return (relevance < answers.spread(bound)) & (relevance >= np.float64(lowest))


class _Answers:
    """The trainable tokens of all examples that have some, and order statistics of their values.

    Attributes:
        trainable: bool ``[tokens]``.
        counts: int64 ``[answers]``, number of trainable tokens.
    """

    def __init__(self, statistics: Statistics) -> None:
        self.trainable = statistics.trainable
        counts = segment_counts(self.trainable, statistics.cu_seqlens)
        self.counts = counts[counts > 0]
        self._first = offsets(self.counts)[:-1]

    def spread(self, values: NDArray) -> NDArray:
        """Return ``[trainable tokens]``: the value of each token's answer, from ``[answers]``."""
        return np.repeat(values, self.counts)

    def ordered(self, values: Float32) -> NDArray[np.float64]:
        """Return the values, float32 ``[trainable tokens]``, in ascending order within each answer."""
        answer = np.repeat(np.arange(len(self.counts), dtype=np.uint64), self.counts)
        # One sort of integers: the answer in the high half, the value in the low half.
        order = np.argsort(answer << np.uint64(32) | order_keys(values))
        return values[order].astype(np.float64)

    def at(self, ordered: NDArray[np.float64], rank: Int64) -> NDArray[np.float64]:
        """Return float64 ``[answers]``: the value at each answer's rank."""
        return ordered[self._first + rank]

    def rank(self, share: float) -> Int64:
        """Return int64 ``[answers]``: ``int(n * share)``, at most the last."""
        return np.minimum((self.counts * share).astype(np.int64), self.counts - 1)

    def quantile(self, ordered: NDArray[np.float64], q: float) -> NDArray[np.float64]:
        """Return float64 ``[answers]``, interpolated linearly like ``numpy.quantile``."""
        position = (self.counts - 1) * q
        below = position.astype(np.int64)
        low, high = self.at(ordered, below), self.at(ordered, np.minimum(below + 1, self.counts - 1))
        return low + (high - low) * (position - below)


def _multi_otsu(corpus: Corpus) -> NDArray[np.floating] | None:
    """Return the thresholds ``[classes - 1]`` between the classes of relevance, or None if there are too few values.

    They equal ``skimage.filters.threshold_multiotsu`` on all trainable tokens, with only one shard in memory: one pass
    finds the range, another the histogram.
    """
    ends: tuple[Any, Any] | None = None  # float32, as the edges of the bins are
    for found in over(corpus, _ends):
        if found is not None:
            ends = (min(ends[0], found[0]), max(ends[1], found[1])) if ends is not None else found
    if ends is None:
        return None
    counts, edges = np.zeros(_BINS, dtype=np.int64), np.zeros(_BINS + 1, dtype=np.float32)
    for one in over(corpus, partial(_histogram, ends)):
        counts, edges = counts + one[0], one[1]
    if np.count_nonzero(counts) < _CLASSES:
        return None
    centers = (edges[:-1] + edges[1:]) / 2
    return centers[list(_cuts(tuple(counts.tolist())))]


@lru_cache(maxsize=32)  # takes seconds, and a method that was not fitted asks repeatedly
def _cuts(counts: tuple[int, ...]) -> tuple[int, ...]:
    """Return the last bin of each class except the last class, from the counts of the bins."""
    from skimage.filters import threshold_multiotsu

    share = np.array(counts) / sum(counts)
    return tuple(threshold_multiotsu(classes=_CLASSES, hist=(share, np.arange(len(counts)))).tolist())


def _ends(statistics: Statistics) -> tuple[Any, Any] | None:
    """Return the lowest and the highest relevance of a shard, None where it has no trainable token."""
    values = _relevance(statistics)
    return (values.min(), values.max()) if len(values) else None


def _histogram(ends: tuple[Any, Any], statistics: Statistics) -> tuple[Int64, Float32]:
    """Return int64 ``[bins]`` and the edges of the bins, ``[bins + 1]``, of a shard's relevance."""
    return np.histogram(_relevance(statistics), _BINS, ends)


def _relevance(statistics: Statistics) -> Float32:
    """Return float32 ``[trainable tokens]`` of a shard."""
    return statistics.get("base", "relevance")[statistics.trainable]
