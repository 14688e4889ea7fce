"""Paths of this machine, distinguished from URLs."""

from __future__ import annotations

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
    text = str(path)
    if any(map(_SCHEME.fullmatch, text.split("/"))):
        raise TokensieveError(
            f"'{text}' is a URL, and only folders and files of this machine can be used here",
            where=where or text,
            hint="give a local path, and copy to and from remote storage with its own tools",
        )
