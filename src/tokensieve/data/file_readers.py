"""Rows of files: JSON, JSON lines, CSV, Parquet and Arrow, plain or compressed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from tokensieve import json_text
from tokensieve.errors import TokensieveError
from tokensieve.store.remote import open_file, open_stream, size_of

FORMATS = (".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".csv")
_CODECS = {".gz": "gzip", ".zst": "zstd"}
COMPRESSED = tuple(_CODECS)
_ROWS_AT_ONCE = 1000
_LONGEST_FIELD = 2**31 - 1  # of CSV; Python's own limit of 128 KiB is less than a long document
OnError = Callable[[TokensieveError], None]
"""Takes the `BadRowError` of each row that cannot be used, and any other error of a source; raise in it to stop."""


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


def file_rows(path: Path, on_error: OnError) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, columns) of one file.

    Raises:
        TokensieveError: an empty file, one of unknown format, or one that is not what its name says.
    """
    if size_of(path) == 0:
        raise TokensieveError("the file is empty", where=str(path), hint="write it again, or leave it out")
    suffix = format_of(path)
    try:
        readers = {".parquet": _parquet_rows, ".arrow": _arrow_rows, ".csv": _csv_rows, ".json": _json_rows}
        reader = readers.get(suffix, _jsonl_rows)
        count = 0
        for count, item in enumerate(reader(path, on_error), start=1):  # noqa: B007
            yield item
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
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
                value = json_text.parse(line)
            except json_text.JsonError as error:
                told = BadRowError(_not_json(error), where=where, hint="one JSON object per line", row=line)
                on_error(told)
                continue
            yield from _object(value, where, on_error, json_text.may_hold_half_characters(line))


def _json_rows(path: Path, on_error: OnError) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a JSON array, also under the key `data` of an object, or of an object keyed by row id.

    A file of JSON lines may be named so too.
    """
    with _open_text(path) as handle:
        text = handle.read()
    try:
        value = json_text.parse(text)
    except json_text.JsonError as error:
        if error.what == "Extra data" and (text.lstrip().startswith("{") or format_of(path) != ".json"):
            yield from _line_rows(path, on_error)
            return
        raise TokensieveError(
            _not_json(error),
            where=f"{path}:{error.line}" if error.line else str(path),
            hint="an array of objects; a file with one object a line is named .jsonl",
        ) from error
    doubtful = json_text.may_hold_half_characters(text)
    if isinstance(value, dict) and _is_list_of_objects(rows := value.get("data")):
        value = rows
    if isinstance(value, dict) and value and all(isinstance(row, dict) for row in value.values()):
        for key, row in value.items():
            yield from _object(row, f"{path} key {key!r}", on_error, doubtful)
    elif isinstance(value, dict):
        yield from _object(value, f"{path}:1", on_error, doubtful)
    elif isinstance(value, list):
        for number, row in enumerate(value):
            yield from _object(row, f"{path} row {number}", on_error, doubtful)
    else:
        raise TokensieveError(f"a JSON {type(value).__name__}, not rows", where=str(path), hint="an array of objects")


def _not_json(error: json_text.JsonError) -> str:
    return f"not JSON: {error.what}" + (f" (column {error.column})" if error.column else "")


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _object(value: Any, where: str, on_error: OnError, doubtful: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict) and doubtful and json_text.holds_half_characters(value):
        on_error(
            BadRowError(
                "a text or key has half of a surrogate pair, which is no character",
                where=where,
                hint="replace lone surrogates, as with text.encode(errors='replace').decode()",
                row=value,
            )
        )
    elif isinstance(value, dict):
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
        with open_file(path) as source, pq.ParquetFile(source) as file:
            yield from file.iter_batches(batch_size=_ROWS_AT_ONCE)

    return _batch_rows(path, batches(), "a Parquet file")


def _arrow_rows(path: Path, on_error: OnError) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa

    def batches() -> Iterator[Any]:
        with open_file(path) as source, pa.ipc.open_file(source) as file:
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
            yield f"{path} row {number}", without_gaps(row)
    except pa.ArrowInvalid as error:
        raise TokensieveError(
            f"not {kind}: {error}", where=str(path), hint="write it again, or name it after what it is"
        ) from error


def without_gaps(row: dict[str, Any]) -> dict[str, Any]:
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


def format_of(path: Path) -> str:
    """Return the ending that names the format, without those of compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _open_text(path: Path) -> IO[str]:
    import pyarrow as pa

    stream: Any = open_stream(path)
    if (codec := _CODECS.get(path.suffix.lower())) is not None:
        # pyarrow reads every frame and refuses a file that was cut short
        stream = pa.CompressedInputStream(stream, codec)
    return io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
