"""Rows of files: JSON, JSON lines, CSV, Parquet and Arrow, plain or compressed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from tokensieve import json_text
from tokensieve.errors import TokensieveError
from tokensieve.places import remote_of
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


class Item(NamedTuple):
    """What a file has for one row, before it is known to be one.

    Attributes:
        where: file and line (or row) for messages to the user.
        raw: what stands there: text, or values that were read together with others.
        parse: gives its columns, from where it stands and what stands there.
    """

    where: str
    raw: Any
    parse: Callable[[str, Any], dict[str, Any]]

    def row(self) -> dict[str, Any]:
        """Return the columns.

        Raises:
            BadRowError: it is no row.
        """
        return self.parse(self.where, self.raw)


@dataclass(frozen=True)
class Start:
    """Where an item of a file begins.

    Attributes:
        item: its number in the file, from 0.
        direct: whether it can be read without the items before it.
        byte: where it begins, in a file of lines that can be read from its middle.
        line: lines before it there.
    """

    item: int = 0
    direct: bool = True
    byte: int = 0
    line: int = 0


BEGINNING = Start()


def file_rows(path: Path, on_error: OnError) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, columns) of one file.

    Raises:
        TokensieveError: an empty file, one of unknown format, or one that is not what its name says.
    """
    count = 0
    for item in file_items(path):
        try:
            row = item.row()
        except BadRowError as error:
            on_error(error)
            continue
        count += 1
        yield item.where, row
    if count == 0:
        on_error(no_rows(path))


def no_rows(path: Path | str) -> TokensieveError:
    """Return the error of a file that has none."""
    return TokensieveError("the file has no rows", where=str(path), hint="write it again, or leave it out")


def file_items(path: Path, start: Start = BEGINNING) -> Iterator[Item]:
    """Yield the items of one file, from one of them on.

    Raises:
        TokensieveError: an empty file, one of unknown format, or one that is not what its name says.
    """
    suffix = format_of(path)
    with _reading(path):
        if suffix in _TABLES:
            yield from _TABLES[suffix](path, start.item)
        elif start.byte:
            yield from _line_items(path, start)
        else:
            reader = {".csv": _csv_items, ".json": _json_items}.get(suffix, _jsonl_items)
            yield from islice(reader(path), start.item, None)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Refuse an empty file, and say of which file an error is."""
    if size_of(path) == 0:
        raise TokensieveError("the file is empty", where=str(path), hint="write it again, or leave it out")
    try:
        yield
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise TokensieveError(
            f"cannot read the file: {error}", where=str(path), hint="text must be UTF-8; an archive may be cut short"
        ) from error


def _jsonl_items(path: Path) -> Iterator[Item]:
    """Items of JSON lines, or of one JSON array in a file of that name."""
    yield from (_json_items if _begins_array(path) else _line_items)(path)


def _begins_array(path: Path) -> bool:
    with _open_text(path) as handle:
        begins = next((line for line in handle if line.strip()), "")
    return begins.lstrip().startswith("[")


def _line_items(path: Path, start: Start = BEGINNING) -> Iterator[Item]:
    with _open_text(path, start.byte) as handle:
        for line_number, line in enumerate(handle, start=start.line + 1):
            if line.strip():
                yield Item(f"{path}:{line_number}", line, _parsed)


def _parsed(where: str, line: str) -> dict[str, Any]:
    try:
        value = json_text.parse(line)
    except json_text.JsonError as error:
        raise BadRowError(_not_json(error), where=where, hint="one JSON object per line", row=line) from None
    return _parser(line)(where, value)


def _json_items(path: Path) -> Iterator[Item]:
    """Items of a JSON array, also under the key `data` of an object, or of an object keyed by row id.

    A file of JSON lines may be named so too.
    """
    with _open_text(path) as handle:
        text = handle.read()
    try:
        value = json_text.parse(text)
    except json_text.JsonError as error:
        if error.what == "Extra data" and (text.lstrip().startswith("{") or format_of(path) != ".json"):
            yield from _line_items(path)
            return
        raise TokensieveError(
            _not_json(error),
            where=f"{path}:{error.line}" if error.line else str(path),
            hint="an array of objects; a file with one object a line is named .jsonl",
        ) from error
    parse = _parser(text)
    if isinstance(value, dict) and _is_list_of_objects(rows := value.get("data")):
        value = rows
    if isinstance(value, dict) and value and all(isinstance(row, dict) for row in value.values()):
        for key, row in value.items():
            yield Item(f"{path} key {key!r}", row, parse)
    elif isinstance(value, dict):
        yield Item(f"{path}:1", value, parse)
    elif isinstance(value, list):
        for number, row in enumerate(value):
            yield Item(f"{path} row {number}", row, parse)
    else:
        raise TokensieveError(f"a JSON {type(value).__name__}, not rows", where=str(path), hint="an array of objects")


def _not_json(error: json_text.JsonError) -> str:
    return f"not JSON: {error.what}" + (f" (column {error.column})" if error.column else "")


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _object(where: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise BadRowError(
        f"a JSON {type(value).__name__}, not an object",
        where=where,
        hint='one object a row, such as {"messages": [...]}',
        row=value,
    )


def _doubtful_object(where: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict) and json_text.holds_half_characters(value):
        raise BadRowError(
            "a text or key has half of a surrogate pair, which is no character",
            where=where,
            hint="replace lone surrogates, as with text.encode(errors='replace').decode()",
            row=value,
        )
    return _object(where, value)


def _parser(text: str) -> Callable[[str, Any], dict[str, Any]]:
    """Return what checks the values of a JSON text."""
    return _doubtful_object if json_text.may_hold_half_characters(text) else _object


def _csv_items(path: Path) -> Iterator[Item]:
    csv.field_size_limit(_LONGEST_FIELD)
    with _open_text(path) as handle:
        reader = csv.DictReader(handle)
        for row in reader:
            yield Item(f"{path}:{reader.line_num}", row, _fields)


def _fields(where: str, row: dict[Any, Any]) -> dict[str, Any]:
    if None in row or None in row.values():
        raise BadRowError(
            "more or fewer fields than the header names",
            where=where,
            hint="quote fields that hold commas or line breaks",
            row=row,
        )
    return row


def _parquet_items(path: Path, start: int) -> Iterator[Item]:
    import pyarrow.parquet as pq

    def batches() -> Iterator[Any]:
        with open_file(path) as source, pq.ParquetFile(source) as file:
            yield from file.iter_batches(batch_size=_ROWS_AT_ONCE, row_groups=groups)

    with _arrow_errors(path):
        groups, before = _groups_from(path, start)
    return _table_items(path, batches(), before, start)


def _groups_from(path: Path, start: int) -> tuple[list[int], int]:
    """Return the row groups of a Parquet file from that of a row on, and how many rows are before them."""
    import pyarrow.parquet as pq

    with open_file(path) as source:
        metadata, before = pq.read_metadata(source), 0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if before + rows > start:
            return list(range(group, metadata.num_row_groups)), before
        before += rows
    return [], before


def _arrow_items(path: Path, start: int) -> Iterator[Item]:
    import pyarrow as pa

    def batches() -> Iterator[Any]:
        first = 0
        with _arrow_file(path) as source, pa.ipc.open_file(source) as file:
            for number in range(file.num_record_batches):
                batch = file.get_batch(number)
                for at in range(min(max(start - first, 0), batch.num_rows), batch.num_rows, _ROWS_AT_ONCE):
                    yield batch.slice(at, _ROWS_AT_ONCE)
                first += batch.num_rows

    return _table_items(path, batches(), start, start)


def _arrow_file(path: Path) -> Any:
    """Open a file whose batches are passed over: those of this machine are then not read."""
    import pyarrow as pa

    return pa.memory_map(str(path)) if remote_of(path) is None else open_file(path)


def _table_items(path: Path, batches: Iterator[Any], first: int, start: int) -> Iterator[Item]:
    """Yield the rows of batches from one on; the batches begin with another that is not after it."""
    with _arrow_errors(path):
        for batch in batches:
            skipped = min(max(start - first, 0), batch.num_rows)
            for number, row in enumerate(batch.slice(skipped).to_pylist(), first + skipped):
                yield Item(f"{path} row {number}", row, _without_gaps)
            first += batch.num_rows


_TABLES: dict[str, Callable[[Path, int], Iterator[Item]]] = {".parquet": _parquet_items, ".arrow": _arrow_items}


def table_rows(path: Path) -> int | None:
    """Return how many rows a file has that tells it; None where it has to be read.

    Raises:
        TokensieveError: a file that is not what its name says.
    """
    suffix = format_of(path)
    if suffix not in _TABLES:
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _reading(path), _arrow_errors(path):
        if suffix == ".parquet":
            with open_file(path) as source:
                return pq.read_metadata(source).num_rows
        with _arrow_file(path) as source, pa.ipc.open_file(source) as file:
            return sum(file.get_batch(number).num_rows for number in range(file.num_record_batches))


def line_starts(path: Path, every: Iterator[int]) -> Iterator[tuple[Start, int]] | None:
    """Cut a file of lines, so that each part can be read without those before it.

    Args:
        path: the file.
        every: items of the first part, of the second and so on.

    Returns:
        Where each part begins, and how many items it has; None where the file is compressed, is not one of lines that
        end with a line feed, or is in a store of objects: one pass over an object costs less than two and a cut.
    """
    if remote_of(path) is not None or path.suffix.lower() in COMPRESSED or format_of(path) not in (".jsonl", ".ndjson"):
        return None
    with _reading(path):
        return None if _begins_array(path) or _has_lone_returns(path) else _line_starts(path, every)


def _has_lone_returns(path: Path) -> bool:
    """Whether carriage returns alone end lines, as they do for Python's text."""
    last = b""
    with path.open("rb") as handle:
        while block := handle.read(2**20):
            block = last + block
            last = b"\r" if block.endswith(b"\r") else b""
            if block.count(b"\r") - len(last) != block.count(b"\r\n"):
                return True
    return bool(last)


def _line_starts(path: Path, every: Iterator[int]) -> Iterator[tuple[Start, int]]:
    size, start, items, byte = next(every), BEGINNING, 0, 0
    with path.open("rb") as handle:
        for number, line in enumerate(handle):
            if line[:1] == b"{" or line.decode("utf-8" if number else "utf-8-sig", "replace").strip():
                if items == size:
                    yield start, items
                    size, start, items = next(every), Start(start.item + items, True, byte, number), 0
                items += 1
            byte += len(line)
    yield start, items


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


def _without_gaps(_: str, row: dict[str, Any]) -> dict[str, Any]:
    return without_gaps(row)


@contextmanager
def _arrow_errors(path: Path) -> Iterator[None]:
    import pyarrow as pa

    kind = {".parquet": "a Parquet file", ".arrow": "an Arrow file"}[format_of(path)]
    try:
        yield
    except pa.ArrowInvalid as error:
        raise TokensieveError(
            f"not {kind}: {error}", where=str(path), hint="write it again, or name it after what it is"
        ) from error


def format_of(path: Path) -> str:
    """Return the ending that names the format, without those of compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _open_text(path: Path, byte: int = 0) -> IO[str]:
    import pyarrow as pa

    if byte:
        file = open_file(path)
        file.seek(byte)
        return io.TextIOWrapper(file, encoding="utf-8", newline="")  # the mark of the encoding is at the beginning

    stream: Any = open_stream(path)
    if (codec := _CODECS.get(path.suffix.lower())) is not None:
        # pyarrow reads every frame and refuses a file that was cut short
        stream = pa.CompressedInputStream(stream, codec)
    return io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
