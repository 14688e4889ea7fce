"""One file made of a piece for each shard, in the order of the shards, whoever is done first."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from tokensieve.store.atomic import atomic_file

_BLOCK = 1 << 20


class JoinedFile:
    """Joins pieces that any process may write. A piece is a file of its own until those of all shards before it came.

    Args:
        path: of the file, which appears whole when the block ends.
        pieces: folder of the pieces, which is removed then.
    """

    def __init__(self, path: Path, pieces: Path) -> None:
        self._path, self._pieces, self._waiting, self._next = path, pieces, set[int](), 0

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        partial = self._stack.enter_context(atomic_file(self._path))
        self._handle = self._stack.enter_context(partial.open("wb"))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
        shutil.rmtree(self._pieces, ignore_errors=True)

    def add(self, number: int) -> None:
        """Take the piece of a shard, if it wrote one, and of those behind it that wait for it."""
        self._waiting.add(number)
        while self._next in self._waiting:
            self._waiting.remove(self._next)
            piece = piece_of(self._pieces, self._next)
            if piece.is_file():
                with piece.open("rb") as content:
                    shutil.copyfileobj(content, self._handle, _BLOCK)
                piece.unlink()
            self._next += 1


def write_piece(pieces: Path, number: int, content: bytes) -> None:
    """Write the piece of a shard."""
    with atomic_file(piece_of(pieces, number)) as partial:
        partial.write_bytes(content)


def piece_of(pieces: Path, number: int) -> Path:
    """Return the path of the piece of a shard."""
    return pieces / f"{number}.piece"
