"""A moving average of the trained weights, to compare the model with its own past."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tokensieve.errors import TokensieveError


class MovingAverage:
    """An exponential moving average of the parameters that are trained; of an adapter's alone where there is one.

    Args:
        model: the model in training.
        decay: share of the average that stays at each update.

    Raises:
        TokensieveError: no parameter is trained.
    """

    def __init__(self, model: Any, decay: float) -> None:
        self._decay = decay
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not self._trained:
            raise TokensieveError(
                "a moving average of the trained weights was asked for, and no weight is trained",
                hint="unfreeze the model or give it an adapter, or compare with the frozen base: history: base",
            )
        self.average = {name: p.detach().clone() for name, p in self._trained.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights as they are."""
        averages = list(self.average.values())
        torch._foreach_lerp_(averages, [p.detach() for p in self._trained.values()], 1 - self._decay)

    def load(self, average: dict[str, Tensor]) -> None:
        """Take over a saved average."""
        for name, value in self.average.items():
            value.copy_(average[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average in the place of the weights while the block lasts."""
        held = {name: p.data for name, p in self._trained.items()}
        try:
            for name, p in self._trained.items():
                p.data = self.average[name]
            yield
        finally:
            for name, p in self._trained.items():
                p.data = held[name]
