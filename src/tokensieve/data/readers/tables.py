"""Rows of Parquet and Arrow files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokensieve.data.readers.items import Item, format_of
from tokensieve.errors import TokensieveError
from tokensieve.places import remote_of
from tokensieve.store.remote import open_file

_ROWS_AT_ONCE = 1000
_MOST_ROWS = 2**32
"""Of a file: what says that it has more is damaged, and cutting it into chunks would take all memory."""


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
                wanted = range(max(start - first, 0), batch.num_rows, _ROWS_AT_ONCE)
                if wanted:
                    batch.validate(full=True)  # offsets and lengths that lead out of the file would end the process
                for at in wanted:
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


TABLES: dict[str, Callable[[Path, int], Iterator[Item]]] = {".parquet": _parquet_items, ".arrow": _arrow_items}
"""What yields the items of a file, from one of them on, for each ending."""


def rows_of_table(path: Path) -> int:
    """Return how many rows a file says that it has.

    Raises:
        TokensieveError: a file that is not what its name says, or that contradicts itself.
    """
    with _arrow_errors(path):
        rows = _parquet_rows(path) if format_of(path) == ".parquet" else _arrow_rows(path)
    if rows > _MOST_ROWS:
        raise TokensieveError(
            f"the file says that it has {rows:,} rows, and at most {_MOST_ROWS:,} are read of a file",
            where=str(path),
            hint="write it again, or split it",
        )
    return rows


def _parquet_rows(path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_file(path) as source:
        metadata = pq.read_metadata(source)
    # Not the values of its columns too: for some damaged files pyarrow ends the process when asked for them.
    found = sum(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
    if metadata.num_rows != found:
        raise pa.ArrowInvalid(f"the footer says {metadata.num_rows:,} rows, and its row groups have {found:,}")
    return metadata.num_rows


def _arrow_rows(path: Path) -> int:
    import pyarrow as pa

    with _arrow_file(path) as source, pa.ipc.open_file(source) as file:
        rows = 0
        for number in range(file.num_record_batches):
            batch = file.get_batch(number)
            batch.validate()  # that its buffers are as long as it says; reads none of them
            rows += batch.num_rows
        return rows


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
    except (TokensieveError, UnicodeDecodeError):
        raise
    # The last three are of values that Python cannot hold, such as a date in the year 292277 or an unknown time zone.
    except (pa.ArrowException, ValueError, OverflowError, LookupError) as error:
        raise TokensieveError(
            f"not {kind}: {error}", where=str(path), hint="write it again, or name it after what it is"
        ) from error
