"""Every reader that is fuzzed, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from row_targets import COUNTS, row_target
from store_targets import (
    import_target,
    manifest_target,
    override_target,
    recipe_target,
    selection_target,
    shard_target,
    state_target,
)
from target import Target

TARGETS: dict[str, Callable[[Path], Target]] = {
    "selection": selection_target,
    "manifest": manifest_target,
    "state": state_target,
    "arrow shard": partial(shard_target, ".arrow"),
    "parquet shard": partial(shard_target, ".parquet"),
    "import": import_target,
    "override": override_target,
    "recipe": recipe_target,
    **{suffix: partial(row_target, suffix) for suffix in COUNTS},
}
"""What makes each target, given an empty folder for its inputs; those that take an input fastest come first."""
