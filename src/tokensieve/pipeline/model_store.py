"""Trained models in the store: made once, whatever the run, and known by all that they are made from.

``models/<id>/model/`` holds the adapter or model with its training record; checkpoints lie beside it until it is whole.
``models/<id>/rounds/`` is there where a schedule trained in rounds.
``models/<id>/manifest.json`` says what it is made from and has the checksum of each file but the times of the training,
so that the same model has the same manifest; it is written last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokensieve.data.tokenize import Encoder, tokenizer_fingerprint
from tokensieve.methods import package_of
from tokensieve.methods._base import Method
from tokensieve.models.identity import model_identity
from tokensieve.store import checksum, fingerprint
from tokensieve.store.atomic import atomic_folder, link, remove
from tokensieve.store.manifest import has_manifest, is_complete, open_manifest, write_manifest
from tokensieve.store.mirror import fetched, is_there, sync
from tokensieve.train.processes import ALONE, Processes
from tokensieve.train.record import TIMES
from tokensieve.train.settings import TrainSettings
from tokensieve.train.trainer import TrainingSetup

LAYOUT = 3
"""Version of the files of a model in the store; raised when they change."""
MODEL, ROUNDS = "model", "rounds"
"""The parts of a model's folder that its manifest records, and that `place` puts elsewhere."""


def make_once(
    store: Path,
    identity: Mapping[str, Any],
    make: Callable[[Path], Mapping[str, Any]],
    processes: Processes = ALONE,
) -> tuple[Path, bool]:
    """Return the folder of a model in the store, and whether it was made now: once, by one process at a time.

    Args:
        store: the store.
        identity: what the model is made from, as JSON values.
        make: writes ``model/``, and ``rounds/`` where there are any, into the folder; returns what else the manifest is
            to say. A folder that a killed attempt began is given to it as it is.
        processes: those that make it together; each calls this.

    Raises:
        TokensieveError: a file of a model that was made before is damaged.
    """
    folder = store / "models" / fingerprint.of_value(identity)[:16]
    if processes.is_main:
        sync(folder)
    if _is_made(folder, processes):
        return folder, False
    with processes.locked(folder):
        if _is_made(folder, processes):  # by another run
            return folder, False
        if processes.is_main and has_manifest(folder):  # a file was deleted
            remove(folder)
        about = make(folder)
        if processes.is_main:
            _record(folder, identity, about)
        processes.wait()
    return folder, True


def _is_made(folder: Path, processes: Processes) -> bool:
    """Whether a model is there; its files are then verified, before anything loads them."""
    if not processes.agree(is_complete(folder)):
        return False
    manifest = open_manifest(folder)
    for name in manifest.files:
        manifest.path(name)
    return True


def _record(folder: Path, identity: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write the manifest of a model that is made."""
    files = {
        path.relative_to(folder).as_posix(): checksum.recorded(path)
        for part in (MODEL, ROUNDS)
        for path in sorted(fetched(folder / part).rglob("*"))
        if path.is_file() and path.name != TIMES
    }
    write_manifest(folder, files, {"identity": identity, "versions": fingerprint.versions(), **about})


def place(folder: Path, output: Path, part: str = MODEL) -> None:
    """Let a part of a model of the store stand in another folder too, so that it outlives the store.

    Args:
        folder: of the model in the store.
        output: gets hard links to its files, or copies where the file system gives no links.
        part: `MODEL` or `ROUNDS`.

    Raises:
        TokensieveError: a file that is damaged.
    """
    stored = open_manifest(folder)
    with atomic_folder(output) as partial:
        for name in stored.files:
            if name.startswith(f"{part}/"):
                link(stored.path(name), partial / Path(name).relative_to(part))
        if is_there(times := folder / part / TIMES):
            link(fetched(times), partial / TIMES)


def settings_identity(settings: TrainSettings) -> dict[str, Any]:
    """Return what a training depends on of its settings; ``max_steps: -1`` says the same as nothing."""
    arguments = {name: value for name, value in settings.arguments.items() if (name, value) != ("max_steps", -1)}
    return {**dataclasses.asdict(settings), "arguments": arguments}


def training_identity(
    setup: TrainingSetup,
    encoder: Encoder,
    files: Sequence[Path],
    method: Method | None,
    turn_end_ids: Sequence[int],
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Return all that the result of a training depends on; no name of a file or folder is in it.

    Args:
        setup: base and settings.
        encoder: whose tokenizer is saved beside the weights.
        files: the data.
        method: selects or weights tokens as the model trains; None trains on every label.
        turn_end_ids: what ``method`` keeps whatever its score.
        processes: those that train together: each has micro-batches of its own.
    """
    identity: dict[str, Any] = {
        "layout": LAYOUT,
        "base": model_identity(setup.base),
        "tokenizer": tokenizer_fingerprint(encoder),
        "data": [checksum.of_file(path) for path in files],
        "train": settings_identity(setup.settings),
        "max_length": setup.max_length,
        "seed": setup.seed,
        "device": setup.device.type,
        "versions": fingerprint.versions(),
    }
    if processes.count > 1:
        identity["processes"] = processes.count
    if method is not None:
        parameters, package = dataclasses.asdict(method), package_of(method.name)
        identity["method"] = {"name": method.name, "parameters": parameters, "package": package}
        identity["turn_end_ids"] = list(turn_end_ids)
    return fingerprint.jsonable(identity)
