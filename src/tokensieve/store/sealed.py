"""JSON objects, and texts, that carry the checksum of what they say: damage is found where they could still be read.

A file with a manifest beside it has its checksum there. Those that stand alone, such as the state of a run, have it
within, as the manifests themselves do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokensieve.errors import TokensieveError
from tokensieve.store import checksum
from tokensieve.store.atomic import read_object, write_json, write_text

SEAL = "xxh3_128"
"""The key of the checksum."""
COMMENT = f"# {SEAL}: "
"""What stands before the checksum at the end of a text, such as a recipe."""


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with its checksum, in the place of one that it may have, atomically."""
    given = {name: one for name, one in value.items() if name != SEAL}
    write_json(path, {**given, SEAL: _of(json.loads(json.dumps(given)))})


def read_sealed(path: Path, missing: str, hint: str) -> dict[str, Any]:
    """Read a JSON object, without its checksum.

    Args:
        path: its file.
        missing: what to say when there is no such file.
        hint: what the user can do when it cannot be read.

    Raises:
        TokensieveError: the file is missing, holds no JSON object, or does not hold what was written.
    """
    found = read_object(path, missing, hint)
    if found.pop(SEAL, None) != _of(found):
        raise TokensieveError(
            "the file is damaged, or was changed by hand: its checksum is wrong", where=str(path), hint=hint
        )
    return found


def write_sealed_text(path: Path, text: str) -> None:
    """Write a text with its checksum in a comment behind it, atomically."""
    write_text(path, f"{text}{COMMENT}{checksum.of_bytes(text.encode())}\n")


def has_seal(path: Path) -> bool:
    """Whether a text is what `write_sealed_text` wrote."""
    text, _, seal = path.read_bytes().rpartition(COMMENT.encode())
    return seal.strip() == checksum.of_bytes(text).encode()


def _of(value: Mapping[str, Any]) -> str:
    return checksum.of_bytes(json.dumps(value, sort_keys=True).encode())
