"""What processes of the command line said and left."""

from __future__ import annotations

from pathlib import Path
from subprocess import Popen

from warm import Warm


def ended(process: Popen[str] | Warm) -> str:
    """Return what a process that must succeed says on the error stream."""
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


def contents(root: Path, *folders: str) -> dict[Path, bytes]:
    """Return the bytes of everything that a run leaves in folders, but for locks."""
    found = sorted(path for folder in folders for path in (root / folder).rglob("*") if path.is_file())
    return {path.relative_to(root): path.read_bytes() for path in found if path.suffix != ".lock"}
