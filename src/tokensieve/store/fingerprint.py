"""Fingerprints: SHA-256 of what figures depend on, so that they are never used for anything else."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokensieve.containers import Int64
from tokensieve.errors import TokensieveError
from tokensieve.store.digests import digest_of

MODEL_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", "*.py")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")

_BLOCK = 4096  # numbers that are text at once


def jsonable(value: Any) -> Any:
    """Return a value as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(value))


def of_value(value: Any) -> str:
    """Return the fingerprint of a JSON value; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def of_numbers(numbers: Int64) -> str:
    """Return what `of_value` returns of a list of these numbers, without the list: there may be one for each shard."""
    digest = hashlib.sha256(b"[")
    for start in range(0, len(numbers), _BLOCK):
        text = json.dumps(numbers[start : start + _BLOCK].tolist())[1:-1]
        digest.update(f"{', ' if start else ''}{text}".encode())
    digest.update(b"]")
    return digest.hexdigest()


def of_files(files: Iterable[Path]) -> str:
    """Return the fingerprint of the contents of files and objects, in the order given."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(digest_of(path))
    return digest.hexdigest()


def of_folder(folder: Path, patterns: Iterable[str]) -> str:
    """Return the fingerprint of a folder's files that match: their names and contents.

    Raises:
        TokensieveError: no file matches.
    """
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    if not files:
        raise TokensieveError(
            f"no {' or '.join(patterns)} in this folder",
            where=str(folder),
            hint="give a folder that `save_pretrained` wrote",
        )
    return of_value([[path.name, of_files([path])] for path in files])


def versions() -> dict[str, str]:
    """Return the versions of the libraries that figures depend on."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    names = ("tokensieve", "torch", "transformers", "peft", "trl", "tokenizers", "datasets", "pyarrow")
    return {name: importlib.metadata.version(name) for name in names}


def check_same(found: Any, wanted: Any, *, where: str, hint: str) -> None:
    """Raise ``TokensieveError`` that shows both sides of every difference between two JSON objects."""
    differences = [
        f"{name}: {before!r} there, {after!r} here" for name, before, after in _differences(found, wanted, "")
    ]
    if differences:
        raise TokensieveError("it was made from something else: " + "; ".join(differences), where=where, hint=hint)


def _differences(found: Any, wanted: Any, path: str) -> list[tuple[str, Any, Any]]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = list(dict.fromkeys([*found, *wanted]))
        return [d for k in keys for d in _differences(found.get(k), wanted.get(k), f"{path}.{k}" if path else k)]
    return [] if found == wanted else [(path, found, wanted)]
