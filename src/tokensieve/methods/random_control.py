"""Keep random tokens or examples: the control that keeps as many as the method, and shows what the score is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.methods._base import FractionMethod
from tokensieve.ops.rules import TopExamples, TopFraction, check_range


@dataclass(frozen=True)
class Random(FractionMethod):
    """Uniform scores from a seed and the token's position in the data set.

    A score depends on nothing else, so sharding does not change it. With ``scope: batch`` or with ``examples`` the
    method draws again in each training batch.

    Attributes:
        seed: seed of the random scores.
        examples: number of examples to draw of each training batch, in place of a fraction of tokens.
    """

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "random tokens or examples; as a control, as many as the method keeps"
    formula: ClassVar[str] = "u, uniform in [0, 1)"

    seed: int = 0
    examples: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("seed", self.seed, -math.inf, math.inf, whole=True)

    @property
    def rule(self) -> TopFraction | TopExamples:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Keep the top ``fraction`` within ``scope``, or ``examples`` of a batch."""
        return super().rule if self.examples is None else TopExamples(self.examples)

    @property
    def online(self) -> bool:
        """Whether the method draws in each training batch."""
        return self.rule.scope == "batch"

    def at(self, examples: int) -> Random:
        """Return the method that draws for the batch after ``examples`` examples: other tokens than for the last."""
        return replace(self, seed=(self.seed << 32) + examples)

    @property
    def needs(self) -> Needs:
        """Nothing."""
        return frozenset()

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, uniform in [0, 1)."""
        positions = np.arange(len(statistics.labels), dtype=np.uint64) + np.uint64(statistics.first_token)
        bits = _splitmix64(positions + _splitmix64(np.array([self.seed % 2**64], dtype=np.uint64)))
        return ((bits >> np.uint64(40)).astype(np.float32)) * np.float32(2**-24)


def _splitmix64(state: np.ndarray) -> np.ndarray:
    """Return uint64 ``[n]``: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), random bits of a counter."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
