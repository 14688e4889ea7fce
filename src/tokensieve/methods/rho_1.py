"""RHO-1, selective language modelling, offline (Lin et al., NeurIPS 2024, arXiv 2404.07965).

Score: ``loss_current[t] - loss_reference[t]``, ranked within each example. The paper selects online,
with the model in training as `current`, within each training batch; offline the base stands in for it.
The paper keeps 60 % (1B model) or 70 % (7B model).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tokensieve.methods._base import FractionMethod
from tokensieve.types import Float32, Needs, Role, Scope, Statistics


@dataclass(frozen=True)
class Rho1(FractionMethod):
    """Excess loss over the reference, ranked within each example.

    Attributes:
        current: the role whose loss stands for the model in training.
    """

    name: ClassVar[str] = "rho-1"
    summary: ClassVar[str] = "as token-cleaning, ranked within each example"
    formula: ClassVar[str] = "loss_current - loss_reference"
    paper: ClassVar[str] = "Rho-1, NeurIPS 2024, arXiv 2404.07965"

    scope: Scope = "example"
    current: Role = "base"

    @property
    def needs(self) -> Needs:
        """The losses of the current model and the reference."""
        return frozenset({(self.current, "loss"), ("reference", "loss")})

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, nats; positive where the reference is better."""
        return statistics.get(self.current, "loss") - statistics.get("reference", "loss")
