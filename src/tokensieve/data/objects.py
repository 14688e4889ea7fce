"""Sources in object stores and on the Hub, named by URL: the objects of a file, folder or glob."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from tokensieve.data.readers.items import FORMATS, format_of
from tokensieve.errors import TokensieveError
from tokensieve.places import place, remote_of
from tokensieve.store.mirror import fetched, sync
from tokensieve.store.remote import listed, stamp_of

SAVED = ("dataset_dict.json", "state.json")
"""The files of which a folder that `datasets.save_to_disk` wrote has one."""


def matching_objects(url: str) -> tuple[list[Path], bool]:
    """Return the places of the objects that a URL names, unsorted, and whether it names a folder.

    Raises:
        TokensieveError: no such bucket, or the store refuses or does not answer.
    """
    path = place(url)
    if not glob.has_magic(url):
        if remote_of(path) is not None and stamp_of(path) is not None:
            return [path], False
        found = _below(path, url)
        return [path / name for name in found], bool(found)
    first = next(number for number, part in enumerate(path.parts) if glob.has_magic(part))
    root, pattern = Path(*path.parts[:first]), _translated(path.parts[first:])
    return sorted(root / name for name in _below(root, url) if pattern.fullmatch(name)), False


def saved_data_set(url: str) -> Path | None:
    """Return the folder of a saved data set after all of it was fetched; None where a URL names none."""
    folder = place(url)
    named = glob.has_magic(url) or format_of(folder) in FORMATS or remote_of(folder) is None
    if named or not any(stamp_of(folder / name) for name in SAVED):
        return None
    sync(folder)
    return fetched(folder)


def _below(folder: Path, url: str) -> list[str]:
    if remote_of(folder) is None:
        raise TokensieveError("this URL names no bucket", where=url, hint="such as s3://BUCKET/rows.jsonl")
    return list(listed(folder))


def _translated(parts: tuple[str, ...]) -> re.Pattern[str]:
    """Return what matches a path as `glob.glob` does: ``**`` for folders at any depth, no hidden names."""
    folders = ["(?:[^/.][^/]*/)*" if part == "**" else f"{_one(part)}/" for part in parts[:-1]]
    last = "(?:[^/.][^/]*/)*[^/.][^/]*" if parts[-1] == "**" else _one(parts[-1])
    return re.compile("".join([*folders, last]))


def _one(part: str) -> str:
    """Return what matches one name, in which a wildcard stands for no slash."""
    pieces = re.findall(r"\[!?\]?[^\]]*\]|.", part)
    wild = {"*": "[^/]*", "?": "[^/]"}
    pattern = "".join(
        wild.get(piece) or (piece.replace("[!", "[^") if len(piece) > 1 else re.escape(piece)) for piece in pieces
    )
    return ("" if part.startswith(".") else r"(?!\.)") + pattern
