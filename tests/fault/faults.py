"""Commands with a fault at one of their file operations."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path

from file_operations import GROWS, watch
from small_shards import tokensieve

SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}


class Fault:
    """Counts the operations below a folder, and acts before one of them.

    Args:
        root: the folder.
        number: of the operation before which the fault happens, from 0; None for no fault.
        kind: ``kill``, ``term``, ``int``, or ``full``: no file below root grows any more.
    """

    def __init__(self, root: Path, number: int | None, kind: str) -> None:
        self._root, self._number, self._kind = f"{root}{os.sep}", number, kind
        self.operations: list[tuple[str, str]] = []
        self._is_full = False

    def saw(self, event: str, path: str) -> None:
        """Count an operation, and let the fault happen if this is the one."""
        if not path.startswith(self._root):
            return
        self.operations.append((event, path.removeprefix(self._root)))
        if len(self.operations) - 1 == self._number:
            if self._kind == "full":
                self._is_full = True
            else:
                os.kill(os.getpid(), SIGNALS[self._kind])
        if self._is_full and event in GROWS:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def carry_out(arguments: list[str], root: Path, number: int | None, kind: str, operations: Path) -> None:
    """Carry out a command, and write each of its file operations with its path to a file, unless it is killed."""
    fault = Fault(root, number, kind)
    watch(fault.saw)
    try:
        tokensieve(arguments, shard_tokens=60, chunk_rows=4)
    finally:
        operations.write_text(json.dumps(fault.operations), encoding="utf-8")
