"""TOSS-Pro: TOSS with a safety-degraded model that is refined on the riskiest examples (arXiv 2603.01185).

Score and rule are those of `toss`. For a few rounds the data is scored with the current safety-degraded model, the
examples that hold the riskiest tokens join the harmful set, and that model is trained again from the base.
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
    """TOSS after some rounds of refining the safety-degraded model.

    Attributes:
        rounds: how often examples are added and the safety-degraded model is trained again.
        added: how many examples join the harmful set in each round.
    """

    name: ClassVar[str] = "toss-pro"
    summary: ClassVar[str] = "as toss, with the safety-degraded model refined on the riskiest examples"
    formula: ClassVar[str] = "loss_unsafe(round) - loss_utility"
    paper: ClassVar[str] = "TOSS, ICLR 2026, arXiv 2603.01185"
    schedule: ClassVar[str] = "refined-reference"
    refines: ClassVar[Role] = "unsafe"

    rounds: int = 3
    added: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("rounds", self.rounds, 1, np.inf, whole=True)
        check_range("added", self.added, 1, np.inf, whole=True)
