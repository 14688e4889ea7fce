"""The base class of all methods: a pure function from statistics to scores, and a default rule.

Besides token scores (`score`), a method can return reasons to drop a token (`reasons`), a weight for each token's loss
(`weights`), the rows to decide upon before any token (`rows`), and scores of complete examples, repeated at each of
their tokens, for the rule `TopExamples`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tokensieve.containers import Bool, Float32, Int64, Needs, Rounding, Scope, Statistics, StatisticSpec, UInt8
from tokensieve.ops.rules import Rule, TopFraction, apply_rule, check_choice, in_words

Corpus = Callable[[], Iterable[Statistics]]
"""Returns a new iterator over the statistics of every shard of a data set."""
Result = TypeVar("Result")


@runtime_checkable
class MappedCorpus(Protocol):
    """A corpus whose shards need not come to this process: what is computed of each is."""

    def __call__(self) -> Iterable[Statistics]:
        """Return a new iterator over the statistics of every shard."""
        ...

    def map(self, work: Callable[[Statistics], Result]) -> Iterator[Result]:
        """Yield the result for each shard, in any order."""
        ...


def over(corpus: Corpus, work: Callable[[Statistics], Result]) -> Iterator[Result]:
    """Yield a result for each shard of a data set, in any order, computed where the shard is.

    Args:
        corpus: the data set.
        work: a function of the statistics of a shard, at the top of its module; its results are merged by the caller,
            and are small.
    """
    return corpus.map(work) if isinstance(corpus, MappedCorpus) else map(work, corpus())


@dataclass(frozen=True)
class Method(ABC):
    """A way to score tokens. Higher scores are kept.

    A subclass is a frozen dataclass; its fields are the method's hyper-parameters.

    Attributes:
        name: the method's name in recipes and on the command line.
        summary: the tokens that it keeps, in one line.
        formula: the score, in the notation of ``tokensieve methods``.
        meaning: what the score says of a token, in a sentence; empty to say no more than the formula does.
        paper: title, venue and arXiv number; empty for controls.
        differences: differences between the paper, the authors' code and this method; empty if there are none.
        assumes: what must be at hand beside the pool: ``clean`` rows (or a model made from such), ``harmful`` rows,
            ``preferences`` among answers, ``marks`` in the data, or ``nothing``.
        drops_spans_of: what the spans are that a token is dropped with, such as ``noise``, where its score is the log
            odds (nats) that it is not in such a span, given all tokens of its answer; empty where tokens count singly.
            A field ``margin`` of such a method is in nats of loss a token.
        reason_names: the meaning of bits 0, 1, ... of `reasons`.
        divide_by: divisor of the weighted loss of an optimizer step: its number of ``kept`` tokens, or of all
            ``trainable`` tokens.
        schedule: name of the schedule that orders scoring and training (`train.schedules`). ``once`` scores all data,
            then trains.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    formula: ClassVar[str]
    meaning: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    differences: ClassVar[str] = ""
    assumes: ClassVar[Literal["clean", "harmful", "preferences", "marks", "nothing"]] = "nothing"
    drops_spans_of: ClassVar[str] = ""
    reason_names: ClassVar[tuple[str, ...]] = ()
    divide_by: ClassVar[Literal["kept", "trainable"]] = "kept"
    schedule: ClassVar[str] = "once"

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """The (role, statistic) pairs that `score`, `reasons` and `weights` read."""

    @property
    @abstractmethod
    def rule(self) -> Rule:
        """The method's default selection rule."""

    @property
    def online(self) -> bool:
        """Whether the method reads the model in training, and so selects while it trains."""
        return any(role == "current" for role, _ in self.needs)

    @abstractmethod
    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, higher = keep; undefined for tokens that are not trainable.

        Raises:
            TokensieveError: a required statistic is missing, NaN or infinite.
        """

    def parts(self, statistics: Statistics) -> Mapping[str, Float32]:
        """Return float32 ``[tokens]`` by name: the summands of the score; empty if the score has only one."""
        del statistics
        return {}

    def fit(self, corpus: Corpus) -> Self:
        """Return the method with the values that it derives from the complete data set; by default, itself.

        A method that was not fitted derives them from the statistics that it scores. `over` passes over the shards.
        """
        del corpus
        return self

    def options(self, statistic: str) -> Mapping[str, Any]:
        """Return options for measuring a statistic, such as the layer of an attention statistic."""
        del statistic
        return {}

    def spec(self, statistic: str) -> StatisticSpec:
        """Return a statistic with how the method wants it measured."""
        return StatisticSpec.of(statistic, self.options(statistic))

    def check_marks(self, types: tuple[str, ...]) -> None:
        """Refuse data by the types of its marks; by default, take any.

        Args:
            types: of the marks in the whole data set; empty where no token is marked.

        Raises:
            TokensieveError: the method reads marks that the data does not have.
        """
        del types

    def reasons(self, statistics: Statistics) -> UInt8 | None:
        """Return uint8 ``[tokens]``, one bit per reason in `reason_names` to drop the token; None by default."""
        del statistics

    def rows(self, statistics: Statistics) -> Bool | None:
        """Return bool ``[examples]``, the rows whose tokens the rule decides upon; the others are dropped whole.

        None, the default, leaves all to the rule.
        """
        del statistics

    @property
    def chooses_rows(self) -> bool:
        """Whether the method chooses `rows`."""
        return type(self).rows is not Method.rows

    @property
    def selects_in_words(self) -> str:
        """What the default rule keeps, and of which rows."""
        return f"{in_words(self.rule)}{', in the rows that it chooses' if self.chooses_rows else ''}"

    def offered(self, statistics: Statistics) -> Statistics:
        """Return the statistics as the rule is to see them: a row that is dropped whole has no trainable token."""
        rows = self.rows(statistics)
        return statistics if rows is None else statistics.of_rows(rows)

    def weights(self, statistics: Statistics, kept: Bool, progress: float) -> Float32:
        """Return float32 ``[tokens]``, the weight of each token's loss in training.

        The weight is 0 for a token that is not trainable. It is at most 0 for a dropped token; a negative weight trains
        the model away from the token. Exports write 0 for dropped tokens.

        Args:
            statistics: the statistics that `score` reads.
            kept: bool ``[tokens]``, the decisions of the rule.
            progress: completed share of the training, from 0 to 1.
        """
        del statistics, progress
        return kept.astype(np.float32)

    def at(self, examples: int) -> Method:
        """Return the method to use after training on ``examples`` examples; by default, itself."""
        del examples
        return self

    @property
    def history_decay(self) -> float | None:
        """Decay per step of the moving average of trained weights that serves as history; None for a frozen history."""
        return None

    @property
    def anchor(self) -> float:
        """Factor of the divergence of the model in training from the base that each kept token adds to the loss.

        The divergence is ``KL(base || current)`` of the predictive distributions at the token, in nats.
        """
        return 0.0

    @property
    def weighted(self) -> bool:
        """Whether the method defines its own `weights`."""
        return type(self).weights is not Method.weights

    def select(self, statistics: Statistics) -> Int64:
        """Return int64 ``[tokens]`` labels by the method's default rule; dropped tokens are -100."""
        return apply_rule(self.rule, self.score(statistics), self.offered(statistics))


@dataclass(frozen=True)
class FractionMethod(Method):
    """A method that keeps the highest-scoring fraction.

    Attributes:
        fraction: share of the trainable tokens to keep, in (0, 1].
        scope: set of tokens to rank: ``dataset``, ``batch`` or ``example``.
        rounding: ``floor`` or ``ceil``, for the number of kept tokens.
    """

    fraction: float = 0.6
    scope: Scope = "dataset"
    rounding: Rounding = "floor"

    def __post_init__(self) -> None:
        self.rule  # noqa: B018  refuses a bad fraction, scope or rounding when the method is created

    @property
    def rule(self) -> TopFraction:
        """Keep the top ``fraction`` within ``scope``."""
        return TopFraction(self.fraction, self.scope, self.rounding)


@dataclass(frozen=True)
class StatisticMethod(FractionMethod):
    """Rank tokens by one statistic of the base model.

    Attributes:
        keep: ``top`` keeps the highest values, ``bottom`` the lowest.
    """

    statistic: ClassVar[str]

    keep: Literal["top", "bottom"] = "top"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("keep", self.keep, ("top", "bottom"))

    @property
    def needs(self) -> Needs:
        """The statistic of the base model."""
        return frozenset({("base", self.statistic)})

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``: the statistic, or its negative."""
        value = statistics.get("base", self.statistic)
        return value if self.keep == "top" else -value


@dataclass(frozen=True)
class WeightMethod(Method):
    """A method that keeps every trainable token and weights its loss by the score."""

    @property
    def rule(self) -> TopFraction:
        """Keep everything."""
        return TopFraction(1.0)

    def weights(self, statistics: Statistics, kept: Bool, progress: float) -> Float32:
        """Return float32 ``[tokens]``: the score of kept tokens, 0 elsewhere."""
        del progress
        return np.where(kept, self.score(statistics), np.float32(0))


@dataclass(frozen=True)
class PowerMethod(WeightMethod):
    """A `WeightMethod` whose weight is a power of something between 0 and 1, without a gradient through it.

    With the probability ``p`` of the token, the gradient is that of the loss ``(1 - p ** a) / a`` (arXiv 2510.00526,
    equation of the family): plain fine-tuning for ``a`` near 0, and DFT for 1.
    """

    @abstractmethod
    def share(self, statistics: Statistics) -> NDArray[np.floating]:
        """Return floats ``[tokens]`` in [0, 1], what is raised to the `exponent`."""

    @abstractmethod
    def exponent(self, statistics: Statistics) -> float | Float32:
        """Return the exponent, at least 0, of all tokens or of each."""

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]`` in [0, 1], the weight."""
        return (self.share(statistics) ** self.exponent(statistics)).astype(np.float32)


@dataclass(frozen=True)
class ProbabilityPowerMethod(PowerMethod):
    """A `PowerMethod` of the probability that the model in training gives the token."""

    @property
    def needs(self) -> Needs:
        """The loss of the model in training."""
        return frozenset({("current", "loss")})

    def share(self, statistics: Statistics) -> NDArray[np.floating]:
        """Return float64 ``[tokens]``, the probability of each token."""
        # In float32, a power of a very small probability would be a power of 0.
        return np.exp(-statistics.get("current", "loss").astype(np.float64))
