"""Watches the file operations of this process from within, so that a test can act before one of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate", "shutil.rmtree")
GROWS = ("open", "os.mkdir", "os.link", "os.fsync", "torch.save")
"""What takes room on a disk, or finds out that there is none."""


def watch(saw: Callable[[str, str], None]) -> None:
    """Call a function before each operation that changes files, for the rest of the process.

    Args:
        saw: is given the operation (of `CHANGES`, or ``open``, ``os.fsync``, ``torch.save``) and the path that it
            writes or removes, where it is known. What it raises is raised by the operation.
    """

    def hook(event: str, given: tuple[Any, ...]) -> None:
        opened = event == "open" and isinstance(given[2], int) and given[2] & WRITES
        if opened or event in CHANGES:
            place = 1 if event in ("os.rename", "os.link") else 0
            saw(event, _path(given[place], given[-1]))

    sys.addaudithook(hook)
    # Writers outside of Python are invisible to audit hooks, and so are syncs.
    sync = os.fsync
    os.fsync = lambda file: (saw("os.fsync", _opened(file)), sync(file))[1]
    import torch

    save = torch.save
    torch.save = lambda *given, **named: (saw("torch.save", str(given[1])), save(*given, **named))[1]


def _path(path: Any, folder: Any) -> str:
    if isinstance(path, int):
        return _opened(path)
    name = os.fsdecode(path)
    if os.path.isabs(name) or not isinstance(folder, int) or folder < 0:
        return os.path.abspath(name)
    return os.path.join(_opened(folder), name)


def _opened(descriptor: Any) -> str:
    number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
    return os.readlink(f"/proc/self/fd/{number}")
