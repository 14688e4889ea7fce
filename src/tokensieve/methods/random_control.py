"""Keep random tokens or examples: the control that keeps as many as the method, and shows what the score is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.errors import TokensieveError
from tokensieve.methods import get_method
from tokensieve.methods._base import FractionMethod, Method
from tokensieve.ops.rules import Threshold, TopCount, TopExamples, TopFraction, check_range


@dataclass(frozen=True)
class Random(FractionMethod):
    """Uniform scores from a seed and the token's position in the data set.

    A score depends on nothing else, so sharding does not change it. With ``scope: batch``, with ``examples`` or with
    ``as_many_as`` the method draws again in each training batch.

    Attributes:
        seed: seed of the random scores.
        examples: number of examples to draw of each training batch, in place of a fraction of tokens.
        as_many_as: a method with a threshold, or one that chooses rows, such as ``{name: profit}``: draw as many tokens
            as it would keep, in place of a fraction. The tokens that are drawn score 1 more, so that a threshold of 1
            keeps them.
    """

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "random tokens or examples; as a control, as many as the method keeps"
    formula: ClassVar[str] = "u, uniform in [0, 1)"
    meaning: ClassVar[str] = "The score is a random number and says nothing about the token."

    seed: int = 0
    examples: int | None = None
    as_many_as: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("seed", self.seed, -math.inf, math.inf, whole=True)
        counted = self._counted
        if self.as_many_as is not None and not (
            counted and (isinstance(counted.rule, Threshold) or counted.chooses_rows)
        ):
            raise TokensieveError(
                f"as_many_as is {self.as_many_as}, and must name a method that keeps what is above a threshold, "
                "or that chooses rows",
                hint="as_many_as: {name: profit}; otherwise `fraction` or `examples` says how many to draw",
            )

    @property
    def rule(self) -> TopFraction | TopExamples | Threshold:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Keep the top ``fraction`` within ``scope``, or what else says how many."""
        if self.as_many_as is not None:
            return Threshold(1.0)
        return super().rule if self.examples is None else TopExamples(self.examples)

    @property
    def online(self) -> bool:
        """Whether the method draws in each training batch."""
        if self._counted is not None:
            return self._counted.online
        return getattr(self.rule, "scope", None) == "batch"

    def at(self, examples: int) -> Random:
        """Return the method that draws for the batch after ``examples`` examples: other tokens than for the last."""
        return replace(self, seed=(self.seed << 32) + examples)

    @property
    def needs(self) -> Needs:
        """What tells how many tokens to draw; nothing for a fraction or a number of examples."""
        return frozenset() if self._counted is None else self._counted.needs

    def options(self, statistic: str) -> Mapping[str, Any]:
        """Return the options of the method that tells how many tokens to draw."""
        return {} if self._counted is None else self._counted.options(statistic)

    @property
    def history_decay(self) -> float | None:
        """That of the method that tells how many tokens to draw."""
        return None if self._counted is None else self._counted.history_decay

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, uniform in [0, 1); in [1, 2) for tokens that ``as_many_as`` draws."""
        positions = np.arange(len(statistics.labels), dtype=np.uint64) + np.uint64(statistics.first_token)
        bits = _splitmix64(positions + _splitmix64(np.array([self.seed % 2**64], dtype=np.uint64)))
        uniform = ((bits >> np.uint64(40)).astype(np.float32)) * np.float32(2**-24)
        if self._counted is None:
            return uniform
        kept = self._counted.rule.keep(self._counted.score(statistics), self._counted.offered(statistics))
        return uniform + TopCount(int(kept.sum())).keep(uniform, statistics)

    @property
    def _counted(self) -> Method | None:
        """The method that tells how many tokens to draw."""
        if not isinstance(self.as_many_as, Mapping):
            return None
        parameters = dict(self.as_many_as)
        return get_method(str(parameters.pop("name", "")), **parameters)


def _splitmix64(state: np.ndarray) -> np.ndarray:
    """Return uint64 ``[n]``: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), random bits of a counter."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
