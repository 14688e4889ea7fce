"""First all scoring, then all training."""

from __future__ import annotations

from typing import ClassVar

from tokensieve.train.schedules._base import Schedule


class Once(Schedule):
    """First all scoring, then all training."""

    name: ClassVar[str] = "once"
