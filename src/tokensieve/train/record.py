"""The record of a training, which lies beside the model that it made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokensieve.store.atomic import read_object, write_json

_FILE = "training.json"


def read_record(model: Path) -> dict[str, Any] | None:
    """Read the record of the training that made a model.

    Args:
        model: folder of the adapter or model.

    Returns:
        ``metrics``, ``log`` (the loss curve) and, where tokens were selected on the way, ``selection``; None where no
        training has ended here.

    Raises:
        TokensieveError: the file is not a JSON object.
    """
    path = model / _FILE
    return read_object(path, "", "delete the folder and run the same command again") if path.is_file() else None


def write_record(model: Path, record: Mapping[str, Any]) -> None:
    """Write the record of a training into the folder of its model, atomically."""
    write_json(model / _FILE, record)


def tokens_of(record: Mapping[str, Any]) -> int | None:
    """Return the number of tokens that went through a training: each epoch, prompts and dropped tokens included.

    None where the trainer did not count them.
    """
    found = [entry["num_tokens"] for entry in (*record.get("log", ()), record["metrics"]) if "num_tokens" in entry]
    return int(found[-1]) if found else None


def last_step(record: Mapping[str, Any]) -> int:
    """Return the number of optimizer steps that a record tells of."""
    return max((int(entry["step"]) for entry in record.get("log", ()) if "step" in entry), default=0)
