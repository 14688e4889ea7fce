"""RHO-1, selective language modelling (Lin et al., NeurIPS 2024, arXiv 2404.07965).

Score: ``loss_current[t] - loss_reference[t]``. Online (as in the paper), `current` is the model in training and tokens
are ranked within each training batch (``current: current, scope: batch``). Offline (the default), the base replaces it
and tokens are ranked within each example. The paper keeps 60 % (1B model) or 70 % (7B model). The reference is the same
base, fine-tuned on a small clean set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from tokensieve.containers import Float32, Needs, Scope, Statistics
from tokensieve.methods._base import FractionMethod
from tokensieve.ops.rules import check_choice


@dataclass(frozen=True)
class Rho1(FractionMethod):
    """Excess loss over the reference, ranked within each example or batch.

    Attributes:
        current: ``current`` selects online, with the model in training; ``base`` selects offline, with the base.
    """

    name: ClassVar[str] = "rho-1"
    summary: ClassVar[str] = "tokens that a reference predicts better, ranked within each example or training batch"
    formula: ClassVar[str] = "loss_current - loss_reference"
    assumes = "clean"
    meaning: ClassVar[str] = (
        "The score is by how many nats the reference model predicts the token better than the model to be trained does."
    )
    paper: ClassVar[str] = "Rho-1, NeurIPS 2024, arXiv 2404.07965"

    scope: Scope = "example"
    current: Literal["base", "current"] = "base"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("current", self.current, ("base", "current"))

    @property
    def needs(self) -> Needs:
        """The losses of the current model and the reference."""
        return frozenset({(self.current, "loss"), ("reference", "loss")})

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, nats; positive where the reference is better."""
        return statistics.get(self.current, "loss") - statistics.get("reference", "loss")
