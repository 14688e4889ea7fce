"""What every method is: a pure function from statistics to scores, and a default rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from tokensieve.ops.rules import Rule, TopFraction, apply_rule, check_choice
from tokensieve.types import Float32, Int64, Needs, Rounding, Scope, Statistics


@dataclass(frozen=True)
class Method(ABC):
    """A way to score tokens. Higher scores are kept.

    A subclass is a frozen dataclass whose fields are the hyper-parameters of the method.

    Attributes:
        name: what recipes and the command line call it.
        summary: one line that says what is kept.
        formula: the score, in the notation of ``docs/methods.md``.
        paper: title, venue and arXiv number; empty for controls.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    formula: ClassVar[str]
    paper: ClassVar[str] = ""

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """The (role, statistic) pairs that `score` reads."""

    @property
    @abstractmethod
    def rule(self) -> Rule:
        """The method's own selection rule."""

    @abstractmethod
    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, higher = keep; meaningless where a token is not trainable.

        Raises:
            TokensieveError: a needed statistic is missing, NaN or infinite.
        """

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

    def with_rule(self, rule: TopFraction) -> FractionMethod:
        """Return the same method with the rule's fraction, scope and rounding."""
        return replace(self, fraction=rule.fraction, scope=rule.scope, rounding=rule.rounding)


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
