"""Statistics of whole examples, for choosing which of a candidate batch to train on (UDS, arXiv 2510.16882)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokensieve.containers import Float32
from tokensieve.ops.logit_geometry import Projector, diversity, head_factor, nuclear_norms


class ExampleStatistics:
    """Nuclear norm and diversity of the logits of examples, against a buffer of recently chosen ones.

    Args:
        head: the language-model head, a linear layer.
        longest: tokens of the longest example.
        buffer: how many chosen examples are looked back on.
        seed: of the random projection.
    """

    def __init__(self, head: Any, longest: int, buffer: int, seed: int) -> None:
        self._head, self._size = head, buffer
        self._projector = Projector.draw(seed, len(head.weight), longest)
        self._factor: Tensor | None = None
        self._projection: Tensor | None = None
        self.chosen = torch.empty(0, len(self._projector.index_vocab) * len(self._projector.index_time))

    @torch.no_grad()
    def measure(self, hidden: Tensor, lengths: list[int]) -> tuple[Float32, Float32, Tensor]:
        """Measure examples.

        Args:
            hidden: ``[tokens, hidden]``, what enters the head, the examples one after another.
            lengths: tokens of each example.

        Returns:
            Nuclear norms and diversities, float32 ``[examples]``, and the projections to pass to `choose`.
        """
        # A head that is trained moves, and its statistics with it.
        if self._factor is None or self._projection is None or self._head.weight.requires_grad:
            self._factor = head_factor(self._head.weight)
            self._projection = self._projector.head(self._head.weight)
        norms = nuclear_norms(hidden, lengths, self._factor)
        projections = self._projector.project_ragged(hidden, lengths, self._projection).cpu()
        distances = diversity(projections, self.chosen)
        return norms.cpu().numpy().astype(np.float32), distances.numpy().astype(np.float32), projections

    def choose(self, projections: Tensor) -> None:
        """Remember examples that were chosen; the oldest beyond the buffer are forgotten."""
        self.chosen = torch.cat([self.chosen, projections])[-self._size :]
