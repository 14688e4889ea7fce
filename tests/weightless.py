"""Tests in which no model may be loaded."""

from __future__ import annotations

import pytest

from tokensieve.models import loading, pool
from tokensieve.train import trainer
from tokensieve.train.schedules import self_evolving


def refuse_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test fail that loads a model.

    Every module that has `load_model` is imported before: one that a test imported meanwhile would keep what stands in
    its place.
    """
    for module in (loading, pool, trainer, self_evolving):
        monkeypatch.setattr(module, "load_model", lambda *_: pytest.fail("a model was loaded"))
