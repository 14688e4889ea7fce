"""Token Cleaning with a fixed reference model (Pang et al., ICML 2025, arXiv 2502.01968, section 4.1).

Score: ``loss_base[t] - loss_reference[t]``, the excess loss. A token that the reference predicts much better than the
base is one that fine-tuning teaches; other tokens are noise, or known already. The reference is the same base,
fine-tuned on every token of a warm-up subset, then frozen.

Paper and code agree: one ranking over the complete pool, 60 % kept, ``int(n * fraction)`` tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tokensieve.containers import Float32, Needs, Statistics
from tokensieve.methods._base import FractionMethod


@dataclass(frozen=True)
class TokenCleaning(FractionMethod):
    """Excess loss of the base over the reference, ranked over the data set."""

    name: ClassVar[str] = "token-cleaning"
    summary: ClassVar[str] = "tokens that a reference model predicts better than the base"
    formula: ClassVar[str] = "loss_base - loss_reference"
    assumes = "clean"
    meaning: ClassVar[str] = (
        "The score is by how many nats the reference model predicts the token better than the base model does."
    )
    paper: ClassVar[str] = "Token Cleaning, ICML 2025, arXiv 2502.01968"

    @property
    def needs(self) -> Needs:
        """The losses of the base and the reference."""
        return frozenset({("base", "loss"), ("reference", "loss")})

    def score(self, statistics: Statistics) -> Float32:
        """Return float32 ``[tokens]``, nats; positive where the reference is better."""
        return statistics.get("base", "loss") - statistics.get("reference", "loss")
