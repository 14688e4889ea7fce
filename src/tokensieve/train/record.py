"""The record of a training, which lies beside the model that it made.

What a training takes differs each time: it has a file of its own, so that all others can be compared byte by byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokensieve.errors import TokensieveError
from tokensieve.store import checksum
from tokensieve.store.atomic import read_object, write_json
from tokensieve.store.mirror import fetched, is_there
from tokensieve.store.sealed import read_sealed, write_sealed

_FILE = "training.json"
_AGAIN = "delete the folder and run the same command again"
TIMES = "times.json"
_TIMED = ("train_runtime", "train_samples_per_second", "train_steps_per_second")


def read_record(model: Path) -> dict[str, Any] | None:
    """Read the record of the training that made a model.

    Args:
        model: folder of the adapter or model.

    Returns:
        ``metrics``, ``log`` (the loss curve) and, where tokens were selected on the way, ``selection``; None where no
        training has ended here.

    Raises:
        TokensieveError: the file is damaged.
    """
    path = model / _FILE
    if not path.is_file():
        return None
    found = read_sealed(path, "", _AGAIN)
    found.pop("files", None)
    return found


def write_record(model: Path, record: Mapping[str, Any]) -> None:
    """Write the record of a training into the folder of its model, which is complete; its times into another file."""
    metrics = record["metrics"]
    write_json(model / TIMES, {name: metrics[name] for name in _TIMED if name in metrics})
    log = [_without_times(entry) for entry in record["log"]]
    files = {path.name: checksum.of_file(path) for path in sorted(model.iterdir()) if _belongs_to_model(path)}
    write_sealed(model / _FILE, {**record, "metrics": _without_times(metrics), "log": log, "files": files})


def check_model(model: Path) -> None:
    """Refuse a model that is not what its training wrote, before it is loaded.

    Args:
        model: folder of the adapter or model, with the record of its training.

    Raises:
        TokensieveError: a file of it, or the record, is missing or damaged.
    """
    for name, wanted in read_sealed(model / _FILE, "the record of the training is missing", _AGAIN)["files"].items():
        if not is_there(path := model / name):
            raise TokensieveError("a file of a trained model is missing", where=str(path), hint=_AGAIN)
        if checksum.of_file(fetched(path)) != wanted:
            raise TokensieveError("the file is damaged: its checksum is wrong", where=str(path), hint=_AGAIN)


def _belongs_to_model(path: Path) -> bool:
    """Whether a file says what the model is; its card may be rewritten."""
    return path.is_file() and path.name not in (_FILE, TIMES) and path.suffix != ".md"


def read_times(model: Path) -> dict[str, Any]:
    """Read ``train_runtime``, in seconds, and the speed of the training that made a model; empty where it is unknown.

    After a kill these are of the last attempt alone.

    Raises:
        TokensieveError: the file is not a JSON object.
    """
    path = model / TIMES
    return read_object(path, "", "delete it: nothing but the time of the training is lost") if path.is_file() else {}


def _without_times(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures without times; by name, as a checkpoint of the Trainer gives back its log."""
    return {name: value for name, value in sorted(found.items()) if name not in _TIMED}


def tokens_of(record: Mapping[str, Any]) -> int | None:
    """Return the number of tokens that went through a training: each epoch, prompts and dropped tokens included.

    None where the trainer did not count them.
    """
    found = [entry["num_tokens"] for entry in (*record.get("log", ()), record["metrics"]) if "num_tokens" in entry]
    return int(found[-1]) if found else None


def last_step(record: Mapping[str, Any]) -> int:
    """Return the number of optimizer steps that a record tells of."""
    return max((int(entry["step"]) for entry in record.get("log", ()) if "step" in entry), default=0)
