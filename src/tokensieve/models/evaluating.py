"""A model in evaluation mode, for as long as it takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, without dropout, and restore its mode when the block ends."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
