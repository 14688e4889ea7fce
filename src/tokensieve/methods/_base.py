"""What every method is: a pure function from statistics to scores, and a default rule.

A method can say more than a ranking, in four ways that cover them all: token scores (`score`), what a token lacks
(`reasons`), how much a token's loss weighs (`weights`), and scores of whole examples, which stand at each of their
tokens and go with the rule `TopExamples`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np

from tokensieve.containers import Bool, Float32, Int64, Needs, Rounding, Scope, Statistics, StatisticSpec, UInt8
from tokensieve.ops.rules import Rule, TopFraction, apply_rule, check_choice

Corpus = Callable[[], Iterable[Statistics]]
"""Returns a fresh iterator over the statistics of every shard of a data set."""


@dataclass(frozen=True)
class Method(ABC):
    """A way to score tokens. Higher scores are kept.

    A subclass is a frozen dataclass whose fields are the hyper-parameters of the method.

    Attributes:
        name: what recipes and the command line call it.
        summary: one line that says what is kept.
        formula: the score, in the notation of ``docs/methods.md``.
        paper: title, venue and arXiv number; empty for controls.
        differences: where paper, the authors' code and this method differ; empty where they agree.
        reason_names: what bit 0, 1, ... of `reasons` stands for.
        divide_by: the loss of an optimizer step is the weighted sum divided by the number of ``kept`` or of
            all ``trainable`` tokens in it.
        schedule: name of how scoring and training take turns (`train.schedules`): ``once``, first all scoring and then
            all training.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    formula: ClassVar[str]
    paper: ClassVar[str] = ""
    differences: ClassVar[str] = ""
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
        """The method's own selection rule."""

    @property
    def online(self) -> bool:
        """Whether it reads the model in training, and so can select while that trains."""
        return any(role == "current" for role, _ in self.needs)

    @abstractmethod
    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, higher = keep; meaningless where a token is not trainable.

        Raises:
            TokensieveError: a needed statistic is missing, NaN or infinite.
        """

    def parts(self, statistics: Statistics) -> Mapping[str, Float32]:
        """Return float32 ``[tokens]`` by name: the summands of the score, where there are some to tell apart."""
        del statistics
        return {}

    def fit(self, corpus: Corpus) -> Self:
        """Return the method with what it must know of the whole data set; itself where that is nothing.

        A method that was not fitted takes the statistics that it is given for the whole.
        """
        del corpus
        return self

    def options(self, statistic: str) -> Mapping[str, Any]:
        """Return how a statistic is to be measured, such as the layer of an attention statistic."""
        del statistic
        return {}

    def spec(self, statistic: str) -> StatisticSpec:
        """Return a statistic with how the method wants it measured."""
        return StatisticSpec.of(statistic, self.options(statistic))

    def reasons(self, statistics: Statistics) -> UInt8 | None:
        """Return uint8 ``[tokens]``, a bit for each of `reason_names` that speaks against a token; None without."""
        del statistics

    def weights(self, statistics: Statistics, kept: Bool, progress: float) -> Float32:
        """Return float32 ``[tokens]``, the weight of each token's loss in training.

        It is 0 where a token is not trainable. A dropped token has 0 too, or less where training is to push it away;
        an export has 0 there.

        Args:
            statistics: what `score` reads.
            kept: bool ``[tokens]``, what the rule decided.
            progress: share of the training that is done, from 0 to 1.
        """
        del statistics, progress
        return kept.astype(np.float32)

    def at(self, examples: int) -> Method:
        """Return the method to use in training when so many examples have been trained on; itself mostly."""
        del examples
        return self

    @property
    def history_decay(self) -> float | None:
        """Decay per step of the moving average of trained weights that plays the history; None for a frozen one."""
        return None

    @property
    def weighted(self) -> bool:
        """Whether `weights` says more than kept or dropped."""
        return type(self).weights is not Method.weights

    def select(self, statistics: Statistics) -> Int64:
        """Return int64 ``[tokens]`` labels: dropped tokens at -100, by the method's own rule."""
        return apply_rule(self.rule, self.score(statistics), statistics)


@dataclass(frozen=True)
class FractionMethod(Method):
    """A method that keeps the highest-scoring fraction.

    Attributes:
        fraction: share of the trainable tokens to keep, in (0, 1].
        scope: where tokens are ranked: ``dataset``, ``batch`` or ``example``.
        rounding: ``floor`` or ``ceil`` of the number of kept tokens.
    """

    fraction: float = 0.6
    scope: Scope = "dataset"
    rounding: Rounding = "floor"

    def __post_init__(self) -> None:
        self.rule  # noqa: B018  a bad fraction, scope or rounding is refused when the method is made

    @property
    def rule(self) -> TopFraction:
        """Keep the top ``fraction`` within ``scope``."""
        return TopFraction(self.fraction, self.scope, self.rounding)


@dataclass(frozen=True)
class StatisticMethod(FractionMethod):
    """Rank tokens by one statistic of the base model.

    Attributes:
        keep: ``top`` keeps the highest, ``bottom`` the lowest.
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
    """A method that keeps every trainable token and weighs its loss."""

    @property
    def rule(self) -> TopFraction:
        """Keep everything."""
        return TopFraction(1.0)
