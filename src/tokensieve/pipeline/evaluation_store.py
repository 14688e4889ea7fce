"""Evaluations in the store: a model is evaluated once on the same data with the same settings, whatever the run.

``evaluations/<id>/`` holds what `ArmFolder.write_evaluation` writes, with a manifest. Every run has a copy of its own.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokensieve.evaluate.settings import EvaluateSettings
from tokensieve.runs.arm_folder import ArmFolder
from tokensieve.store import fingerprint
from tokensieve.store.atomic import atomic_file, atomic_folder, locked
from tokensieve.store.checksum import recorded
from tokensieve.store.manifest import is_complete, open_manifest, write_manifest

Evaluated = tuple[Mapping[str, Any], Mapping[str, Sequence[Mapping[str, Any]]]]
"""Results, and by name the rows behind them."""


def told_settings(settings: EvaluateSettings) -> dict[str, Any]:
    """Return settings as JSON values for a file that others read: files by name, a task folder by a digest of its path.

    What the files hold has fingerprints of its own.
    """
    values = fingerprint.jsonable(dataclasses.asdict(settings))
    for section in values.values():
        if isinstance(section, dict):
            section["files"] = [_by_name(file) for file in section.get("files", ())]
    if values["task_folder"] is not None:
        values["task_folder"] = fingerprint.of_value(values["task_folder"])[:16]
    return values


def _by_name(file: Any) -> Any:
    if isinstance(file, dict):
        return {**file, "path": _by_name(file["path"])}
    return Path(file).name if Path(file).is_absolute() else file


def evaluate_once(store: Path, identity: Mapping[str, Any], arm: ArmFolder, evaluate: Callable[[], Evaluated]) -> None:
    """Write the evaluation of a model into the folder of an arm: the one in the store, or a new one.

    Args:
        store: the store.
        identity: what the evaluation is made from, as JSON values; is written beside the results.
        arm: gets the files.
        evaluate: carries out the evaluation.

    Raises:
        TokensieveError: a file in the store that is damaged.
    """
    key = fingerprint.of_value({**identity, "versions": fingerprint.versions()})
    folder = store / "evaluations" / key[:16]
    with locked(folder):
        if not is_complete(folder):
            results, rows = evaluate()
            with atomic_folder(folder) as partial:
                ArmFolder(partial).write_evaluation({**identity, **results}, rows)
                write_manifest(partial, {path.name: recorded(path) for path in sorted(partial.iterdir())})
    stored, last = open_manifest(folder), ArmFolder(folder).evaluation_file.name
    for name in (*sorted(stored.files.keys() - {last}), last):
        with atomic_file(arm.path / name) as partial:
            shutil.copyfile(stored.path(name), partial)
