"""Rows from files, folders and the Hub, each with the place it came from."""

from __future__ import annotations

import csv
import glob
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from tokensieve.data.datasets_private import is_cached
from tokensieve.data.forms import Form
from tokensieve.data.settings import DataSettings, FileSettings
from tokensieve.errors import TokensieveError
from tokensieve.store import fingerprint
from tokensieve.store.manifest import is_manifest

_FORMATS = (".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".csv")
_ROWS_AT_ONCE = 1000
_COMPRESSED = (".gz", ".zst")
_LONGEST_FIELD = 2**31 - 1  # of CSV; Python's own limit of 128 KiB is less than a long document
OnError = Callable[[TokensieveError], None]
"""Takes the `BadRowError` of each row that cannot be used, and any other error of a source; raise in it to stop."""
Item = TypeVar("Item")


class BadRowError(TokensieveError):
    """A row that cannot be used, while others of its source can.

    Args:
        what: one sentence that states the fault.
        where: file and line, or row.
        hint: what the user can do about it.
        row: what was read of it: its columns, or the text that is not JSON.
    """

    def __init__(self, what: str, *, where: str, hint: str, row: Any) -> None:
        super().__init__(what, where=where, hint=hint)
        self.row = row


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
        Row(number, where, _columns(data, entry), source, entry.form or "auto", entry.ignore or ())
        for number, (entry, source, where, data) in enumerate(_all_rows(settings, on_error))
    )
    return itertools.islice(rows, settings.limit)


def sources_elsewhere(settings: DataSettings) -> list[str]:
    """Return the Hub ids among the sources whose data sets are not in the cache of this machine."""
    return [entry.path for entry in settings.entries if _is_hub_id(entry.path) and not is_cached(entry.path)]


def source_fingerprint(settings: DataSettings) -> str:
    """Return a fingerprint of the sources' contents, and of how rows are picked from them."""
    picked = [
        [entry.form, entry.columns, entry.ignore, entry.limit, _content_fingerprint(entry)]
        for entry in settings.entries
    ]
    return fingerprint.of_value([settings.limit, picked])


def _content_fingerprint(entry: FileSettings) -> Any:
    source = entry.path
    if _is_hub_id(source):
        return [source, entry.name, entry.split, _load_hub(entry)._fingerprint]
    if _is_saved_dataset(source):
        return [entry.split, fingerprint.of_files(sorted(Path(source).expanduser().rglob("*.arrow")))]
    return fingerprint.of_files(_expand(source))


def _all_rows(settings: DataSettings, on_error: OnError) -> Iterator[tuple[FileSettings, str, str, dict[str, Any]]]:
    """Yield (entry, source, where, columns)."""
    if not settings.files:
        raise TokensieveError("no data given", where="recipe: data.files", hint="data: {files: [train.jsonl]}")
    for entry in settings.entries:
        rows = itertools.islice(_reported(_entry_rows(entry, on_error), on_error), entry.limit)
        yield from ((entry, *row) for row in rows)


def _entry_rows(entry: FileSettings, on_error: OnError) -> Iterator[tuple[str, str, dict[str, Any]]]:
    source = entry.path
    if _is_hub_id(source):
        yield from ((source, *row) for row in _dataset_rows(_load_hub(entry), source))
    elif _is_saved_dataset(source):
        yield from ((source, *row) for row in _dataset_rows(_load_saved(source, entry.split), source))
    else:
        for path in _expand(source):
            yield from ((str(path), *row) for row in _reported(_file_rows(path, on_error), on_error))


def _reported(rows: Iterator[Item], on_error: OnError) -> Iterator[Item]:
    """Yield rows up to the error that ends them, and report it."""
    try:
        yield from rows
    except TokensieveError as error:
        on_error(error)


def _file_rows(path: Path, on_error: OnError) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, columns) of one file.

    Raises:
        TokensieveError: an empty file, one of unknown format, or one that is not what its name says.
    """
    if path.stat().st_size == 0:
        raise TokensieveError("the file is empty", where=str(path), hint="write it again, or leave it out")
    suffix = _format(path)
    try:
        readers = {".parquet": _parquet_rows, ".arrow": _arrow_rows, ".csv": _csv_rows, ".json": _json_rows}
        reader = readers.get(suffix, _jsonl_rows)
        count = 0
        for count, item in enumerate(reader(path, on_error), start=1):  # noqa: B007
            yield item
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise TokensieveError(
            f"cannot read the file: {error}", where=str(path), hint="text must be UTF-8; an archive may be cut short"
        ) from error
    if count == 0:
        on_error(TokensieveError("the file has no rows", where=str(path), hint="write it again, or leave it out"))


def _jsonl_rows(path: Path, on_error: OnError) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of JSON lines, or of one JSON array in a file of that name."""
    with _open_text(path) as handle:
        begins = next((line for line in handle if line.strip()), "")
    yield from (_json_rows if begins.lstrip().startswith("[") else _line_rows)(path, on_error)


def _line_rows(path: Path, on_error: OnError) -> Iterator[tuple[str, dict[str, Any]]]:
    with _open_text(path) as handle:
        for line_number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            where = f"{path}:{line_number}"
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                on_error(
                    BadRowError(
                        f"not JSON: {error.msg} (column {error.colno})",
                        where=where,
                        hint="one JSON object per line",
                        row=line,
                    )
                )
                continue
            yield from _object(value, where, on_error)


def _json_rows(path: Path, on_error: OnError) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a JSON array, also under the key `data` of an object, or of an object keyed by row id.

    A file of JSON lines may be named so too.
    """
    with _open_text(path) as handle:
        text = handle.read()
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and (text.lstrip().startswith("{") or _format(path) != ".json"):
            yield from _line_rows(path, on_error)
            return
        raise TokensieveError(
            f"not JSON: {error.msg} (column {error.colno})",
            where=f"{path}:{error.lineno}",
            hint="an array of objects; a file with one object a line is named .jsonl",
        ) from error
    if isinstance(value, dict) and _is_list_of_objects(rows := value.get("data")):
        value = rows
    if isinstance(value, dict) and value and all(isinstance(row, dict) for row in value.values()):
        for key, row in value.items():
            yield f"{path} key '{key}'", row
    elif isinstance(value, dict):
        yield f"{path}:1", value
    elif isinstance(value, list):
        for number, row in enumerate(value):
            yield from _object(row, f"{path} row {number}", on_error)
    else:
        raise TokensieveError(f"a JSON {type(value).__name__}, not rows", where=str(path), hint="an array of objects")


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _object(value: Any, where: str, on_error: OnError) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        yield where, value
    else:
        on_error(
            BadRowError(
                f"a JSON {type(value).__name__}, not an object",
                where=where,
                hint='one object a row, such as {"messages": [...]}',
                row=value,
            )
        )


def _csv_rows(path: Path, on_error: OnError) -> Iterator[tuple[str, dict[str, Any]]]:
    csv.field_size_limit(_LONGEST_FIELD)
    with _open_text(path) as handle:
        reader = csv.DictReader(handle)
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row or None in row.values():
                on_error(
                    BadRowError(
                        "more or fewer fields than the header names",
                        where=where,
                        hint="quote fields that hold commas or line breaks",
                        row=row,
                    )
                )
            else:
                yield where, row


def _parquet_rows(path: Path, on_error: OnError) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow.parquet as pq

    def batches() -> Iterator[Any]:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=_ROWS_AT_ONCE)

    return _batch_rows(path, batches(), "a Parquet file")


def _arrow_rows(path: Path, on_error: OnError) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa

    def batches() -> Iterator[Any]:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
            for number in range(file.num_record_batches):
                batch = file.get_batch(number)
                for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                    yield batch.slice(start, _ROWS_AT_ONCE)

    return _batch_rows(path, batches(), "an Arrow file")


def _batch_rows(path: Path, batches: Iterator[Any], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa

    try:
        rows = (row for batch in batches for row in batch.to_pylist())
        for number, row in enumerate(rows):
            yield f"{path} row {number}", _without_gaps(row)
    except pa.ArrowInvalid as error:
        raise TokensieveError(
            f"not {kind}: {error}", where=str(path), hint="write it again, or name it after what it is"
        ) from error


def _dataset_rows(dataset: Any, source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, row in enumerate(dataset.with_format(None)):  # tensors, if it was saved with a format
        yield f"{source} row {number}", _without_gaps(row)


def _without_gaps(row: dict[str, Any]) -> dict[str, Any]:
    """Drop the nulls that Arrow puts where one dictionary lacks a key that another one has.

    Templates would render them: a tool's parameters, for instance, with those of all other tools.
    """

    def dropped(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: dropped(item) for key, item in value.items() if item is not None}
        if isinstance(value, list) and value and isinstance(value[0], dict | list):
            return [dropped(item) for item in value]
        return value

    return {name: dropped(value) for name, value in row.items()}


def _expand(source: str) -> list[Path]:
    """Return the files that a path, folder or glob names, sorted.

    Raises:
        TokensieveError: nothing there, or no file of a known format.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        files = (p for p in path.rglob("*") if _format(p) in _FORMATS and not _hidden(p, path))
        found = sorted(p for p in files if not is_manifest(p))
        if not found:
            raise TokensieveError("no data files in this folder", where=source, hint=f"files of {', '.join(_FORMATS)}")
        return found
    found = [path] if path.exists() else sorted(Path(p) for p in glob.glob(str(path), recursive=True))
    if not found:
        raise TokensieveError(
            "no such file, folder or glob", where=source, hint=f"paths are relative to the current folder, {Path.cwd()}"
        )
    for file in found:
        if _format(file) not in _FORMATS:
            raise TokensieveError(
                f"unknown format '{file.suffix}'",
                where=str(file),
                hint=f"one of {', '.join(_FORMATS)}, also with {' or '.join(_COMPRESSED)}",
            )
    return found


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _format(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _open_text(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    if path.suffix.lower() == ".zst":
        import pyarrow as pa

        # pyarrow reads every frame and refuses a file that was cut short
        stream: Any = pa.input_stream(str(path), compression="zstd")
        return io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _is_hub_id(source: str) -> bool:
    """A Hub id is `name` or `owner/name`, is no file here and has no data file's ending."""
    path = Path(source).expanduser()
    if path.exists() or glob.has_magic(source) or _format(path) in _FORMATS:
        return False
    return not source.startswith((".", "/", "~")) and source.count("/") == 1


def _is_saved_dataset(source: str) -> bool:
    path = Path(source).expanduser()
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


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


def _load_saved(source: str, split: str | None) -> Any:
    import datasets

    try:
        loaded = datasets.load_from_disk(str(Path(source).expanduser()))
    except Exception as error:
        raise TokensieveError(
            f"not a data set that `datasets` can read: {error}",
            where=source,
            hint="save it again with `save_to_disk`, or give Parquet files",
        ) from error
    if isinstance(loaded, datasets.DatasetDict):
        if split not in loaded:
            raise TokensieveError(
                f"no split '{split}'", where=source, hint=f"data.split: one of {', '.join(map(str, loaded))}"
            )
        return loaded[split]
    return loaded


def _columns(data: dict[str, Any], entry: FileSettings) -> dict[str, Any]:
    """Return a row's columns without those to ignore, under their new names."""
    ignore, names = entry.ignore or (), entry.columns or {}
    data = {name: value for name, value in data.items() if name not in ignore}
    kept = {name: value for name, value in data.items() if name not in names}
    return kept | {names[name]: value for name, value in data.items() if name in names}
