"""What the statistics of a model depend on: its weights, adapter and precision, whatever its path."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from tokensieve.models.loading import check_adapter, check_weights, dtype_of, local_folder
from tokensieve.models.reward import HEAD_FILE
from tokensieve.models.settings import ModelSettings
from tokensieve.store import fingerprint


def model_identity(model: ModelSettings) -> dict[str, Any]:
    """Return what a model's statistics depend on: weights, adapter, precision and reward head, not the path."""
    found = {"weights": weights_fingerprint(model), "adapter": adapter_fingerprint(model), "dtype": dtype_of(model)}
    if model.reward_head is not None:
        folder = local_folder(model.reward_head, weights=True)
        found["reward_head"] = _folder_fingerprint(folder, (HEAD_FILE,), _stamps(folder))
    return found


def same_model(one: ModelSettings, other: ModelSettings) -> bool:
    """Whether two models give the same statistics: equal weights, adapter and precision, wherever they are."""
    return model_identity(one) == model_identity(other)


def weights_fingerprint(model: ModelSettings) -> str:
    """Return the fingerprint of a model's configuration, weights and code."""
    folder = local_folder(model.path, model.revision, weights=True)
    check_weights(folder)
    return _folder_fingerprint(folder, fingerprint.MODEL_FILES, _stamps(folder))


def adapter_fingerprint(model: ModelSettings) -> str | None:
    """Return the fingerprint of a model's adapter, or None where it has none; errors as for `check_adapter`."""
    if model.adapter is None:
        return None
    folder = check_adapter(model.adapter)
    return _folder_fingerprint(folder, fingerprint.ADAPTER_FILES, _stamps(folder))


def _stamps(folder: Path) -> tuple[tuple[str, int, int], ...]:
    return tuple((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.iterdir()) if p.is_file())


@functools.lru_cache(maxsize=64)
def _folder_fingerprint(folder: Path, patterns: tuple[str, ...], stamps: tuple[Any, ...]) -> str:
    """Hash a folder once per state of its files; gigabytes are not read again for every question."""
    return fingerprint.of_folder(folder, patterns)
