"""TOSS, token-level safety-preserving selection (ICLR 2026, arXiv 2603.01185).

Score: ``loss_unsafe[t] - loss_utility[t]``, the negative of the paper's risk. A token that a model tuned on harmful
data predicts better than one tuned on the task undoes the alignment. The riskiest share of the complete data set is
dropped. Both models are the aligned base, fine-tuned on harmful data and on a clean part of the task.

The loss is divided by all trainable tokens, not by the kept tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from tokensieve.containers import Float32, Needs, Rounding, Scope, Statistics
from tokensieve.methods._base import Method
from tokensieve.ops.rules import DropFraction, check_fraction


@dataclass(frozen=True)
class Toss(Method):
    """Low risk of unlearning safety, ranked over the data set.

    Attributes:
        discard: share of the trainable tokens to drop, in (0, 1].
        scope: set of tokens to rank: ``dataset``, ``batch`` or ``example``.
        rounding: ``floor`` or ``ceil``, for the number of dropped tokens.
    """

    name: ClassVar[str] = "toss"
    summary: ClassVar[str] = "tokens that a safety-degraded model does not predict better than a useful one"
    formula: ClassVar[str] = "loss_unsafe - loss_utility"
    assumes = "harmful"
    meaning: ClassVar[str] = (
        "The score is by how many nats a safety-degraded model predicts the token worse than a useful one does."
    )
    paper: ClassVar[str] = "TOSS, ICLR 2026, arXiv 2603.01185"
    differences: ClassVar[str] = "The paper drops 10 %, the authors' script 20 %; the default here is 10 %."
    divide_by: ClassVar[Literal["kept", "trainable"]] = "trainable"

    discard: float = 0.1
    scope: Scope = "dataset"
    rounding: Rounding = "floor"

    def __post_init__(self) -> None:
        check_fraction(self.discard, "discard")
        self.rule  # noqa: B018  refuses a bad scope or rounding when the method is created

    @property
    def needs(self) -> Needs:
        """The losses of the utility model and the safety-degraded model."""
        return frozenset({("utility", "loss"), ("unsafe", "loss")})

    @property
    def rule(self) -> DropFraction:
        """Drop the bottom ``discard`` within ``scope``."""
        return DropFraction(self.discard, self.scope, self.rounding)

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, nats; negative if the safety-degraded model is better."""
        return statistics.get("unsafe", "loss") - statistics.get("utility", "loss")
