"""Paths of this machine, distinguished from URLs."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tokensieve.errors import TokensieveError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def check_local(path: str | Path, where: str = "") -> None:
    """Refuse a URL where only a path of this machine can be used.

    `Path` makes ``s3:/bucket`` of ``s3://bucket``, and `Path.absolute` puts the current folder in front of it; so a
    part of a path that looks like a scheme is refused anywhere.

    Args:
        path: what was given.
        where: the field that it was given in; the path itself where there is none.

    Raises:
        TokensieveError: a URL.
    """
    text = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]+):/(?=[^/])", r"\1://", str(path))  # `Path` made one slash of two
    if any(map(_SCHEME.fullmatch, text.split("/"))):
        raise TokensieveError(
            f"'{text}' is a URL, and only folders and files of this machine can be used here",
            where=where or text,
            hint="give a local path, and copy to and from remote storage with its own tools",
        )


def check_folder_path(folder: Path, where: str) -> None:
    """Refuse a path at which no folder can be.

    Args:
        folder: a folder, or the path of one to be made.
        where: the field that it was given in.

    Raises:
        TokensieveError: a file is there or on the way there, or the folder cannot be written to.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise TokensieveError(
            f"'{nearest}' is a {'file' if nearest.exists() else 'link to nothing'}, and a folder is needed",
            where=where,
            hint="give a folder that is new or empty",
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise TokensieveError(f"'{nearest}' cannot be written to", where=where, hint="give a folder that is yours")
