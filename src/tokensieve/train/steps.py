"""How many optimizer steps a training takes, known before it starts."""

from __future__ import annotations

import math
from typing import Any

FEW_STEPS = 20
"""A training of fewer optimizer steps is warned of."""


def optimizer_steps(config: Any, rows: int) -> int:
    """Return the number of optimizer steps of a training on this many processes.

    Args:
        config: an `SFTConfig`.
        rows: that it trains on, after packing.
    """
    if config.max_steps > 0:
        return config.max_steps
    batches = rows / (config.train_batch_size * config.world_size)
    whole = math.floor(batches) if config.dataloader_drop_last else math.ceil(batches)
    return math.ceil(config.num_train_epochs * max(1, math.ceil(whole / config.gradient_accumulation_steps)))


def packed_rows(tokens: int, max_length: int) -> int:
    """Return about how many rows packing makes of examples: as many as their tokens fill."""
    return math.ceil(tokens / max_length)


def in_steps(steps: int) -> str:
    """Return a number of optimizer steps in words."""
    return f"{steps:,} optimizer step{'' if steps == 1 else 's'}"
