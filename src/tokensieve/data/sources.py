"""Rows from files, folders and the Hub, each with the place it came from."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tokensieve.data.datasets_private import is_cached
from tokensieve.data.forms import Form
from tokensieve.data.objects import SAVED, matching_objects, saved_data_set
from tokensieve.data.readers import file_rows
from tokensieve.data.readers.items import COMPRESSED, FORMATS, BadRowError, OnError, format_of
from tokensieve.data.readers.tables import without_gaps
from tokensieve.data.roles import with_roles
from tokensieve.data.settings import DataSettings, FileSettings
from tokensieve.errors import TokensieveError
from tokensieve.places import is_url, place, remote_of, told
from tokensieve.store import fingerprint
from tokensieve.store.manifest import is_manifest
from tokensieve.store.remote import stamp_of

Item = TypeVar("Item")
Stamp = tuple[int, int, int]
"""Size, time of the last change and inode of a file: one of them changes when the file does."""


@dataclass(frozen=True)
class Row:
    """One row of the source.

    Attributes:
        number: position among all rows that were read, from 0.
        where: file and line (or row) for messages to the user.
        data: columns and values, renamed, without those to ignore.
        source: the file, folder or Hub id that it came from.
        form: the form that its file is said to have.
        ignore: columns that the user leaves out.
    """

    number: int
    where: str
    data: dict[str, Any]
    source: str
    form: Form
    ignore: tuple[str, ...]

    def bad(self, error: TokensieveError) -> BadRowError:
        """Return an error of this row, with its place."""
        return BadRowError(error.what, where=self.where, hint=error.hint, row=self.data)


def read_rows(settings: DataSettings, on_error: OnError) -> Iterator[Row]:
    """Yield the rows of every source in order.

    Args:
        settings: what to read.
        on_error: called with the error of each row that cannot be read, and of each source that does
            not exist, is empty, has an unknown format or breaks off; raise in it to stop at the first.

    Raises:
        TokensieveError: no source given.
    """
    rows = (
        row_of(number, where, data, source, entry)
        for number, (entry, source, where, data) in enumerate(_all_rows(settings, on_error))
    )
    return itertools.islice(rows, settings.limit)


def row_of(number: int, where: str, data: dict[str, Any], source: str, entry: FileSettings) -> Row:
    """Return a row as its entry says that it is to be read."""
    return Row(number, where, _columns(data, entry), source, entry.form or "auto", entry.ignore or ())


def places_of(settings: DataSettings, numbers: Sequence[int]) -> list[str]:
    """Return file and line of rows, by reading the sources again up to the last of them.

    Args:
        settings: what was read.
        numbers: of the rows, rising.
    """
    rows = itertools.islice(read_rows(settings, lambda _: None), max(numbers, default=-1) + 1)
    wanted = set(numbers)
    return [row.where for row in rows if row.number in wanted]


def sources_elsewhere(settings: DataSettings) -> list[str]:
    """Return the Hub ids among the sources whose data sets are not in the cache of this machine."""
    return [entry.path for entry in settings.entries if _is_hub_id(entry.path) and not is_cached(entry.path)]


def source_fingerprint(settings: DataSettings) -> str:
    """Return a fingerprint of the sources' contents, and of how rows are picked from them."""
    picked = [
        [entry.form, entry.columns, entry.ignore, entry.roles, entry.limit, _content_fingerprint(entry)]
        for entry in settings.entries
    ]
    return fingerprint.of_value([settings.limit, picked])


def source_stamps(settings: DataSettings) -> dict[Path, Stamp]:
    """Return the stamp of each file; an object of a store has no inode."""
    return stamps_of(path for entry in settings.entries for path in _files(entry))


def stamps_of(files: Iterable[Path]) -> dict[Path, Stamp]:
    """Return the stamps of files that are there."""
    found: dict[Path, Stamp] = {}
    for path in files:
        with suppress(FileNotFoundError):
            found[path] = _file_stamp(path)
    return found


def check_unchanged(settings: DataSettings, stamps: Mapping[Path, Stamp]) -> None:
    """Refuse rows of files that changed since their stamps were taken: they are not what the fingerprint says.

    Raises:
        TokensieveError: a file that was written to, replaced, added or removed.
    """
    check_same_stamps(stamps, source_stamps(settings))


def check_same_stamps(stamps: Mapping[Path, Stamp], now: Mapping[Path, Stamp]) -> None:
    """Refuse files whose stamps are others than they were; see `check_unchanged`."""
    for path in sorted(stamps.keys() | now.keys()):
        if stamps.get(path) != now.get(path):
            raise TokensieveError(
                "the data changed while it was read",
                where=str(path),
                hint="wait until whatever writes the file is done, and run the same command again",
            )


def _file_stamp(path: Path) -> Stamp:
    if remote_of(path) is not None:
        stamp = stamp_of(path)
        return (stamp.size, stamp.seconds, 0) if stamp else (-1, 0, 0)
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _files(entry: FileSettings) -> list[Path]:
    if _is_hub_id(entry.path):
        return []
    folder = _saved_folder(entry.path)
    return _expand(entry.path) if folder is None else _saved_files(folder)


def _saved_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.arrow"))


def _content_fingerprint(entry: FileSettings) -> Any:
    source = entry.path
    if _is_hub_id(source):
        return [source, entry.name, entry.split, _load_hub(entry)._fingerprint]
    if (folder := _saved_folder(source)) is not None:
        return [entry.split, fingerprint.of_files(_saved_files(folder))]
    return fingerprint.of_files(_expand(source))


def _all_rows(settings: DataSettings, on_error: OnError) -> Iterator[tuple[FileSettings, str, str, dict[str, Any]]]:
    """Yield (entry, source, where, columns)."""
    if not settings.files:
        raise TokensieveError("no data given", where="recipe: data.files", hint="data: {files: [train.jsonl]}")
    for entry in settings.entries:
        rows = itertools.islice(reported(_entry_rows(entry, settings.max_row_bytes, on_error), on_error), entry.limit)
        yield from ((entry, *row) for row in rows)


def _entry_rows(entry: FileSettings, most: int, on_error: OnError) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for part in parts_of(entry):
        if isinstance(part, Path):
            source, where_told = told(part), teller(part)
            rows = reported(file_rows(part, most, on_error), on_error)
            yield from ((source, where_told(where), data) for where, data in rows)
        else:
            yield from ((entry.path, *row) for row in dataset_rows(part, entry.path))


def teller(path: Path) -> Callable[[str], str]:
    """Return what gives the place of a row of a file for the user: for an object, with its URL."""
    return str if remote_of(path) is None else told


def parts_of(entry: FileSettings) -> Iterator[Any]:
    """Yield what an entry names: the path of each file, or a data set of `datasets`.

    Raises:
        TokensieveError: it does not exist, or has an unknown format.
    """
    if _is_hub_id(entry.path):
        yield _load_hub(entry)
    elif (folder := _saved_folder(entry.path)) is not None:
        yield _load_saved(folder, entry.split)
    else:
        yield from _expand(entry.path)


def reported(rows: Iterator[Item], on_error: OnError) -> Iterator[Item]:
    """Yield rows up to the error that ends them, and report it."""
    try:
        yield from rows
    except TokensieveError as error:
        on_error(error)


def dataset_rows(dataset: Any, source: str, start: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, columns) of a data set of `datasets`, from one row on."""
    rows = dataset.select(range(start, len(dataset))) if start else dataset
    for number, row in enumerate(rows.with_format(None), start):  # tensors, if it was saved with a format
        yield f"{source} row {number}", without_gaps(row)


def _expand(source: str) -> list[Path]:
    """Return the files that a path, folder or glob names, sorted.

    Raises:
        TokensieveError: nothing there, or no file of a known format.
    """
    path = Path(source).expanduser()
    found, is_folder = matching_objects(source) if is_url(source) else _matching(path)
    if is_folder:
        files = (p for p in found if format_of(p) in FORMATS and not _hidden(p, place(path)))
        found = sorted(p for p in files if not is_manifest(p))
        if not found:
            raise TokensieveError("no data files in this folder", where=source, hint=f"files of {', '.join(FORMATS)}")
        return found
    if not found:
        here = "check the URL" if is_url(source) else f"paths are relative to the current folder, {Path.cwd()}"
        raise TokensieveError("no such file, folder or glob", where=source, hint=here)
    for file in found:
        if format_of(file) not in FORMATS:
            raise TokensieveError(
                f"unknown format '{file.suffix}'",
                where=str(file),
                hint=f"one of {', '.join(FORMATS)}, also with {' or '.join(COMPRESSED)}",
            )
    return found


def _matching(path: Path) -> tuple[list[Path], bool]:
    """Return the files at a local path, folder or glob, and whether it is a folder."""
    if path.is_dir():
        return list(path.rglob("*")), True
    return [path] if path.exists() else sorted(Path(p) for p in glob.glob(str(path), recursive=True)), False


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _is_hub_id(source: str) -> bool:
    """A Hub id is `name` or `owner/name`, is no file here and has no data file's ending."""
    path = Path(source).expanduser()
    if is_url(source) or path.exists() or glob.has_magic(source) or format_of(path) in FORMATS:
        return False
    return not source.startswith((".", "/", "~")) and source.count("/") == 1


def _saved_folder(source: str) -> Path | None:
    """Return the folder of a saved data set, where a source is one; what a store has of it is fetched."""
    if is_url(source):
        return saved_data_set(source)
    folder = Path(source).expanduser()
    return folder if any((folder / name).is_file() for name in SAVED) else None


def _load_hub(entry: FileSettings) -> Any:
    import datasets

    try:
        return datasets.load_dataset(entry.path, entry.name, split=entry.split, revision=entry.revision)
    except Exception as error:
        raise TokensieveError(
            f"neither a file here nor a data set that the Hub gives: {error}",
            where=entry.path,
            hint="check the path; for a Hub data set also data.name, data.split and data.revision",
        ) from error


def _load_saved(folder: Path, split: str | None) -> Any:
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:
        raise TokensieveError(
            f"not a data set that `datasets` can read: {error}",
            where=str(folder),
            hint="save it again with `save_to_disk`, or give Parquet files",
        ) from error
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise TokensieveError(
                f"no split '{split}'", where=str(folder), hint=f"data.split: one of {', '.join(map(str, loaded))}"
            )
        return loaded[split]
    return loaded


def _columns(data: dict[str, Any], entry: FileSettings) -> dict[str, Any]:
    """Return a row's columns without those to ignore, under their new names; speakers have the roles given for them."""
    ignore, names = entry.ignore or (), entry.columns or {}
    if ignore:
        data = {name: value for name, value in data.items() if name not in ignore}
    if names:
        kept = {name: value for name, value in data.items() if name not in names}
        data = kept | {names[name]: value for name, value in data.items() if name in names}
    return with_roles(data, entry.roles) if entry.roles else data
