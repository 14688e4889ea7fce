"""TOSS-Pro: TOSS with a safety-degraded model that is refined on the riskiest examples (arXiv 2603.01185).

Score and rule are those of `toss`. In each round, the current safety-degraded model scores the data, the examples with
the riskiest tokens are added to the harmful set, and the model is trained again from the base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tokensieve.containers import Role
from tokensieve.methods.toss import Toss
from tokensieve.ops.rules import check_range


@dataclass(frozen=True)
class TossPro(Toss):
    """TOSS after several rounds that refine the safety-degraded model.

    Attributes:
        rounds: number of rounds; each adds examples and trains the safety-degraded model again.
        added: number of examples to add to the harmful set in each round.
    """

    name: ClassVar[str] = "toss-pro"
    summary: ClassVar[str] = "as toss, with the safety-degraded model refined on the riskiest examples"
    formula: ClassVar[str] = "loss_unsafe(round) - loss_utility"
    meaning: ClassVar[str] = (
        "The score is by how many nats the refined unsafe model predicts the token worse than a useful one does."
    )
    paper: ClassVar[str] = "TOSS, ICLR 2026, arXiv 2603.01185"
    schedule: ClassVar[str] = "refined-reference"
    refines: ClassVar[Role] = "unsafe"

    rounds: int = 3
    added: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("rounds", self.rounds, 1, np.inf, whole=True)
        check_range("added", self.added, 1, np.inf, whole=True)
