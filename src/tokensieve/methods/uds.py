"""UDS, utility-diversity sampling: online batch selection of examples (ICML 2026, arXiv 2510.16882).

Score of an example: ``nuclear_norm + alpha * diversity``. The first term is the nuclear norm of its logits. The second
is the mean distance between a random projection of its logits and the projections of recently selected examples. The
method trains on the best examples of each candidate batch. Both statistics are computed from hidden states and the head
(`ops.logit_geometry`), without the logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.methods._base import Method
from tokensieve.ops.rules import TopExamples, check_choice, check_range


@dataclass(frozen=True)
class Uds(Method):
    """Select the examples with the largest and most diverse logits of each candidate batch.

    Attributes:
        examples: number of examples to train on of each candidate batch (``per_device_train_batch_size``).
        alpha: weight of the diversity, at least 0.
        buffer: number of selected examples that the diversity compares with.
        mode: ``corrected`` reads only real tokens, ``official`` also padding, as the authors' code does.
        seed: seed of the random projection.
    """

    name: ClassVar[str] = "uds"
    summary: ClassVar[str] = "examples of a batch with large and diverse logits"
    formula: ClassVar[str] = "nuclear_norm_current + alpha * diversity_current"
    meaning: ClassVar[str] = (
        "The score is high for examples whose logits are large and unlike those of the examples before."
    )
    paper: ClassVar[str] = "UDS, ICML 2026, arXiv 2510.16882"
    differences: ClassVar[str] = "The code also scores padding; here padding is left out (mode `official` includes it)."

    examples: int = 4
    alpha: float = 2.5e-3
    buffer: int = 1024
    mode: Literal["corrected", "official"] = "corrected"
    seed: int = 0

    def __post_init__(self) -> None:
        self.rule  # noqa: B018  refuses a bad number of examples when the method is created
        check_range("alpha", self.alpha, 0, np.inf)
        check_range("buffer", self.buffer, 1, np.inf, whole=True)
        check_range("seed", self.seed, -np.inf, np.inf, whole=True)
        check_choice("mode", self.mode, ("corrected", "official"))

    @property
    def needs(self) -> Needs:
        """Nuclear norm and diversity of each example, repeated at each of its tokens."""
        return frozenset({("current", "nuclear_norm"), ("current", "diversity")})

    @property
    def rule(self) -> TopExamples:
        """Keep the best examples of a batch."""
        return TopExamples(self.examples)

    def options(self, statistic: str) -> Mapping[str, Any]:
        """Return the options of the example statistics."""
        if statistic == "nuclear_norm":
            return {"mode": self.mode}
        return {"mode": self.mode, "buffer": self.buffer, "seed": self.seed} if statistic == "diversity" else {}

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, the score of its example at each token."""
        norm, diversity = statistics.get("current", "nuclear_norm"), statistics.get("current", "diversity")
        return (norm + np.float32(self.alpha) * diversity).astype(np.float32)
