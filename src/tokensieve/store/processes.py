"""Which process writes, told apart over all hosts that see the same files, and what a dead one left half-written."""

from __future__ import annotations

import fnmatch
import functools
import glob
import os
import re
import secrets
import shutil
import socket
import time
from pathlib import Path

_PARTIAL = re.compile(r"\..+\.(?P<host>[^.]+)\.(?P<pid>\d+)\.[0-9a-f]{8}\.partial")
_ABANDONED = 24 * 60 * 60  # seconds after which the file of a writer on another host is one of a dead one


def is_alive(pid: int) -> bool:
    """Whether a process of this host lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # of another user
    return True


@functools.cache
def host() -> str:
    """Return what tells apart where process numbers mean different things: the host, and the container on it."""
    try:
        container = f"-{Path('/proc/self/ns/pid').stat().st_ino:x}"
    except OSError:  # no Linux
        container = ""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname()) + container


def holder() -> str:
    """Return this process in words, as one that holds a lock from now on."""
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"process {os.getpid()} on {socket.gethostname()} since {since}"


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what dead writers left half-written in a folder, never what a living one writes.

    Args:
        folder: where to look, not in the folders within it; it need not be there.
        name: of the file or folder that was written; any where None.
    """
    pattern = f".{glob.escape(name)}.*.partial" if name is not None else ".*.partial"
    try:
        with os.scandir(folder) as listing:  # `Path.glob` would hold all the names of the folder
            found = [folder / entry.name for entry in listing if fnmatch.fnmatchcase(entry.name, pattern)]
    except (FileNotFoundError, NotADirectoryError):
        return
    for path in found:
        if _is_abandoned(path):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def beside(path: Path) -> Path:
    """Return where to write what is to be at a path."""
    return path.with_name(f".{path.name}.{host()}.{os.getpid()}.{secrets.token_hex(4)}.partial")


def _is_abandoned(path: Path) -> bool:
    found = _PARTIAL.fullmatch(path.name)
    if found is not None and found["host"] == host():
        return not is_alive(int(found["pid"]))
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED
    except FileNotFoundError:
        return False
